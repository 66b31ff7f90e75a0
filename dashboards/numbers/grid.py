"""A cell's grid as heat maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple, TypeVar

from dashboards.numbers.ranges import better_part
from lawn_tune.comparison.compare import CellResult, Comparison
from lawn_tune.planning.selection import Point, PointStatus
from lawn_tune.words import hyperparameter, metric_name, metric_of
from trainables.catalogue.rows import Direction

T = TypeVar("T")


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
    hyperparameters on the border of the grid; `hidden` points are not shown.
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
    hidden: int = 0


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


def fewer(info: GridInfo, most: int) -> GridInfo:
    """Returns a grid of about `most` (>= 4) points: levels next to the winner's, in the panels that hold the best."""
    side = math.isqrt(most)
    place = info.winner or GridPlace(0, len(info.y_levels) // 2, len(info.x_levels) // 2)
    rows = _window(len(info.y_levels), place.row, max(side, most // max(1, len(info.x_levels))))
    columns = _window(len(info.x_levels), place.column, max(1, most // len(rows)))
    panels = _best_panels(info, max(1, most // (len(rows) * len(columns))))
    shown = len(panels) * len(rows) * len(columns)
    moved = info.winner and GridPlace(panels.index(place.panel), place.row - rows.start, place.column - columns.start)
    return info._replace(
        x_levels=_cut(info.x_levels, columns),
        y_levels=_cut(info.y_levels, rows),
        panels=tuple(_cut_panel(info.panels[i], rows, columns) for i in panels),
        winner=moved,
        hidden=len(info.panels) * len(info.x_levels) * len(info.y_levels) - shown,
    )


def _window(n: int, around: int, most: int) -> range:
    """Returns at most so many of n places, in a row, with `around` near their middle."""
    start = max(0, min(around - most // 2, n - most))
    return range(start, min(n, start + most))


def _best_panels(info: GridInfo, most: int) -> list[int]:
    """Returns the places of the panels with the best values, the winner's among them, in order."""
    sign = -1.0 if info.direction == "maximize" else 1.0

    def rank(i: int) -> tuple[bool, float]:
        values = [sign * value for row in info.panels[i].values for value in row if value is not None]
        return info.winner is None or i != info.winner.panel, min(values, default=math.inf)

    return sorted(sorted(range(len(info.panels)), key=rank)[:most])


def _cut_panel(panel: GridPanel, rows: range, columns: range) -> GridPanel:
    return GridPanel(
        label=panel.label,
        values=tuple(_cut(row, columns) for row in _cut(panel.values, rows)),
        statuses=tuple(_cut(row, columns) for row in _cut(panel.statuses, rows)),
        keys=tuple(_cut(row, columns) for row in _cut(panel.keys, rows)),
    )


def _cut(values: tuple[T, ...], places: range) -> tuple[T, ...]:
    return values[places.start : places.stop]


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
        label=", ".join(f"{hyperparameter(name)} {value:g}" for name, value in fixed.items()),
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
