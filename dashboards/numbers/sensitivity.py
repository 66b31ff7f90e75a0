"""How a cell's metric depends on each hyperparameter alone: all points at each of its levels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dashboards.numbers.ranges import better_part
from lawn_tune.comparison.compare import CellResult
from lawn_tune.words import metric_name, metric_of, setting
from trainables.catalogue.rows import Direction


class SensitivityLevel(NamedTuple):
    """The points at one level of a hyperparameter.

    `values` are those of complete points, `keys` their search trials, `settings` their places in the grid; `best` and
    `median` are None without one. `diverged`, `failed` and `open` count the points without a value.
    """

    level: float
    values: tuple[float, ...]
    keys: tuple[tuple[str, ...], ...]
    settings: tuple[str, ...]
    best: float | None
    median: float | None
    diverged: int
    failed: int
    open: int


class SensitivityAxis(NamedTuple):
    """One hyperparameter with its levels, ascending; `chosen` is the winner's, which may be on the edge."""

    name: str
    levels: tuple[SensitivityLevel, ...]
    chosen: float | None
    edge: bool


class SensitivityInfo(NamedTuple):
    """One cell's axes, the one that moves the best value most first; `low` and `high` bound the better values."""

    optimizer: str
    batch_size: int
    value: str
    unit: str
    digits: int
    direction: Direction
    axes: tuple[SensitivityAxis, ...]
    low: float
    high: float


def sensitivity_info(result: CellResult) -> SensitivityInfo:
    """Returns the axes of one cell's grid that have more than one level; of a grid of one point, all of them."""
    cell = result.cell
    metric = metric_of(cell.protocol.metric)
    several = [name for name, levels in cell.grid.values.items() if len(levels) > 1] or list(cell.grid.values)
    axes = [_axis(result, name) for name in several]
    low, high = better_part(
        [point.value for point in result.points if point.value is not None], cell.protocol.direction
    )
    return SensitivityInfo(
        optimizer=cell.name.optimizer,
        batch_size=cell.name.batch_size,
        value=f"{cell.protocol.selection} {metric_name(cell.protocol.metric)}",
        unit=metric.unit,
        digits=metric.digits,
        direction=cell.protocol.direction,
        axes=tuple(sorted(axes, key=lambda axis: -span(axis))),
        low=low,
        high=high,
    )


def span(axis: SensitivityAxis) -> float:
    """Returns how far apart the best values at the levels of a hyperparameter are, in the metric's unit."""
    best = [level.best for level in axis.levels if level.best is not None]
    return max(best) - min(best) if best else 0.0


def _axis(result: CellResult, name: str) -> SensitivityAxis:
    won = result.winner
    return SensitivityAxis(
        name=name,
        levels=tuple(_level(result, name, level) for level in sorted(result.cell.grid.values[name])),
        chosen=won.hyperparameters[name] if won else None,
        edge=won is not None and name in won.edges,
    )


def _level(result: CellResult, name: str, level: float) -> SensitivityLevel:
    here = [point for point in result.points if point.hyperparameters[name] == level]
    known = [(point, point.value) for point in here if point.value is not None]
    values = tuple(value for _, value in known)
    better = max if result.cell.protocol.direction == "maximize" else min
    statuses = [point.status for point in here]
    return SensitivityLevel(
        level=level,
        values=values,
        keys=tuple(point.keys for point, _ in known),
        settings=tuple(setting(point.hyperparameters) for point, _ in known),
        best=better(values, default=None),
        median=float(np.median(values)) if values else None,
        diverged=statuses.count("diverged"),
        failed=statuses.count("failed"),
        open=statuses.count("running") + statuses.count("missing"),
    )
