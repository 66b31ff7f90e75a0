"""Which point of a cell's grid wins; read by the driver before it confirms and by every comparison."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lawn_tune.cells import Cell, Protocol
from lawn_tune.results import FINISHED, TrialRow
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
    """

    hyperparameters: Mapping[str, float]
    keys: tuple[str, ...]
    status: PointStatus
    finished: bool
    value: float | None


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


def points(cell: Cell, trials: Iterable[TrialRow]) -> tuple[Point, ...]:
    """Returns every point of the cell's grid in plan order, matched to `trials` by key; other trials are ignored."""
    return score(cell, {row.key: row for row in trials})


def score(cell: Cell, rows: Mapping[str, TrialRow]) -> tuple[Point, ...]:
    """Returns what `points` does; many cells can share one table of rows by key."""
    planned, size, series = cell.search_trials, cell.grid.size, search_series(cell.protocol)
    return tuple(_point(planned[i::size], rows, series) for i in range(size))


def best(cell: Cell, scored: Sequence[Point]) -> Winner | None:
    """Returns the best complete point so far; of equal ones the first in plan order; None when none is complete."""
    sign = 1.0 if cell.protocol.direction == "maximize" else -1.0
    candidates = [(point, point.value) for point in scored if point.value is not None]
    if not candidates:
        return None
    point, value = max(candidates, key=lambda candidate: sign * candidate[1])
    edges = _edges(cell, point.hyperparameters)
    return Winner(hyperparameters=point.hyperparameters, keys=point.keys, value=value, edges=edges)


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
        elif len(cell.grid.values[switch]) > 1 and point[switch] == max(cell.constraining_levels):
            edges.add(switch)
    return tuple(name for name in cell.grid.values if name in edges)


def _point(planned: Sequence[Trial], rows: Mapping[str, TrialRow], series: str) -> Point:
    found = [rows.get(trial.key) for trial in planned]
    status = _status(found)
    return Point(
        hyperparameters=planned[0].hyperparameters,
        keys=tuple(trial.key for trial in planned),
        status=status,
        finished=all(row is not None and row.outcome in FINISHED for row in found),
        value=_mean([row.summary.get(series) for row in found if row is not None]) if status == "complete" else None,
    )


def _status(found: Sequence[TrialRow | None]) -> PointStatus:
    outcomes = {"missing" if row is None else row.outcome for row in found}
    order: tuple[PointStatus, ...] = ("diverged", "failed", "running", "missing")
    return next((status for status in order if status in outcomes), "complete")


def _mean(values: Sequence[float | None]) -> float | None:
    """Returns the mean, or None when a value is missing or not finite: such a point cannot win."""
    measured = [value for value in values if value is not None and math.isfinite(value)]
    return math.fsum(measured) / len(values) if measured and len(measured) == len(values) else None
