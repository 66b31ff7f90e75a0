"""Which point of a cell's grid wins; read by the driver before it confirms and by every comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lawn_tune.cells import Cell, Protocol
from lawn_tune.results import FINISHED, TrialRow
from search_spaces.levels import split
from trainables.tasks import Trial

PointStatus = Literal["complete", "diverged", "failed", "running", "missing"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One grid point with what its search trials gave.

    Args:
        hyperparameters: its place in the grid.
        keys: of its search trials, in the order of the search seeds.
        status: complete when every seed is; diverged when any seed is; else what keeps it from being complete.
        finished: every search trial of the point has a result, complete or diverged.
        value: mean of the protocol's value over the search seeds; None unless complete and measured.
        values: the value of each search seed, in their order; () where `value` is None.
        test: mean of the same runs' test metric; None where some run has none.
    """

    hyperparameters: Mapping[str, float]
    keys: tuple[str, ...]
    status: PointStatus
    finished: bool
    value: float | None
    values: tuple[float, ...]
    test: float | None


@dataclass(frozen=True, kw_only=True)
class Winner:
    """The best point of a grid.

    Args:
        hyperparameters: its place in the grid.
        keys: of its search trials.
        value: mean of the protocol's value over the search seeds.
        edges: hyperparameters at the border of their levels; for the switch, of those that reach the constraint.
    """

    hyperparameters: Mapping[str, float]
    keys: tuple[str, ...]
    value: float
    edges: tuple[str, ...]


def search_series(protocol: Protocol) -> str:
    """Returns the summary's name of the value that selects, such as "last/validation/accuracy"."""
    return f"{protocol.reported}/{protocol.selection}/{protocol.metric}"


def test_series(protocol: Protocol) -> str:
    """Returns the summary's name of the value that is reported, such as "last/test/accuracy"."""
    return f"{protocol.reported}/test/{protocol.metric}"


def points(cell: Cell, trials: Iterable[TrialRow]) -> tuple[Point, ...]:
    """Returns every point of the cell's grid in plan order, matched to `trials` by key; other trials are ignored."""
    return score(cell, {row.key: row for row in trials})


def score(cell: Cell, rows: Mapping[str, TrialRow]) -> tuple[Point, ...]:
    """Returns what `points` does; many cells can share one table of rows by key."""
    planned, size = cell.search_trials, cell.grid.size
    series = search_series(cell.protocol), test_series(cell.protocol)
    return tuple(_point(planned[i::size], rows, *series) for i in range(size))


def best(cell: Cell, scored: Sequence[Point]) -> Winner | None:
    """Returns the best complete point so far, the first of `ranked`; None when none is complete."""
    order = ranked(cell, scored)
    if not order:
        return None
    point, value = order[0]
    edges = _edges(cell, point.hyperparameters)
    return Winner(hyperparameters=point.hyperparameters, keys=point.keys, value=value, edges=edges)


def ranked(cell: Cell, scored: Sequence[Point]) -> list[tuple[Point, float]]:
    """Returns the points that have a value, with it, the best first; of equal ones the first of `interior_first`."""
    sign = -1.0 if cell.protocol.direction == "maximize" else 1.0
    measured = [(point, point.value) for point in interior_first(cell, scored) if point.value is not None]
    return sorted(measured, key=lambda candidate: sign * candidate[1])


def interior_first(cell: Cell, scored: Sequence[Point]) -> list[Point]:
    """Returns the points from the grid's interior to its corners, in plan order where they are as far inside."""
    return sorted(scored, key=outside(cell))


def outside(cell: Cell) -> Callable[[Point], tuple[int, float]]:
    """Returns what tells how far outside a point is, smaller for one that is farther inside.

    A point is the farther inside the fewer of its hyperparameters are at the border of their levels, then the larger
    the sum of their distances from it, 1 in the middle. The levels of the switch are those that reach the constraint;
    any other, and a word, is at the border.
    """
    depths = {name: _depths(_reachable(cell, name)) for name, levels in cell.grid.values.items() if len(levels) > 1}

    def of(point: Point) -> tuple[int, float]:
        found = [depth.get(point.hyperparameters[name], 0.0) for name, depth in depths.items()]
        return found.count(0.0), -math.fsum(found)

    return of


def _reachable(cell: Cell, name: str) -> tuple[float, ...]:
    return cell.constraining_levels if name == cell.method.switch else cell.grid.values[name]


def _depths(levels: Sequence[float]) -> dict[float, float]:
    """Returns level → distance from the border in levels, as a share of the largest there is."""
    last = len(levels) - 1
    return {level: 2 * min(i, last - i) / last if last else 1.0 for i, level in enumerate(sorted(levels))}


def winner(cell: Cell, trials: Iterable[TrialRow]) -> Winner | None:
    """Returns the point that confirmation retrains: best mean over the search seeds among points complete in all.

    Args:
        cell: the cell as planned.
        trials: rows of the ledger, in any order; those of other cells, budgets or grids are ignored.

    Returns:
        None until every search trial of the cell is complete or diverged, and for a cell where no point is complete.
    """
    scored = points(cell, trials)
    return best(cell, scored) if all(point.finished for point in scored) else None


def _edges(cell: Cell, point: Mapping[str, float]) -> tuple[str, ...]:
    """Returns the grid's edges; that of the switch is the largest level that reaches the constraint."""
    edges, switch = set(cell.grid.edges(point)), cell.method.switch
    if switch is not None:
        if cell.never_constrained(point):
            edges.discard(switch)
        elif len(split(cell.grid.values[switch])[0]) > 1 and point[switch] == max(cell.constraining_levels):
            edges.add(switch)
    return tuple(name for name in cell.grid.values if name in edges)


def _point(planned: Sequence[Trial], rows: Mapping[str, TrialRow], series: str, tested: str) -> Point:
    found = [rows.get(trial.key) for trial in planned]
    status = _status(found)
    complete = [row for row in found if row is not None] if status == "complete" else []
    values = _measured(complete, series)
    return Point(
        hyperparameters=planned[0].hyperparameters,
        keys=tuple(trial.key for trial in planned),
        status=status,
        finished=all(row is not None and row.outcome in FINISHED for row in found),
        value=_mean(values),
        values=values,
        test=_mean(_measured(complete, tested)),
    )


def _status(found: Sequence[TrialRow | None]) -> PointStatus:
    outcomes = {"missing" if row is None else row.outcome for row in found}
    order: tuple[PointStatus, ...] = ("diverged", "failed", "running", "missing")
    return next((status for status in order if status in outcomes), "complete")


def _measured(rows: Sequence[TrialRow], series: str) -> tuple[float, ...]:
    """Returns the value of each row, or () when one is missing or not finite: such a point cannot win."""
    values = [row.summary.get(series) for row in rows]
    measured = tuple(value for value in values if value is not None and math.isfinite(value))
    return measured if len(measured) == len(values) else ()


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
