"""How far a space is: progress of every cell, what runs, what failed, and when it will be done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from lawn_tune.cells import Cell, Phase
from lawn_tune.comparison.comparison import CellResult
from lawn_tune.comparison.tables import value_text
from lawn_tune.planning.counts import Counts, count
from lawn_tune.planning.speed import Speeds
from lawn_tune.results import TrialRow
from lawn_tune.words import count as number_of
from lawn_tune.words import fixed, metric_of

Alive = Callable[[str], bool]
"""Cell → whether a driver works on it."""


class CellProgress(NamedTuple):
    """One cell.

    Args:
        cell, optimizer, batch_size: which one.
        counts: its trials by outcome.
        share: of the planned epochs that are trained, from 0 to 1; a diverged trial has no more to train.
        seconds: device time spent.
        left: device time of what is missing, by the speed so far; None where nothing is known of it.
        value: "66.91 ± 0.21 test, 3 seeds", "66.9 validation, best so far", or why there is none.
        edges: hyperparameters of the winner on the border of the grid.
    """

    cell: str
    optimizer: str
    batch_size: int
    counts: Counts
    share: float
    seconds: float
    left: float | None
    value: str
    edges: tuple[str, ...]

    @property
    def lost(self) -> float:
        """Share of the planned epochs that diverged trials stand for."""
        return self.share * self.counts.diverged / self.counts.done if self.counts.done else 0.0


class RunningPack(NamedTuple):
    """Trials that train together now; `alive` is False where no driver holds their cell any more."""

    cell: str
    optimizer: str
    batch_size: int
    phase: Phase
    trials: int
    epoch: int
    epochs: int
    attempt: int
    alive: bool


class Trouble(NamedTuple):
    """One error text, with how many trials it stopped and in which cells."""

    error: str
    trials: int
    cells: tuple[str, ...]


class SpaceProgress(NamedTuple):
    """A whole space.

    Args:
        cells: in plan order.
        running: in plan order.
        troubles: the most frequent first.
        seconds: device time spent.
        left: device time missing; None where it is unknown for some cell.
    """

    space: str
    cells: tuple[CellProgress, ...]
    running: tuple[RunningPack, ...]
    troubles: tuple[Trouble, ...]
    seconds: float
    left: float | None

    @property
    def planned(self) -> int:
        """Trials planned."""
        return sum(cell.counts.planned for cell in self.cells)

    @property
    def done(self) -> int:
        """Trials with a result."""
        return sum(cell.counts.done for cell in self.cells)

    @property
    def diverged(self) -> int:
        """Trials that diverged, which is a result."""
        return sum(cell.counts.diverged for cell in self.cells)

    @property
    def failed(self) -> int:
        """Trials that failed, which the next launch tries again."""
        return sum(cell.counts.failed for cell in self.cells)

    @property
    def share(self) -> float:
        """Trained share of the plan's epochs, from 0 to 1."""
        return math.fsum(c.share * c.counts.planned for c in self.cells) / self.planned if self.planned else 1.0

    @property
    def lost(self) -> float:
        """Share of the plan's epochs that diverged trials stand for."""
        return self.share * self.diverged / self.done if self.done else 0.0

    @property
    def workers(self) -> int:
        """Packs that train now."""
        return sum(pack.alive for pack in self.running)

    @property
    def eta(self) -> float | None:
        """Seconds until all is done if as many packs go on training; None while none does, or the speed is unknown."""
        return self.left / self.workers if self.left is not None and self.workers else None


def space_progress(
    space: str, results: Sequence[CellResult], rows: Mapping[str, Sequence[TrialRow]], alive: Alive
) -> SpaceProgress:
    """Returns how far a space is.

    Args:
        results: of its cells, in plan order.
        rows: cell → its trials.
        alive: whether a driver works on a cell.
    """
    every = [row for result in results for row in rows.get(str(result.cell.name), ())]
    speeds = Speeds(table=False, borrow=True)
    speeds.learn([result.cell for result in results], every)
    cells = tuple(_cell(result, rows.get(str(result.cell.name), ()), speeds) for result in results)
    lefts = [cell.left for cell in cells]
    return SpaceProgress(
        space=space,
        cells=cells,
        running=tuple(pack for result in results for pack in _running(result.cell, rows, alive)),
        troubles=_troubles(every),
        seconds=math.fsum(cell.seconds for cell in cells),
        left=None if None in lefts else math.fsum(left for left in lefts if left is not None),
    )


def _cell(result: CellResult, rows: Sequence[TrialRow], speeds: Speeds) -> CellProgress:
    cell, counts = result.cell, count(result.cell, rows)
    planned = counts.planned * cell.task.epochs
    running = sum(row.epochs for row in rows if row.outcome == "running" and row.total_epochs == cell.task.epochs)
    trained = min(planned, counts.done * cell.task.epochs + running)
    missing = planned - trained
    speed = speeds.epoch_seconds(cell)
    return CellProgress(
        cell=str(cell.name),
        optimizer=cell.name.optimizer,
        batch_size=cell.name.batch_size,
        counts=counts,
        share=trained / planned if planned else 1.0,
        seconds=result.seconds,
        left=0.0 if not missing else None if speed is None else missing * speed,
        value=best_text(result),
        edges=result.winner.edges if result.winner else (),
    )


def best_text(result: CellResult) -> str:
    """Returns a cell's value and what it is: fresh seeds on test, or the search's best on the split that selects."""
    estimate, protocol = result.estimate, result.cell.protocol
    if estimate is None:
        return value_text(result)
    digits = metric_of(protocol.metric).digits
    mean = fixed(estimate.mean, digits)
    if estimate.phase == "search":
        return f"{mean} {protocol.selection}, best so far"
    spread = "" if estimate.error is None else f" ± {fixed(estimate.error, digits)}"
    return f"{mean}{spread} test, {number_of(estimate.n, 'seed')}"


def _running(cell: Cell, rows: Mapping[str, Sequence[TrialRow]], alive: Alive) -> Iterable[RunningPack]:
    name = str(cell.name)
    packs: dict[str, list[TrialRow]] = {}
    for row in rows.get(name, ()):
        if row.outcome == "running":
            packs.setdefault(row.pack, []).append(row)
    for members in packs.values():
        first = members[0]
        yield RunningPack(
            cell=name,
            optimizer=cell.name.optimizer,
            batch_size=cell.name.batch_size,
            phase=first.phase,
            trials=len(members),
            epoch=max(row.epochs for row in members),
            epochs=first.total_epochs,
            attempt=first.attempts,
            alive=alive(name),
        )


def _troubles(rows: Iterable[TrialRow]) -> tuple[Trouble, ...]:
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.outcome == "failed" and not row.damaged:
            found.setdefault(row.error.strip() or "unknown error", []).append(row.cell)
    troubles = [Trouble(error, len(cells), tuple(dict.fromkeys(cells))) for error, cells in found.items()]
    return tuple(sorted(troubles, key=lambda trouble: -trouble.trials))
