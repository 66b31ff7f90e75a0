"""How fast cells train: the one estimator that plan, launch, status and dashboard use. Imports no torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from math import ceil, fsum
from typing import TYPE_CHECKING

from lawn_tune.cells import Cell, Phase
from trainables.catalogue.datasets import MACHINE
from trainables.catalogue.sizes import Speed
from trainables.outcomes import TrialOutcome
from trainables.tasks import Trial

if TYPE_CHECKING:  # results.py brings numpy, which planning does without
    from lawn_tune.results import TrialRow


UNKNOWN = Speed(per_example=1.0, per_step=0.0, per_call=1024.0)
"""For cells without a speed, in examples instead of seconds: the calls of a step take as long as 1,024 examples (our
choice, between the 80 of small-vgg and the 2,200 of ncf with 8 factors on a CPU core)."""

UNKNOWN_ON_GPU = Speed(per_example=1.0, per_step=0.0, per_call=65_536.0)
"""The same on a GPU (our choice, between the 31,000 of ncf with 8 factors and the 90,000 of 64 on one H200)."""


class _Measured:
    """Sums over finished trials; `work` by whether it counts as on a GPU."""

    def __init__(self) -> None:
        self.seconds = self.examples = 0.0
        self.work = {False: 0.0, True: 0.0}


class Speeds:
    """How fast each cell trains: by its finished trials, else by what may stand in for them, else unknown.

    A finished trial counts with the epochs that it trained: one that diverged early took its time for these. It counts
    with the pack that it was trained in: the calls of a step are shared by the trials of a pack.

    Args:
        table: True to use the speeds of the data set's row, of one CPU core, for cells without a finished trial.
        borrow: True to use, for such cells, the mean speed of the others of their space.
        devices: of a worker; a pack is taken to be as many times as fast on them as on one.
        on_gpu: whether these are GPUs, for which there is no table and whose calls take longer, relative to examples;
            it may be set once that is known.
    """

    def __init__(self, *, table: bool = True, borrow: bool = False, devices: int = 1, on_gpu: bool = False) -> None:
        self._table, self._borrow, self._devices, self.on_gpu = table, borrow, devices, on_gpu
        self._measured: defaultdict[str, _Measured] = defaultdict(_Measured)  # by cell, and by space

    def learn(self, cells: Iterable[Cell], rows: Iterable[TrialRow]) -> None:
        """Adds the finished trials of a ledger."""
        from lawn_tune.results import FINISHED  # brings numpy

        known, every = {str(cell.name): cell for cell in cells}, list(rows)
        members = Counter((row.cell, row.pack) for row in every)
        for row in every:
            if row.cell in known and row.outcome in FINISHED:
                size = members[row.cell, row.pack]
                self._add(known[row.cell], row.phase, row.epochs, row.summary.get("seconds"), size)

    def add(self, cell: Cell, phase: Phase, outcomes: Sequence[TrialOutcome]) -> None:
        """Adds the trials of a pack that ended."""
        for outcome in outcomes:
            self._add(cell, phase, outcome.epochs, outcome.summary.get("seconds"), len(outcomes))

    def seconds(self, cell: Cell, phase: Phase, pack: Sequence[Trial]) -> float | None:
        """Returns how long one worker takes for a pack from its first epoch on, None if unknown."""
        found = self._found(cell)
        if found is None and self._of_table(cell) is None:
            return None
        work = _pack_work(cell, phase, pack, self._row(cell, self.on_gpu)) / self._devices
        return work * (1.0 if found is None else found.seconds / found.work[self.on_gpu])

    def costs(self, cells: Sequence[Cell]) -> Callable[[Cell, Phase, Sequence[Trial]], float]:
        """Returns a function like `seconds`, to compare packs of some cells; in examples where a speed is unknown."""
        if all(self._found(cell) or self._of_table(cell) for cell in cells):
            return lambda cell, phase, pack: self.seconds(cell, phase, pack) or 0.0
        unknown = UNKNOWN_ON_GPU if self.on_gpu else UNKNOWN
        return lambda cell, phase, pack: _pack_work(cell, phase, pack, unknown)

    def epoch_seconds(self, cell: Cell) -> float | None:
        """Returns how long one epoch of one search trial takes, by finished trials alone; None if unknown."""
        found = self._found(cell)
        return None if found is None else found.seconds / found.examples * examples(cell, "search")

    def basis(self, cell: Cell) -> str:
        """Returns where `seconds` comes from."""
        if self._found(cell) is not None:
            return "finished trials of this cell" if str(cell.name) in self._measured else "finished trials"
        return "unknown until measured" if self._of_table(cell) is None else MACHINE

    def _add(self, cell: Cell, phase: Phase, epochs: int, seconds: float | None, members: int) -> None:
        if seconds is None or not epochs:
            return
        work = {gpu: _work(cell, phase, self._row(cell, gpu), epochs, epochs / members) for gpu in (False, True)}
        for name in (str(cell.name), cell.name.space):
            sums = self._measured[name]
            sums.seconds += seconds
            sums.examples += epochs * examples(cell, phase)
            sums.work = {gpu: sums.work[gpu] + work[gpu] for gpu in work}

    def _found(self, cell: Cell) -> _Measured | None:
        found = self._measured.get(str(cell.name))
        return found or (self._measured.get(cell.name.space) if self._borrow else None)

    def _of_table(self, cell: Cell) -> Speed | None:
        known = self._table and not self.on_gpu
        row = cell.task.dataset_row.speeds.get(cell.task.model.name) if known else None
        return row and row.of(cell.task.footprint)

    def _row(self, cell: Cell, on_gpu: bool) -> Speed:
        return UNKNOWN_ON_GPU if on_gpu else self._of_table(cell) or UNKNOWN


def examples(cell: Cell, phase: Phase) -> int:
    """Returns the training examples of one epoch in `phase`."""
    return cell.task_of(phase).examples


def examples_of(cell: Cell, phase: Phase, pack: Sequence[Trial]) -> float:
    """Returns the examples that a pack trains on, counted once for trials that share a free phase."""
    return _trained(cell, phase, pack) * examples(cell, phase)


def _trained(cell: Cell, phase: Phase, pack: Sequence[Trial]) -> float:
    """Returns the epochs of single trials that a pack trains."""
    return len(pack) * cell.task.epochs - shared_epochs(cell, phase, pack)


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


def _pack_work(cell: Cell, phase: Phase, pack: Sequence[Trial], row: Speed) -> float:
    return _work(cell, phase, row, _trained(cell, phase, pack), cell.task.epochs if pack else 0.0)


def _work(cell: Cell, phase: Phase, row: Speed, trained: float, epochs: float) -> float:
    """Returns what `trained` epochs of single trials take, in `epochs` epochs of a pack."""
    steps, calls = (ceil(examples(cell, phase) / size) for size in (cell.task.batch_size, cell.task.at_once))
    example = row.per_example + (row.per_stacked if trained > epochs else 0.0)
    return trained * (examples(cell, phase) * example + steps * row.per_step) + epochs * calls * row.per_call
