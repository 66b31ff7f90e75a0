"""How long a plan takes on n workers, by the order in which a launch hands out its packs."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lawn_tune.cells import Cell, Phase
from lawn_tune.planning.packing import make_packs
from trainables.tasks import Trial

PackSeconds = Callable[[Cell, Phase, Sequence[Trial]], float | None]
"""How long a worker takes for a pack; None if unknown."""


@dataclass
class _Work:
    """A cell on its way: seconds of the packs that wait, phase by phase, and how many of the first phase run."""

    phases: deque[deque[float]]
    running: int = 0


def makespan(cells: Sequence[Cell], seconds: PackSeconds, workers: int, pack_size: int | None = None) -> float | None:
    """Returns the time from a launch's first pack to its last one's end, s, where nothing fails and nothing is found.

    As in `Launch`: cells are opened in their order, whenever no open one has a pack to begin, and a cell's winner is
    confirmed once its search has ended.

    Args:
        seconds: of each pack.
        workers: packs at once.
        pack_size: trials a pack, or None for the plan's rule.

    Returns:
        None where the time of a pack is unknown.
    """
    chains: list[list[list[float]]] = []
    for cell in cells:
        phases = [_seconds(cell, phase, seconds, pack_size) for phase in ("search", "confirm")]
        known = [[time for time in phase if time is not None] for phase in phases]
        if known != phases:
            return None
        chains.append(known)
    return schedule(chains, workers)


def schedule(chains: Sequence[Sequence[Sequence[float]]], workers: int) -> float:
    """Returns the makespan of chains of phases of packs, given by their seconds; see `makespan`."""
    waiting = deque(_Work(deque(deque(phase) for phase in chain)) for chain in chains)
    opened: list[_Work] = []
    ends: list[tuple[float, int, _Work]] = []
    now, count = 0.0, 0
    while True:
        while len(ends) < workers and (work := _next(opened, waiting)):
            heapq.heappush(ends, (now + work.phases[0].popleft(), count, work))
            work.running += 1
            count += 1
        if not ends:
            return now
        now, _, work = heapq.heappop(ends)
        work.running -= 1


def _seconds(cell: Cell, phase: Phase, seconds: PackSeconds, pack_size: int | None) -> list[float | None]:
    return [seconds(cell, phase, pack) for pack in make_packs(cell, phase, cell.planned_trials(phase), pack_size)]


def _next(opened: list[_Work], waiting: deque[_Work]) -> _Work | None:
    """Returns the cell whose pack is next, None if others must end first."""
    while True:
        for work in opened:
            if work.phases[0]:
                return work
            if not work.running:
                opened.remove(work)
                work.phases.popleft()
                opened += [work] if work.phases else []
                break
        else:
            if not waiting:
                return None
            opened.append(waiting.popleft())
