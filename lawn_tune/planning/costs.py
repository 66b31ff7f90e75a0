"""What a plan costs before it runs: example passes, and hours where they have been measured. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, fsum
from typing import TYPE_CHECKING

from lawn_tune.cells import Cell, Phase
from lawn_tune.planning.packing import make_packs
from trainables.catalogue.datasets import MACHINE
from trainables.tasks import Trial

if TYPE_CHECKING:  # results.py brings numpy, which planning does without
    from lawn_tune.results import TrialRow


@dataclass(frozen=True)
class Cost:
    """The price of one cell, search and confirm.

    Args:
        trials: trials planned: (search, confirm).
        packs: packs planned: (search, confirm).
        passes: examples trained on, counted once for trials that share a free phase.
        saved: examples that sharing the free phase saves.
        seconds: time on one worker; None where no speed is known.
        basis: where `seconds` comes from, in words.
    """

    trials: tuple[int, int]
    packs: tuple[int, int]
    passes: float
    saved: float
    seconds: float | None
    basis: str


def estimate(cell: Cell, *, pack_size: int | None = None, rows: Iterable[TrialRow] = ()) -> Cost:
    """Estimates what a cell costs from nothing.

    Args:
        pack_size: the most trials of a pack; the plan's own rule if None.
        rows: trials of a ledger; those finished in this cell replace the table of speeds.
    """
    search = make_packs(cell, "search", cell.planned_trials("search"), pack_size)
    confirm = make_packs(cell, "confirm", cell.planned_trials("confirm"), pack_size)
    phases: list[tuple[Phase, list[tuple[Trial, ...]]]] = [("search", search), ("confirm", confirm)]
    passes = fsum(_passes(cell, phase, pack) for phase, packs in phases for pack in packs)
    saved = fsum(_saved_epochs(cell, pack) for pack in search) * examples(cell, "search")
    steps = fsum(_steps(cell, phase) * len(pack) for phase, packs in phases for pack in packs)
    seconds, basis = _seconds(cell, passes - saved, steps, rows)
    return Cost(
        trials=(sum(map(len, search)), sum(map(len, confirm))),
        packs=(len(search), len(confirm)),
        passes=passes - saved,
        saved=saved,
        seconds=seconds,
        basis=basis,
    )


def pack_seconds(
    cell: Cell, phase: Phase, pack: Sequence[Trial], per_pass: float | None = None, table: bool = True
) -> float | None:
    """Estimates the time of one pack on one worker.

    Args:
        per_pass: measured seconds an example pass; None takes the table of speeds.
        table: False where that table does not hold.

    Returns:
        Seconds; None where no speed is known.
    """
    saved = _saved_epochs(cell, pack) if phase == "search" else 0.0  # seeds share nothing
    passes = _passes(cell, phase, pack) - saved * examples(cell, phase)
    if per_pass is not None:
        return passes * per_pass
    return _by_table(cell, passes, _steps(cell, phase) * len(pack)) if table else None


def examples(cell: Cell, phase: Phase) -> int:
    """Returns the training examples of one epoch in `phase`."""
    return cell.task_of(phase).examples


def _passes(cell: Cell, phase: Phase, pack: Sequence[Trial]) -> float:
    return float(len(pack) * cell.task.epochs * examples(cell, phase))


def _steps(cell: Cell, phase: Phase) -> int:
    return cell.task.epochs * ceil(examples(cell, phase) / cell.task.batch_size)


def _saved_epochs(cell: Cell, pack: Sequence[Trial]) -> float:
    """Epochs of free training that `pack` trains once instead of once a trial.

    Trials that differ only in when their control begins run as one row, from which each forks when its free phase
    ends; so the row lives as long as the longest free phase.
    """
    free: dict[object, list[float]] = {}
    for trial in pack:
        epochs = cell.free_epochs(trial.hyperparameters)
        if epochs is not None:
            free.setdefault(cell.siblings_key(trial), []).append(min(epochs, cell.task.epochs))
    return fsum(fsum(epochs) - max(epochs) for epochs in free.values())


def _seconds(cell: Cell, passes: float, steps: float, rows: Iterable[TrialRow]) -> tuple[float | None, str]:
    measured = _measured(cell, rows)
    if measured is not None:
        return passes * measured, "finished trials of this cell"
    seconds = _by_table(cell, passes, steps)
    return seconds, "unknown until measured" if seconds is None else MACHINE


def _by_table(cell: Cell, passes: float, steps: float) -> float | None:
    """Seconds of example passes and of steps of all trials by the table of speeds; None where it has none."""
    speed = cell.task.dataset_row.speeds.get(cell.task.model.name)
    return None if speed is None else passes * speed.per_example + steps * speed.per_step


def _measured(cell: Cell, rows: Iterable[TrialRow]) -> float | None:
    """Seconds an example pass from the finished trials of this cell: their time over their passes."""
    seconds: list[float] = []
    passes: list[float] = []
    for row in rows:
        took = row.summary.get("seconds")
        if row.cell == str(cell.name) and row.outcome == "complete" and took is not None:
            seconds.append(took)
            passes.append(row.epochs * examples(cell, row.phase))
    return fsum(seconds) / fsum(passes) if seconds else None
