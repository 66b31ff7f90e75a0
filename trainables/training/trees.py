"""Nested states as JSON with tensors next to it, and the states of the global generators: no pickle."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

PLAIN = (str, int, float, bool, type(None))
KINDS = (
    "dictionaries with text or whole numbers as keys, lists, tuples, tensors, arrays, texts, numbers, True, False, None"
)
"""What a state may consist of."""


def packed(value: Any, where: str, tensors: dict[str, Tensor], device: torch.device) -> Any:
    """Returns a value as JSON; containers become [kind, content], tensors [kind, name].

    Args:
        value: see `KINDS`.
        where: its name, for the error.
        tensors: receives its tensors by name.
        device: that trains; other tensors stay on the host, as the states of generators and the counts of steps.

    Raises:
        TypeError: it holds something else.
    """
    if isinstance(value, PLAIN) and type(value) in PLAIN:
        return value
    if isinstance(value, Tensor | np.ndarray | np.generic):
        name = str(len(tensors))
        own = value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
        tensors[name] = own.cpu().clone(memory_format=torch.contiguous_format)
        kind = "array" if not isinstance(value, Tensor) else "tensor" if value.device.type == device.type else "host"
        return [kind, name]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [packed(item, f"{where}[{i}]", tensors, device) for i, item in enumerate(value)]]
    if isinstance(value, Mapping) and all(type(key) in (str, int) for key in value):
        return ["dict", [[key, packed(item, f"{where}[{key!r}]", tensors, device)] for key, item in value.items()]]
    raise TypeError(f"{where} is of type {type(value).__name__}; a state may hold {KINDS}")


def unpacked(value: Any, tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    """The inverse of `packed`, with the tensors that were on the device on this one."""
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind == "tensor":
        return tensors[content].to(device)
    if kind == "host":
        return tensors[content]
    if kind == "array":
        return tensors[content].numpy()
    if kind == "dict":
        return {key: unpacked(item, tensors, device) for key, item in content}
    items = [unpacked(item, tensors, device) for item in content]
    return items if kind == "list" else tuple(items)


def random_states() -> dict[str, Any]:
    """Returns the states of the global generators."""
    found = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    return found | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else {})


def set_random_states(states: Mapping[str, Any]) -> None:
    """Sets the global generators as they were."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
