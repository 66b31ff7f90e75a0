"""How large the packs of each cell are, and which cell comes first, for the workers that a launch has.

Large packs take less device time, because stacked trials share the calls of a step; small ones keep every worker busy
to the end. What is chosen is the best of many simulated launches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, fsum, inf

from lawn_tune.cells import Cell, CellName, Packing, Phase
from lawn_tune.planning.makespan import schedule
from lawn_tune.planning.packing import largest_size, make_packs
from trainables.tasks import Trial

PackCost = Callable[[Cell, Phase, Sequence[Trial]], float]
"""How long a worker takes for a pack, in any unit."""

BOUNDS = 24
"""Upper bounds on the time of a pack that are tried for all cells at once."""

PACKS = 200_000
"""Packs that are simulated before the search for something better ends: less than a second."""

THRIFT = 0.05
"""What a second less of work on every worker is worth, in seconds by which the launch may end later (our choice)."""


@dataclass(frozen=True)
class Placement:
    """Cells with the sizes of their packs.

    Args:
        cells: in the order to train them, each with its `packing`.
        span: time from the start of the first pack to the end of the last one, in the unit of the costs.
        work: time of all packs on one worker.
        workers: packs at once.
    """

    cells: tuple[Cell, ...]
    span: float
    work: float
    workers: int

    @property
    def busy(self) -> float:
        """Share of the workers' time that is spent on packs, from 0 to 1."""
        return self.work / (self.span * self.workers) if self.span else 1.0


def place(
    cells: Sequence[Cell],
    cost: PackCost,
    workers: int,
    missing: Mapping[CellName, Sequence[Trial]] | None = None,
    *,
    on_gpu: bool = False,
) -> Placement:
    """Chooses sizes of packs and an order of cells with which a launch ends early.

    It ends no later than with the plan's own rule (`largest_size`) in plan order. Cells that have a packing keep it.

    Args:
        cells: in plan order.
        cost: of each pack.
        workers: packs at once.
        missing: search trials to train, by cell; None for all.
        on_gpu: whether workers train on GPUs, which have room for larger packs.
    """
    options = [
        (
            _options(cell, "search", cell.search_trials if missing is None else missing[cell.name], cost, on_gpu),
            _options(cell, "confirm", cell.planned_trials("confirm"), cost, on_gpu),
        )
        for cell in cells
    ]
    best = _Search(options, workers).best()
    placed = [_packed(cell, *chosen, workers) for cell, chosen in zip(cells, best.chosen, strict=True)]
    return Placement(tuple(placed[i] for i in best.order), best.span, best.work, workers)


@dataclass(frozen=True, eq=False)
class _Option:
    """One size of the packs of a phase, and how long each of them takes."""

    size: int
    times: tuple[float, ...]

    @cached_property
    def longest(self) -> float:
        return max(self.times, default=0.0)

    @cached_property
    def work(self) -> float:
        return fsum(self.times)


_Pair = tuple[_Option, _Option]
"""Of search and confirm."""


@dataclass(frozen=True)
class _Simulated:
    """A launch: what is chosen for each cell, the order of cells, and how long it takes."""

    chosen: tuple[_Pair, ...]
    order: tuple[int, ...]
    span: float
    work: float


class _Search:
    """Looks for the best launch.

    Args:
        options: of each cell's search and confirm, the largest size first.
        workers: packs at once.
    """

    def __init__(self, options: Sequence[tuple[Sequence[_Option], Sequence[_Option]]], workers: int) -> None:
        self._options, self._workers, self._left, self._latest = options, workers, PACKS, inf

    def best(self) -> _Simulated:
        """Returns the best launch found; with one worker, that of the largest packs in plan order."""
        best = self._simulate([(search[0], confirm[0]) for search, confirm in self._options])
        if self._workers > 1:
            self._latest = best.span
            for tried in self._bounded():
                best = self._better(best, tried)
            while self._left > 0 and (changed := self._changed(best)) is not best:
                best = changed
        return best

    def _bounded(self) -> Iterator[_Simulated]:
        """Yields launches whose packs all end within some bound, as far as the sizes allow, in two orders of cells."""
        times = sorted({option.longest for pair in self._options for options in pair for option in options})
        bounds = times if len(times) <= BOUNDS else [times[i * (len(times) - 1) // (BOUNDS - 1)] for i in range(BOUNDS)]
        for bound in reversed(bounds):
            chosen = [(_within(search, bound), _within(confirm, bound)) for search, confirm in self._options]
            yield self._simulate(chosen)
            yield self._simulate(chosen, longest_first=True)

    def _changed(self, best: _Simulated) -> _Simulated:
        """Changes one size at a time where that is better."""
        for i, (searches, confirms) in enumerate(self._options):
            tries = [(search, best.chosen[i][1]) for search in searches]
            tries += [(best.chosen[i][0], confirm) for confirm in confirms]
            for pair in tries if len(tries) > 2 and self._left > 0 else ():
                chosen = [*best.chosen[:i], pair, *best.chosen[i + 1 :]]
                longest_first = best.order != tuple(range(len(chosen)))
                best = self._better(best, self._simulate(chosen, longest_first))
        return best

    def _simulate(self, chosen: Sequence[_Pair], longest_first: bool = False) -> _Simulated:
        order = list(range(len(chosen)))
        if longest_first:
            order.sort(key=lambda i: -sum(option.longest for option in chosen[i]))
        self._left -= sum(len(option.times) for pair in chosen for option in pair)
        span = schedule([[option.times for option in chosen[i]] for i in order], self._workers)
        return _Simulated(tuple(chosen), tuple(order), span, fsum(option.work for pair in chosen for option in pair))

    def _better(self, best: _Simulated, tried: _Simulated) -> _Simulated:
        return tried if tried.span <= self._latest and self._price(tried) < self._price(best) else best

    def _price(self, launch: _Simulated) -> float:
        return launch.span + THRIFT * launch.work / self._workers


def _options(cell: Cell, phase: Phase, trials: Sequence[Trial], cost: PackCost, on_gpu: bool) -> list[_Option]:
    """Returns sizes with different numbers of packs, the largest one first; a single one where it is chosen already.

    Those are left out whose packs take more work than single trials do.
    """
    if cell.packing is None:
        largest = largest_size(cell, phase, on_gpu)
        even = {ceil(len(trials) / count) for count in range(1, len(trials) + 1)}
        sizes = [largest, *sorted((size for size in even if size < largest), reverse=True)]
    else:
        sizes = [cell.packing.size(phase)]
    packed = [(size, make_packs(cell, phase, trials, size)) for size in sizes]
    options = [_Option(size, tuple(cost(cell, phase, pack) for pack in packs)) for size, packs in packed]
    return [option for option in options if option.work <= options[-1].work]


def _within(options: Sequence[_Option], bound: float) -> _Option:
    """Returns the largest size whose packs all end within a bound, or else the one with the shortest packs."""
    fitting = (option for option in options if option.longest <= bound)
    return next(fitting, min(options, key=lambda option: option.longest))


def _packed(cell: Cell, search: _Option, confirm: _Option, workers: int) -> Cell:
    if cell.packing is not None:
        return cell
    return cell.packed(Packing(search=search.size, confirm=confirm.size, workers=workers, plan=cell.plan_id))
