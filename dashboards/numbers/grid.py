"""A cell's grid as heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

from dashboards.numbers.ranges import better_part
from lawn_tune.compare import CellResult, Comparison
from lawn_tune.selection import Point, PointStatus
from lawn_tune.words import metric_name, metric_of
from trainables.config import Direction


class GridPanel(NamedTuple):
    """One heat map: rows are y levels, columns x levels; a value is None where the point is not complete.

    `keys` are those of each point's search trials.
    """

    label: str
    values: tuple[tuple[float | None, ...], ...]
    statuses: tuple[tuple[PointStatus, ...], ...]
    keys: tuple[tuple[tuple[str, ...], ...], ...]


class GridPlace(NamedTuple):
    """A point's place: panel, row and column."""

    panel: int
    row: int
    column: int


class GridInfo(NamedTuple):
    """One cell's grid, as panels of y (`free_epochs` or `weight_decay`) against x (`peak_lr`).

    `low` and `high` bound the colours of all cells of a batch size, so that they compare; `edges` are the winner's
    hyperparameters on the border of the grid.
    """

    optimizer: str
    batch_size: int
    value: str
    unit: str
    digits: int
    direction: Direction
    x: str
    x_levels: tuple[float, ...]
    y: str
    y_levels: tuple[float, ...]
    panels: tuple[GridPanel, ...]
    winner: GridPlace | None
    edges: tuple[str, ...]
    low: float
    high: float


def grid_info(comparison: Comparison, result: CellResult) -> GridInfo:
    """Returns the heat map of one cell of a comparison."""
    return _grid_info(result, *_colour_range(comparison, result.cell.name.batch_size))


def grid_infos(comparison: Comparison) -> tuple[GridInfo, ...]:
    """Returns one heat map a cell, by batch size and then method."""
    return tuple(
        _grid_info(result, *_colour_range(comparison, size))
        for size in comparison.batch_sizes
        for optimizer in comparison.optimizers
        if (result := comparison.cell(optimizer, size)) is not None
    )


def _colour_range(comparison: Comparison, batch_size: int) -> tuple[float, float]:
    """Returns least and greatest colour: the better three quarters of all points, so that bad ones do not wash it."""
    values = [
        point.value
        for result in comparison.cells
        if result.cell.name.batch_size == batch_size
        for point in result.points
        if point.value is not None
    ]
    return better_part(values, comparison.protocol.direction)


def _grid_info(result: CellResult, low: float, high: float) -> GridInfo:
    cell, levels = result.cell, result.cell.grid.values
    metric = metric_of(cell.protocol.metric)
    x, y = _axes(levels)
    others = [name for name in levels if name not in (x, y)]
    combinations = list(product(*(levels[name] for name in others)))
    by_place = {tuple(point.hyperparameters.values()): point for point in result.points}
    panels = tuple(_panel(dict(zip(others, values, strict=True)), levels, x, y, by_place) for values in combinations)
    return GridInfo(
        optimizer=cell.name.optimizer,
        batch_size=cell.name.batch_size,
        value=f"{cell.protocol.selection} {metric_name(cell.protocol.metric)}",
        unit=metric.unit,
        digits=metric.digits,
        direction=cell.protocol.direction,
        x=x,
        x_levels=levels[x],
        y=y,
        y_levels=levels[y],
        panels=panels,
        winner=_place(result, x, y, others, combinations),
        edges=result.winner.edges if result.winner else (),
        low=low,
        high=high,
    )


def _axes(levels: Mapping[str, Sequence[float]]) -> tuple[str, str]:
    """Returns the names on x and y: learning rate, and what tells LAWN from weight decay."""
    y = "free_epochs" if "free_epochs" in levels else "weight_decay"
    return "peak_lr", y


def _panel(
    fixed: Mapping[str, float],
    levels: Mapping[str, Sequence[float]],
    x: str,
    y: str,
    by_place: Mapping[tuple[float, ...], Point],
) -> GridPanel:
    def at(row: float, column: float) -> Point:
        chosen = {**fixed, x: column, y: row}
        return by_place[tuple(chosen[name] for name in levels)]

    rows = [[at(row, column) for column in levels[x]] for row in levels[y]]
    return GridPanel(
        label=", ".join(f"{name} {value:g}" for name, value in fixed.items()),
        values=tuple(tuple(point.value for point in row) for row in rows),
        statuses=tuple(tuple(point.status for point in row) for row in rows),
        keys=tuple(tuple(point.keys for point in row) for row in rows),
    )


def _place(
    result: CellResult, x: str, y: str, others: Sequence[str], combinations: Sequence[tuple[float, ...]]
) -> GridPlace | None:
    if result.winner is None:
        return None
    chosen, levels = result.winner.hyperparameters, result.cell.grid.values
    panel = combinations.index(tuple(chosen[name] for name in others))
    return GridPlace(panel, levels[y].index(chosen[y]), levels[x].index(chosen[x]))
