"""What a plan costs before it runs: example passes, and hours where they have been measured. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, fsum
from typing import TYPE_CHECKING

from lawn_tune.cells import Cell, Phase, Trial
from lawn_tune.planning.packing import make_packs, siblings_key
from trainables.config import DATASETS

if TYPE_CHECKING:  # results.py brings numpy, which planning does without
    from lawn_tune.results import TrialRow


@dataclass(frozen=True)
class Speed:
    """Training time on one worker: seconds = example passes x `per_example` + steps of all trials x `per_step`.

    Args:
        per_example: seconds for one example of one trial: forward, backward and its share of the measurements.
        per_step: seconds that one trial's step takes whatever the batch: the update of all weights.
    """

    per_example: float
    per_step: float


# The one place of measured speeds, keyed by (dataset, model), for the model options of the built-in spaces: two batch
# sizes of `make bench` solved for the two numbers (benchmarks/results/packs.json; movielens: 64 factors, batches 1000
# and 100000). None is "unknown until measured": the plan then shows example passes only.
MACHINE = "one core of an AMD EPYC server"
SPEEDS: dict[tuple[str, str], Speed | None] = {
    ("synthetic", "small-vgg"): None,
    ("digits", "small-vgg"): Speed(per_example=19e-6, per_step=0.3e-3),
    ("fashion-mnist", "small-vgg"): Speed(per_example=366e-6, per_step=0.0),
    ("movielens-100k", "ncf"): Speed(per_example=2.0e-6, per_step=6.8e-3),
}


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
    dataset = DATASETS[cell.task.dataset]
    return dataset.train_examples if phase == "search" else dataset.full_examples


def _passes(cell: Cell, phase: Phase, pack: Sequence[Trial]) -> float:
    return float(len(pack) * cell.task.epochs * examples(cell, phase))


def _steps(cell: Cell, phase: Phase) -> int:
    return cell.task.epochs * ceil(examples(cell, phase) / cell.task.batch_size)


def _saved_epochs(cell: Cell, pack: Sequence[Trial]) -> float:
    """Epochs of free training that `pack` trains once instead of once a trial.

    Trials that differ in `free_epochs` only run as one row, from which each forks when its free phase ends; so the row
    lives as long as the longest free phase.
    """
    free: dict[object, list[float]] = {}
    for trial in pack:
        if "free_epochs" in trial.hyperparameters:
            epochs = min(trial.hyperparameters["free_epochs"], cell.task.epochs)
            free.setdefault(siblings_key(trial), []).append(epochs)
    return fsum(fsum(epochs) - max(epochs) for epochs in free.values())


def _seconds(cell: Cell, passes: float, steps: float, rows: Iterable[TrialRow]) -> tuple[float | None, str]:
    measured = _measured(cell, rows)
    if measured is not None:
        return passes * measured, "finished trials of this cell"
    seconds = _by_table(cell, passes, steps)
    return seconds, "unknown until measured" if seconds is None else MACHINE


def _by_table(cell: Cell, passes: float, steps: float) -> float | None:
    """Seconds of example passes and of steps of all trials by the table of speeds; None where it has none."""
    speed = SPEEDS.get((cell.task.dataset, cell.task.model.name))
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
