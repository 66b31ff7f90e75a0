"""What a training function saves, in one file without pickle: tensors next to a tree of plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainables.training import tensor_file
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
        tensor_file.UNWRITABLE: it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(
        {
            "story": story,
            "state": packed(state, "trial.save: state", tensors, device),
            "random": packed(random_states(), "", tensors, HOST),
        }
    )
    tensor_file.write(path, tensors, {"tree": tree})


def read_story(path: Path) -> dict[str, Any]:
    """Returns what `write_state` wrote besides the state.

    Raises:
        Exception: the file is damaged, or not one of these.
    """
    story: dict[str, Any] = json.loads(tensor_file.read_texts(path)["tree"])["story"]
    return story


def read_state(path: Path, device: torch.device) -> Any:
    """Returns a state, see `unpacked`, and sets the global generators as they were.

    Raises:
        Exception: the file is damaged, or not one of these.
    """
    texts, tensors = tensor_file.read(path)
    tree = json.loads(texts["tree"])
    set_random_states(unpacked(tree["random"], tensors, HOST))
    return unpacked(tree["state"], tensors, device)
