"""All that a resumed pack needs, in one file that is either whole or absent. No pickle is written or read."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trainables.config import EpochRecord
from trainables.loop import Training
from trainables.rows import Row

UNWRITABLE = (OSError, SafetensorError)
"""What `save_checkpoint` raises where there is no room, no right or no folder."""

STATE = ("weights", "step", "constrained", "radii")


def save_checkpoint(path: Path, training: Training, seconds: float) -> None:
    """Writes the state of a training between two epochs.

    Args:
        path: the file; replaced in one step, so a kill leaves the old one.
        training: what to save.
        seconds: wall time spent so far, s, carried over by a resume.

    Raises:
        UNWRITABLE: it cannot be written; the old file stays, and nothing else.
    """
    state = training.pack.state
    story = {
        "pack": training.config.to_dict(),
        "epoch": training.epoch,
        "rows": [asdict(row) for row in training.rows],
        "diverged": sorted(training.diverged.items()),
        "records": [asdict(record) for record in training.records],
        "seconds": seconds,
    }
    tensors = {f"state/{name}": getattr(state, name) for name in STATE}
    for kind, group in (("slots", state.slots), ("buffers", state.buffers), ("hyper", training.pack.hyper)):
        tensors |= {f"{kind}/{name}": tensor for name, tensor in group.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.draft")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft, {"story": json.dumps(story)})
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def load_checkpoint(path: Path, training: Training) -> float | None:
    """Puts a fresh training into the saved state.

    Args:
        path: the file; a missing one, one of another pack or one that cannot be read is ignored.
        training: built from the same pack configuration; untouched unless the whole file is good.

    Returns:
        Seconds of wall time spent before, or None if the training starts from the beginning.
    """
    found = _read(path, training)
    if found is None:
        return None
    story, tensors = found
    pack, state = training.pack, training.pack.state
    for name in STATE:
        setattr(state, name, tensors[f"state/{name}"])
    state.slots, state.buffers, pack.hyper = (_group(tensors, kind) for kind in ("slots", "buffers", "hyper"))
    pack.grad_norm = torch.zeros(pack.size, device=training.device)
    pack.note_phases()
    training.epoch = story["epoch"]
    training.rows = tuple(Row(tuple(row["members"]), row["constrained"]) for row in story["rows"])
    training.diverged = dict(story["diverged"])
    training.records = [EpochRecord(**record) for record in story["records"]]
    return float(story["seconds"])


def _group(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    return {name.partition("/")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{kind}/")}


def _read(path: Path, training: Training) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    try:
        with safe_open(path, framework="pt", device=str(training.device)) as file:
            story = json.loads(file.metadata()["story"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
    same = story["pack"] == json.loads(json.dumps(training.config.to_dict()))
    return (story, tensors) if same else None
