"""How fast cells train: the one estimator that plan, launch, status and dashboard use. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, fsum
from typing import TYPE_CHECKING

from lawn_tune.cells import Cell, Phase
from trainables.catalogue.datasets import MACHINE
from trainables.catalogue.rows import Speed
from trainables.outcomes import TrialOutcome
from trainables.tasks import Trial

if TYPE_CHECKING:  # results.py brings numpy, which planning does without
    from lawn_tune.results import TrialRow


class Speeds:
    """How fast each cell trains: by its finished trials, else by what may stand in for them, else unknown.

    A finished trial counts with the epochs that it trained: one that diverged early took its time for these.

    Args:
        table: True to use the speeds of the data set's row, of one CPU core, for cells without a finished trial.
        borrow: True to use, for such cells, the mean speed of the others of their space.
    """

    def __init__(self, *, table: bool = True, borrow: bool = False) -> None:
        self._table, self._borrow = table, borrow
        self._measured: dict[str, tuple[float, float]] = {}  # cell or space → seconds, examples trained

    def learn(self, cells: Iterable[Cell], rows: Iterable[TrialRow]) -> None:
        """Adds the finished trials of a ledger."""
        from lawn_tune.results import FINISHED  # brings numpy

        known = {str(cell.name): cell for cell in cells}
        for row in rows:
            if row.cell in known and row.outcome in FINISHED:
                self._add(known[row.cell], row.phase, row.epochs, row.summary.get("seconds"))

    def add(self, cell: Cell, phase: Phase, outcomes: Iterable[TrialOutcome]) -> None:
        """Adds the trials of a pack that ended."""
        for outcome in outcomes:
            self._add(cell, phase, outcome.epochs, outcome.summary.get("seconds"))

    def seconds(self, cell: Cell, phase: Phase, pack: Sequence[Trial]) -> float | None:
        """Returns how long one worker takes for a pack from its first epoch on, None if unknown."""
        trained = examples_of(cell, phase, pack)
        measured = self._per_example(cell)
        if measured is not None:
            return trained * measured
        speed = self._of_table(cell)
        return None if speed is None else trained * speed.per_example + _steps(cell, phase, pack) * speed.per_step

    def epoch_seconds(self, cell: Cell, phase: Phase = "search") -> float | None:
        """Returns how long one epoch of one trial takes, by finished trials alone; None if unknown."""
        measured = self._per_example(cell)
        return None if measured is None else measured * examples(cell, phase)

    def basis(self, cell: Cell) -> str:
        """Returns where `seconds` comes from."""
        if self._per_example(cell) is not None:
            return "finished trials of this cell" if str(cell.name) in self._measured else "finished trials"
        return "unknown until measured" if self._of_table(cell) is None else MACHINE

    def _add(self, cell: Cell, phase: Phase, epochs: int, seconds: float | None) -> None:
        if seconds is None or not epochs:
            return
        for name in (str(cell.name), cell.name.space):
            before = self._measured.get(name, (0.0, 0.0))
            self._measured[name] = (before[0] + seconds, before[1] + epochs * examples(cell, phase))

    def _per_example(self, cell: Cell) -> float | None:
        found = self._measured.get(str(cell.name)) or (self._measured.get(cell.name.space) if self._borrow else None)
        return found[0] / found[1] if found else None

    def _of_table(self, cell: Cell) -> Speed | None:
        return cell.task.dataset_row.speeds.get(cell.task.model.name) if self._table else None


def examples(cell: Cell, phase: Phase) -> int:
    """Returns the training examples of one epoch in `phase`."""
    return cell.task_of(phase).examples


def examples_of(cell: Cell, phase: Phase, pack: Sequence[Trial]) -> float:
    """Returns the examples that a pack trains on, counted once for trials that share a free phase."""
    return (len(pack) * cell.task.epochs - shared_epochs(cell, phase, pack)) * examples(cell, phase)


def shared_epochs(cell: Cell, phase: Phase, pack: Sequence[Trial]) -> float:
    """Returns the epochs of free training that a pack trains once instead of once a trial.

    Trials that differ only in when their control begins run as one row, from which each forks when its free phase
    ends; so the row lives as long as the longest free phase. Confirm trials differ in their seeds and share nothing.
    """
    free: dict[object, list[float]] = {}
    for trial in pack if phase == "search" else ():
        epochs = cell.free_epochs(trial.hyperparameters)
        if epochs is not None:
            free.setdefault(cell.siblings_key(trial), []).append(min(epochs, cell.task.epochs))
    return fsum(fsum(epochs) - max(epochs) for epochs in free.values())


def _steps(cell: Cell, phase: Phase, pack: Sequence[Trial]) -> int:
    return len(pack) * cell.task.epochs * ceil(examples(cell, phase) / cell.task.batch_size)
