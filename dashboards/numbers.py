"""What each figure shows, as numbers: a comparison and its curves become named tuples, one kind a figure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lawn_tune.cells import Phase
from lawn_tune.compare import CellResult, Comparison, Estimate
from lawn_tune.selection import Point, PointStatus
from lawn_tune.verdicts import sentence
from lawn_tune.words import method, metric_name, metric_of
from trainables.config import Direction

Curves = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""key → series → values [epochs], NaN where not measured."""

CURVE_POINTS = 300
"""Longer curves are thinned to about so many epochs, first and last kept."""


# --- metric against batch size ---------------------------------------------------------------------------------------


class BatchSizeLine(NamedTuple):
    """One method's values over batch sizes, ascending; `errors` are standard errors, None where there is none."""

    optimizer: str
    batch_sizes: tuple[int, ...]
    means: tuple[float, ...]
    errors: tuple[float | None, ...]
    counts: tuple[int, ...]
    phases: tuple[Phase, ...]


class BatchSizeInfo(NamedTuple):
    """The paper's Figure 2: the metric against the batch size, one line a method."""

    metric: str
    unit: str
    digits: int
    lines: tuple[BatchSizeLine, ...]


def batch_size_info(comparison: Comparison) -> BatchSizeInfo:
    """Returns each method's confirmed values, and its search values where there is no other, over batch sizes."""
    name = comparison.protocol.metric
    metric = metric_of(name)
    lines = [_batch_size_line(comparison, optimizer) for optimizer in comparison.optimizers]
    shown = tuple(line for line in lines if line.batch_sizes)
    return BatchSizeInfo(metric_name(name), metric.unit, metric.digits, shown)


def _batch_size_line(comparison: Comparison, optimizer: str) -> BatchSizeLine:
    found = [(size, comparison.cell(optimizer, size)) for size in comparison.batch_sizes]
    known = [(size, result.estimate) for size, result in found if result is not None and result.estimate is not None]
    return BatchSizeLine(
        optimizer=optimizer,
        batch_sizes=tuple(size for size, _ in known),
        means=tuple(estimate.mean for _, estimate in known),
        errors=tuple(estimate.error for _, estimate in known),
        counts=tuple(estimate.n for _, estimate in known),
        phases=tuple(estimate.phase for _, estimate in known),
    )


# --- paired differences ----------------------------------------------------------------------------------------------


class DifferenceBar(NamedTuple):
    """One pair: LAWN − base in points, its 95 % interval (None for one seed), and the sentence that says it."""

    lawn: str
    label: str
    mean: float
    low: float | None
    high: float | None
    sentence: str


class DifferenceInfo(NamedTuple):
    """Every measured pair, in the order of the table."""

    unit: str
    digits: int
    bars: tuple[DifferenceBar, ...]


def difference_info(comparison: Comparison) -> DifferenceInfo:
    """Returns the paired differences that there are."""
    metric = metric_of(comparison.protocol.metric)
    bars = tuple(
        DifferenceBar(
            lawn=pair.lawn.cell.name.optimizer,
            label=f"{method(pair.lawn.cell.name.optimizer)} − {method(pair.base.cell.name.optimizer)}, "
            f"batch {pair.batch_size:,}",
            mean=pair.difference.mean,
            low=pair.difference.interval.low if pair.difference.interval else None,
            high=pair.difference.interval.high if pair.difference.interval else None,
            sentence=sentence(pair),
        )
        for pair in comparison.pairs
        if pair.difference is not None
    )
    return DifferenceInfo(metric.unit, metric.digits, bars)


# --- grid ------------------------------------------------------------------------------------------------------------


class GridPanel(NamedTuple):
    """One heat map: rows are y levels, columns x levels; a value is None where the point is not complete."""

    label: str
    values: tuple[tuple[float | None, ...], ...]
    statuses: tuple[tuple[PointStatus, ...], ...]


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
    if not values:
        return 0.0, 1.0
    maximize = comparison.protocol.direction == "maximize"
    low, high = np.quantile(values, (0.25, 1.0) if maximize else (0.0, 0.75))
    return float(low), float(high)


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
    )


def _place(
    result: CellResult, x: str, y: str, others: Sequence[str], combinations: Sequence[tuple[float, ...]]
) -> GridPlace | None:
    if result.winner is None:
        return None
    chosen, levels = result.winner.hyperparameters, result.cell.grid.values
    panel = combinations.index(tuple(chosen[name] for name in others))
    return GridPlace(panel, levels[y].index(chosen[y]), levels[x].index(chosen[x]))


# --- learning curves -------------------------------------------------------------------------------------------------


class Curve(NamedTuple):
    """A winner's curve over epochs: mean, least and greatest over its n runs; margins are medians over examples.

    `switch` is the epoch at which LAWN's constraint starts; None for base optimizers.
    """

    optimizer: str
    phase: Phase
    n: int
    epochs: tuple[int, ...]
    metric: tuple[float | None, ...]
    least: tuple[float | None, ...]
    greatest: tuple[float | None, ...]
    margin: tuple[float | None, ...]
    switch: float | None


class CurveInfo(NamedTuple):
    """The winners' curves at one batch size."""

    batch_size: int
    metric: str
    unit: str
    digits: int
    curves: tuple[Curve, ...]


def curve_keys(comparison: Comparison) -> tuple[str, ...]:
    """Returns the keys of the trials whose curves `curve_infos` draws."""
    estimates = [result.estimate for result in comparison.cells if result.estimate is not None]
    return tuple(key for estimate in estimates for key in estimate.keys.values())


def curve_infos(comparison: Comparison, curves: Curves) -> tuple[CurveInfo, ...]:
    """Returns the winners' curves, one figure a batch size; sizes without a curve are left out."""
    name = comparison.protocol.metric
    metric = metric_of(name)
    infos = [
        CurveInfo(size, metric_name(name), metric.unit, metric.digits, tuple(_curves_at(comparison, size, curves)))
        for size in comparison.batch_sizes
    ]
    return tuple(info for info in infos if info.curves)


def _curves_at(comparison: Comparison, batch_size: int, curves: Curves) -> Iterator[Curve]:
    for optimizer in comparison.optimizers:
        result = comparison.cell(optimizer, batch_size)
        if result is not None and result.winner is not None and result.estimate is not None:
            curve = _curve(result, result.winner.hyperparameters, result.estimate, curves)
            if curve is not None:
                yield curve


def _curve(result: CellResult, winner: Mapping[str, float], estimate: Estimate, curves: Curves) -> Curve | None:
    series = estimate.series.split("/", 1)[1]
    known = [curves[key] for key in estimate.keys.values() if series in curves.get(key, {})]
    if not known:
        return None
    values = _stacked([run[series] for run in known])
    margins = _stacked([run["margin_p50"] for run in known if "margin_p50" in run])
    chosen = _thinned(values.shape[1])
    return Curve(
        optimizer=result.cell.name.optimizer,
        phase=estimate.phase,
        n=len(known),
        epochs=tuple(int(i) + 1 for i in chosen),
        metric=_picked(values.mean(axis=0), chosen),
        least=_picked(values.min(axis=0), chosen),
        greatest=_picked(values.max(axis=0), chosen),
        margin=_picked(margins.mean(axis=0), chosen) if margins.size else (None,) * len(chosen),
        switch=winner.get("free_epochs"),
    )


def _stacked(runs: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Returns runs [n, epochs], cut to the shortest."""
    if not runs:
        return np.empty((0, 0))
    shortest = min(len(run) for run in runs)
    return np.stack([run[:shortest] for run in runs])


def _thinned(epochs: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, epochs - 1, min(epochs, CURVE_POINTS)).round().astype(np.int64))


def _picked(statistic: NDArray[np.float64], chosen: NDArray[np.int64]) -> tuple[float | None, ...]:
    """Returns a statistic [epochs] at the chosen epochs; None where some run has no value."""
    return tuple(
        None if i >= len(statistic) or not math.isfinite(statistic[i]) else float(statistic[i]) for i in chosen
    )
