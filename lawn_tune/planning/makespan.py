"""How long a plan takes on n workers, by the order in which a launch hands out its packs."""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from lawn_tune.cells import PHASES, Cell, Phase
from lawn_tune.planning.packing import make_packs
from trainables.tasks import Trial

PackSeconds = Callable[[Cell, Phase, Sequence[Trial]], float | None]
"""How long a worker takes for a pack; None if unknown."""


def makespan(cells: Sequence[Cell], seconds: PackSeconds, workers: int, pack_size: int | None = None) -> float | None:
    """Returns the time from a launch's first pack to its last one's end, s, where nothing fails and nothing is found.

    As in `Launch`: cells are opened in their order, whenever no open one has a pack to begin, and a cell's winner is
    confirmed once its search has ended.

    Args:
        seconds: of each pack.
        workers: packs at once.
        pack_size: trials a pack, or None for that of each cell.

    Returns:
        None where the time of a pack is unknown.
    """
    chains: list[list[list[float]]] = []
    for cell in cells:
        phases = [_seconds(cell, phase, seconds, pack_size) for phase in PHASES]
        known = [[time for time in phase if time is not None] for phase in phases]
        if known != phases:
            return None
        chains.append(known)
    return schedule(chains, workers)


def schedule(chains: Sequence[Sequence[Sequence[float]]], workers: int) -> float:
    """Returns the makespan of chains of phases of packs, given by their seconds; see `makespan`."""
    waiting, opened = deque(_Work(deque(map(deque, chain))) for chain in chains), _Opened()
    ends: list[tuple[float, int, _Work]] = []
    now, numbers = 0.0, count()
    while True:
        while len(ends) < workers and (work := opened.next(waiting)):
            heapq.heappush(ends, (now + work.phases[0].popleft(), next(numbers), work))
            work.running += 1
        if not ends:
            return now
        now, _, work = heapq.heappop(ends)
        work.running -= 1
        if not work.running:
            opened.wake(work)


def _seconds(cell: Cell, phase: Phase, seconds: PackSeconds, pack_size: int | None) -> list[float | None]:
    return [seconds(cell, phase, pack) for pack in make_packs(cell, phase, cell.planned_trials(phase), pack_size)]


@dataclass(eq=False)
class _Work:
    """A cell on its way: seconds of the packs that wait, by phase, how many of the first phase run, and its turn."""

    phases: deque[deque[float]]
    running: int = 0
    turn: int = 0
    asleep: bool = False


class _Opened:
    """Opened cells in the order of their turns; those that only wait for their running packs are put aside."""

    def __init__(self) -> None:
        self._awake: list[tuple[int, _Work]] = []
        self._turns = count()

    def next(self, waiting: deque[_Work]) -> _Work | None:
        """Returns the cell whose pack is next, None if others must end first."""
        while self._awake or waiting:
            if not self._awake:
                self._open(waiting.popleft())
            _, work = self._awake[0]
            if work.phases[0]:
                return work
            del self._awake[0]
            if work.running:
                work.asleep = True
            else:
                work.phases.popleft()
                self._open(work)
        return None

    def wake(self, work: _Work) -> None:
        """Brings back a cell whose last running pack ended."""
        if work.asleep:
            work.asleep = False
            insort(self._awake, (work.turn, work))

    def _open(self, work: _Work) -> None:
        if work.phases:
            work.turn = next(self._turns)
            self._awake.append((work.turn, work))
