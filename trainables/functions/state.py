"""What a training function saves, in one file without pickle: tensors next to a tree of plain values."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from trainables.training.trees import packed, random_states, set_random_states, unpacked

HOST = torch.device("cpu")


def write_state(path: Path, story: Mapping[str, Any], state: Any, device: torch.device) -> None:
    """Writes a state and what belongs to it; a kill leaves the file that was there.

    Args:
        story: JSON values.
        state: see `trees.KINDS`.
        device: that trains.

    Raises:
        TypeError: the state holds something else.
        OSError, SafetensorError: it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(
        {
            "story": story,
            "state": packed(state, "trial.save: state", tensors, device),
            "random": packed(random_states(), "", tensors, HOST),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.draft")
    try:
        save_file(tensors, draft, {"tree": tree})
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def read_story(path: Path) -> dict[str, Any]:
    """Returns what `write_state` wrote besides the state.

    Raises:
        Exception: the file is damaged, or not one of these.
    """
    with safe_open(path, framework="pt", device="cpu") as file:
        story: dict[str, Any] = json.loads(file.metadata()["tree"])["story"]
    return story


def read_state(path: Path, device: torch.device) -> Any:
    """Returns a state, see `unpacked`, and sets the global generators as they were.

    Raises:
        Exception: the file is damaged, or not one of these.
    """
    with safe_open(path, framework="pt", device="cpu") as file:
        tree = json.loads(file.metadata()["tree"])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
    set_random_states(unpacked(tree["random"], tensors, HOST))
    return unpacked(tree["state"], tensors, device)
