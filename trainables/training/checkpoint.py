"""All that a resumed pack needs, in one file that is either whole or absent. No pickle is written or read.

A file may be cut, mixed up or written by another program, and a pack that goes on from a wrong state ends with wrong
numbers or is taken for diverged, which is final. So what can be derived from the pack itself is compared, everything
else is checked against what training can produce, and a digest covers the rest.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from trainables.outcomes import SERIES, EpochRecord
from trainables.training import tensor_file
from trainables.training.loop import Training
from trainables.training.rows import Row, split_rows

OWN = "own/"
"""Beginning of the names of tensors of a torch optimizer class, whatever they are."""

STATE = ("weights", "step", "constrained", "radii")
SUMS = ("loss_sum", "margin_sum")
"""Of an `Epoch` of which some steps are done."""

_DAMAGE = (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading a damaged file raises."""


class UnusableCheckpoint(ValueError):
    """A file that is there and cannot be read, or holds another state than its training's; the text is the reason."""


def save_checkpoint(path: Path, training: Training, seconds: float) -> None:
    """Writes the state of a training between two steps.

    Args:
        path: the file; replaced in one step, so a kill leaves the old one.
        training: what to save; sound.
        seconds: wall time spent so far, s, carried over by a resume.

    Raises:
        tensor_file.UNWRITABLE: it cannot be written; the old file stays, and nothing else.
    """
    own: dict[str, Tensor] = {}
    story = json.dumps(
        {
            "pack": training.config.to_dict(),
            "epoch": training.epoch,
            "rows": [asdict(row) for row in training.rows],
            "diverged": sorted(training.diverged.items()),
            "records": [asdict(record) for record in training.records],
            "seconds": seconds,
            **({"step": training.running.done} if training.running else {}),
            **({"switches": _switches(training)} if training.margins.rules else {}),
            **({"own": training.pack.own.saved(own)} if training.pack.own else {}),
        }
    )
    tensors = {name: tensor.cpu().contiguous() for name, tensor in _tensors(training).items()}
    tensors |= {f"{OWN}{name}": tensor for name, tensor in own.items()}
    tensor_file.write(path, tensors, {"story": story, "digest": _digest(story, tensors)})


def load_checkpoint(path: Path, training: Training) -> float | None:
    """Puts a fresh training into the saved state.

    Args:
        path: the file; a missing one is ignored.
        training: built from the same pack configuration; untouched unless the whole file is good.

    Returns:
        Seconds of wall time spent before, or None where there is no file.

    Raises:
        UnusableCheckpoint: there is one, but it cannot be used.
    """
    if not os.path.lexists(path):
        return None
    try:
        story, tensors = _read(path, training)
        _load_own(story, tensors, training)
    except _DAMAGE as error:
        text = (str(error).strip().splitlines() or [""])[0]
        raise UnusableCheckpoint(text if isinstance(error, _Unfit) else f"{type(error).__name__}: {text}") from None
    pack, state = training.pack, training.pack.state
    tensors = {name: x.to(training.device) for name, x in tensors.items() if not name.startswith(OWN)}
    for name in STATE:
        setattr(state, name, tensors[f"state/{name}"])
    state.slots, state.buffers, pack.hyper = (_group(tensors, kind) for kind in ("slots", "buffers", "hyper"))
    pack.grad_norm = torch.zeros(pack.size, device=training.device)
    pack.note_phases()
    training.epoch, training.rows, training.diverged = story.epoch, story.rows, story.diverged
    training.records, training.switch_steps, training.margins.history = story.records, story.steps, story.margins
    if story.step:
        loss_sum, margin_sum = (tensors[f"epoch/{name}"] for name in SUMS)
        training.running = replace(training.start_epoch(), loss_sum=loss_sum, margin_sum=margin_sum, done=story.step)
    return story.seconds


def _load_own(story: _Story, tensors: Mapping[str, Tensor], training: Training) -> None:
    """Puts a torch optimizer class into its saved state."""
    if training.pack.own:
        found = {name.removeprefix(OWN): tensor for name, tensor in tensors.items() if name.startswith(OWN)}
        try:
            training.pack.own.load(story.own, found, training.device)
        except Exception as error:  # of the class
            raise _Unfit(f"its optimizer does not load it: {type(error).__name__}: {error}") from None


def _switches(training: Training) -> dict[str, Any]:
    """Returns of the trials that switch by themselves the steps at which they did, or else their last margins."""
    steps = [(member, training.switch_steps[member]) for member in training.margins.rules]
    return {
        "steps": [(member, step) for member, step in steps if step is not None],
        "margins": list(training.margins.history.items()),
    }


def _tensors(training: Training) -> dict[str, Tensor]:
    """Returns everything of a training that is a tensor, by its name in the file; each has the rows in front."""
    state = training.pack.state
    tensors = {f"state/{name}": getattr(state, name) for name in STATE}
    for kind, group in (("slots", state.slots), ("buffers", state.buffers), ("hyper", training.pack.hyper)):
        tensors |= {f"{kind}/{name}": tensor for name, tensor in group.items()}
    return tensors | ({f"epoch/{name}": getattr(training.running, name) for name in SUMS} if training.running else {})


def _group(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    return {name.partition("/")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{kind}/")}


def _digest(story: str, tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256(story.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


# --- reading what may be anything -------------------------------------------------------------------------------------


class _Unfit(ValueError):
    """A state that this training cannot be in; the text is for people."""


@dataclass(frozen=True)
class _Story:
    """What a file holds besides its tensors, checked; see `Training` for the fields.

    `steps` are its `switch_steps`, `margins` the history of its `MarginWatch`, `step` the steps done of the epoch after
    `epoch`, `done` all of them, and `own` what `OwnSteps.saved` returned.
    """

    epoch: int
    step: int
    done: int
    steps: list[int | None]
    margins: dict[int, list[float]]
    rows: tuple[Row, ...]
    diverged: dict[int, int]
    records: list[EpochRecord]
    seconds: float
    own: Any


def _demand(condition: bool, reason: str) -> None:
    if not condition:
        raise _Unfit(reason)


def _read(path: Path, training: Training) -> tuple[_Story, dict[str, Tensor]]:
    """Reads a file.

    Raises:
        _DAMAGE: it cannot be read, or this training cannot be in the state that it holds.
    """
    found, tensors = tensor_file.read(path)
    _demand("story" in found, "it is not a checkpoint of a pack")
    story = _read_story(json.loads(found["story"]), training)
    _check_tensors(tensors, training, story)
    if "digest" in found:  # files of older versions have none
        _demand(found["digest"] == _digest(found["story"], tensors), "its content is damaged")
    return story, tensors


def _read_story(story: Any, training: Training) -> _Story:
    task, members = training.config.task, len(training.config.members)
    _demand(story["pack"] == json.loads(json.dumps(training.config.to_dict())), "it is another pack's")
    epoch, step, seconds = story["epoch"], story.get("step", 0), story["seconds"]
    _demand(type(epoch) is int and 0 <= epoch < task.epochs, f"epoch {epoch} of {task.epochs}")
    _demand(type(step) is int and 0 <= step < training.steps_per_epoch, f"step {step} of {training.steps_per_epoch}")
    _demand(isinstance(story["diverged"], list), "who diverged is no list")
    diverged, done = dict(story["diverged"]), epoch * training.steps_per_epoch + step
    _demand(done > 0, "no step is done")
    _demand(_is_number(seconds) and seconds >= 0, f"{seconds} seconds of training")
    for member, end in diverged.items():
        known = type(member) is int and 0 <= member < members and type(end) is int and 0 < end <= epoch
        _demand(known, f"trial {member} diverged in epoch {end}")
    steps, margins = _read_switches(story.get("switches", {"steps": [], "margins": []}), training, done, diverged)
    rows = _rows_after(training, steps, done, diverged)
    left = [member for row in rows for member in row.members]
    _demand(bool(rows), "no trial is left to train")
    _demand(sorted([*left, *diverged]) == list(range(members)), "trials that share a row diverged in different epochs")
    _demand(story["rows"] == json.loads(json.dumps([asdict(row) for row in rows])), "its rows are not this pack's")
    records = [EpochRecord(**record) for record in story["records"]]
    _demand([record.epoch for record in records] == list(range(1, epoch + 1)), f"{len(records)} records of {epoch}")
    for record in records:
        _check_record(record, records[0], members, diverged)
    return _Story(epoch, step, done, steps, margins, rows, diverged, records, float(seconds), story.get("own"))


def _read_switches(
    stored: Any, training: Training, done: int, diverged: Mapping[int, int]
) -> tuple[list[int | None], dict[int, list[float]]]:
    """Returns every trial's step of its switch, and the margins of the trials that are to switch by themselves."""
    watch = training.margins
    found, margins = dict(stored["steps"]), dict(stored["margins"])
    for member, step in found.items():
        fits = member in watch.rules and type(step) is int and 0 < step <= done and watch.window(step) > 0
        _demand(fits, f"trial {member} switched at step {step}")
    for member, history in margins.items():
        fits = type(history) is list and len(history) <= watch.longest and all(map(_is_number, history))
        _demand(member in watch.rules and fits, f"the margins of trial {member} are not those of {done} steps")
    _demand(watch.rules.keys() <= {*found, *margins, *diverged}, "it lacks the switch of a trial")
    return [found.get(member, step) for member, step in enumerate(training.switch_steps)], margins


def _rows_after(
    training: Training, switches: Sequence[int | None], done: int, diverged: Mapping[int, int]
) -> tuple[Row, ...]:
    """Returns the rows of a fresh training after the given steps, if these trials diverge in these epochs."""
    rows, length = training.rows, training.steps_per_epoch
    for epoch in range(math.ceil(done / length)):
        steps = range(epoch * length, min((epoch + 1) * length, done))
        for step in sorted({step for step in switches if step is not None and step in steps}):
            rows = split_rows(rows, [member for member, at in enumerate(switches) if at == step]).rows
        lost = {member for member, end in diverged.items() if end == epoch + 1}
        rows = tuple(row for row in rows if not lost.intersection(row.members))
    return rows


def _check_record(record: EpochRecord, first: EpochRecord, members: int, diverged: Mapping[int, int]) -> None:
    where = f"the record of epoch {record.epoch}"
    _demand(record.series.keys() == first.series.keys() >= set(SERIES), f"{where} lacks a series")
    for name, values in record.series.items():
        fits = type(values) is list and len(values) == members and all(x is None or _is_number(x) for x in values)
        _demand(fits, f"{where} has no {members} values of {name}")
    gone = [member in diverged and diverged[member] <= record.epoch for member in range(members)]
    _demand([loss is None for loss in record.series["train_loss"]] == gone, f"{where} does not fit who diverged")


def _is_number(x: object) -> bool:
    return type(x) in (int, float) and math.isfinite(x)  # type: ignore[arg-type]


def _check_tensors(tensors: Mapping[str, Tensor], training: Training, story: _Story) -> None:
    fresh = _tensors(training) | {f"epoch/{name}": torch.zeros(1).double() for name in SUMS if story.step}
    _demand(bool(story.own) == bool(training.pack.own), "it is of another optimizer class")
    tensors = {name: tensor for name, tensor in tensors.items() if not (story.own and name.startswith(OWN))}
    for names, word in ((fresh.keys() - tensors.keys(), "lacks"), (tensors.keys() - fresh.keys(), "has an unknown")):
        _demand(not names, f"it {word} tensor '{min(names, default='')}'")
    for name, tensor in tensors.items():
        wanted = _kind(fresh[name].dtype, (len(story.rows), *fresh[name].shape[1:]))
        given = _kind(tensor.dtype, tensor.shape)
        _demand(given == wanted, f"tensor '{name}' must be {wanted}, and is {given}")
    for name, expected in _derived(training, story).items():
        _demand(tensors[name].tolist() == expected, f"tensor '{name}' does not fit step {story.done} of this pack")
    for name in ("state/weights", *(name for name in tensors if name.startswith(("buffers/", "epoch/")))):
        _demand(bool(tensors[name].isfinite().all()), f"tensor '{name}' is not finite")  # such rows had diverged
    for name, slot in _group(tensors, "slots").items():
        _demand(not slot.isnan().any(), f"slot '{name}' holds a NaN")  # one makes weights NaN as well
    held = torch.tensor([layer.constrained for layer in training.pack.layers]) & tensors["state/constrained"]
    radii = tensors["state/radii"]
    _demand(bool(radii.isfinite().all() and (radii >= 0).all()), "its radii are not norms")
    _demand(not radii[~held].any(), "it has radii where nothing is held")


def _kind(dtype: torch.dtype, shape: Sequence[int]) -> str:
    return f"{dtype} {list(shape)}".removeprefix("torch.")


def _derived(training: Training, story: _Story) -> dict[str, list[list[Any]]]:
    """Returns the tensors [R, 1] that follow from the pack, as lists, by name."""
    done, leaders = story.done, [row.members[0] for row in story.rows]
    starts = [story.steps[row.members[0]] if row.constrained else 0 for row in story.rows]
    resets = starts if training.pack.control.resets else [0] * len(starts)
    hyper = {f"hyper/{name}": [[training.full[leader][name]] for leader in leaders] for name in training.pack.hyper}
    return hyper | {
        "state/step": [[done - (reset or 0)] for reset in resets],
        "state/constrained": [[row.constrained] for row in story.rows],
    }
