"""What a training function saves, in one file without pickle: tensors next to a tree of plain values."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

PLAIN = (str, int, float, bool, type(None))
KINDS = (
    "dictionaries with text or whole numbers as keys, lists, tuples, tensors, arrays, texts, numbers, True, False, None"
)
"""What a state may consist of."""


def write_state(path: Path, story: Mapping[str, Any], state: Any) -> None:
    """Writes a state and what belongs to it; a kill leaves the file that was there.

    Args:
        story: JSON values.
        state: see `KINDS`.

    Raises:
        TypeError: the state holds something else.
        OSError, SafetensorError: it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(
        {"story": story, "state": _packed(state, "state", tensors), "random": _packed(_random(), "", tensors)}
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
    """Returns a state with its tensors on the device, and sets the global generators as they were.

    Raises:
        Exception: the file is damaged, or not one of these.
    """
    with safe_open(path, framework="pt", device="cpu") as file:
        tree = json.loads(file.metadata()["tree"])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
    _set_random(_unpacked(tree["random"], tensors, torch.device("cpu")))
    return _unpacked(tree["state"], tensors, device)


def _packed(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """Returns a value as JSON; containers become [kind, content], tensors [kind, name]."""
    if isinstance(value, PLAIN) and type(value) in PLAIN:
        return value
    if isinstance(value, Tensor | np.ndarray | np.generic):
        name = str(len(tensors))
        own = value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
        tensors[name] = own.cpu().clone(memory_format=torch.contiguous_format)
        return ["tensor" if isinstance(value, Tensor) else "array", name]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_packed(item, f"{where}[{i}]", tensors) for i, item in enumerate(value)]]
    if isinstance(value, Mapping) and all(type(key) in (str, int) for key in value):
        return ["dict", [[key, _packed(item, f"{where}[{key!r}]", tensors)] for key, item in value.items()]]
    raise TypeError(f"trial.save: {where} is of type {type(value).__name__}; a state may hold {KINDS}")


def _unpacked(value: Any, tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind == "tensor":
        return tensors[content].to(device)
    if kind == "array":
        return tensors[content].numpy()
    if kind == "dict":
        return {key: _unpacked(item, tensors, device) for key, item in content}
    items = [_unpacked(item, tensors, device) for item in content]
    return items if kind == "list" else tuple(items)


def _random() -> dict[str, Any]:
    """Returns the states of the global generators."""
    found = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    return found | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else {})


def _set_random(states: Mapping[str, Any]) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
