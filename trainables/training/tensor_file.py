"""Tensors with a text in one file, which is whole or absent. No pickle is written or read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

UNWRITABLE = (OSError, SafetensorError)
"""What `write` raises where there is no room, no right or no folder."""


def write(path: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Writes a file in one step, so that a kill leaves the old one.

    Args:
        path: the file; its folder is made.
        tensors: on the CPU, contiguous.
        texts: by name.

    Raises:
        UNWRITABLE: it cannot be written; the old file stays, and nothing else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.draft")
    try:
        save_file(dict(tensors), draft, dict(texts))
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Returns the texts and the tensors of a file, on the CPU.

    The tensors are copies: what safetensors returns is the file itself, mapped, which ends the process if somebody cuts
    the file.

    Raises:
        OSError, SafetensorError: it cannot be read, or is another kind of file.
    """
    with safe_open(path, framework="pt", device="cpu") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
        return file.metadata() or {}, tensors


def read_texts(path: Path) -> dict[str, str]:
    """Returns the texts of a file alone.

    Raises:
        OSError, SafetensorError: it cannot be read, or is another kind of file.
    """
    with safe_open(path, framework="pt", device="cpu") as file:
        return file.metadata() or {}
