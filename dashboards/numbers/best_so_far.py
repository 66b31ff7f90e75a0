"""How the best value of a cell's search came about, point by point and hour by hour."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from dashboards.numbers.ranges import better_part
from lawn_tune.comparison.compare import CellResult
from lawn_tune.planning.selection import Point
from lawn_tune.results import TrialRow
from lawn_tune.words import metric_name, metric_of, setting


class Step(NamedTuple):
    """One finished point: device-hours spent up to its end, its value (None if it diverged) and the best until then."""

    hours: float
    value: float | None
    best: float | None
    place: str
    keys: tuple[str, ...]


class BestSoFarInfo(NamedTuple):
    """Steps in the order in which the points finished; the n-th has n points behind it, itself included.

    `low` and `high` bound the better three quarters of the values.
    """

    optimizer: str
    batch_size: int
    value: str
    unit: str
    digits: int
    steps: tuple[Step, ...]
    points: int
    low: float
    high: float


def best_so_far_info(result: CellResult, rows: Sequence[TrialRow]) -> BestSoFarInfo:
    """Returns the finished points of a cell in the order of their ends; a point ends with its last search seed."""
    cell, found = result.cell, {row.key: row for row in rows}
    finished = sorted((point for point in result.points if point.finished), key=lambda point: _end(point, found))
    hours = accumulate(_seconds(point, found) / 3600 for point in finished)
    better = max if cell.protocol.direction == "maximize" else min
    steps, best = [], None
    for point, spent in zip(finished, hours, strict=True):
        best = point.value if best is None else best if point.value is None else better(best, point.value)
        steps.append(Step(spent, point.value, best, setting(point.hyperparameters), point.keys))
    low, high = better_part([step.value for step in steps if step.value is not None], cell.protocol.direction)
    metric = metric_of(cell.protocol.metric)
    return BestSoFarInfo(
        optimizer=cell.name.optimizer,
        batch_size=cell.name.batch_size,
        value=f"{cell.protocol.selection} {metric_name(cell.protocol.metric)}",
        unit=metric.unit,
        digits=metric.digits,
        steps=tuple(steps),
        points=len(result.points),
        low=low,
        high=high,
    )


def _end(point: Point, rows: Mapping[str, TrialRow]) -> str:
    """Returns when the last trial of a point ended; ISO-8601 times in UTC sort as texts."""
    return max(str(rows[key].provenance.get("ended", "")) for key in point.keys)


def _seconds(point: Point, rows: Mapping[str, TrialRow]) -> float:
    return math.fsum(rows[key].summary.get("seconds") or 0.0 for key in point.keys)
