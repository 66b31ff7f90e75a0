"""A cell's trials as lines over their hyperparameters and what they reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from dashboards.numbers.ranges import better_part
from lawn_tune.cells import Cell
from lawn_tune.planning.selection import search_series
from lawn_tune.results import FINISHED, TrialRow
from lawn_tune.words import metric_name, metric_of
from trainables.catalogue.rows import Direction


class ParallelAxis(NamedTuple):
    """A hyperparameter by level: `places` holds the index in `levels` of each line."""

    name: str
    levels: tuple[float, ...]
    places: tuple[int, ...]


class ParallelInfo(NamedTuple):
    """One line a finished search trial: its level on each axis, and its value; NaN is never in it.

    `values` are None for trials that diverged; `low` and `high` bound the colours and hold the better three quarters.
    """

    optimizer: str
    batch_size: int
    value: str
    unit: str
    digits: int
    direction: Direction
    axes: tuple[ParallelAxis, ...]
    values: tuple[float | None, ...]
    low: float
    high: float

    @property
    def ends(self) -> tuple[float, float]:
        """Least and greatest value on the metric's axis: the better three quarters, and a little on the worse side."""
        pad = 0.15 * (self.high - self.low) or 0.5
        return (self.low - pad, self.high) if self.direction == "maximize" else (self.low, self.high + pad)

    @property
    def beyond(self) -> int:
        """Values that are worse than the axis shows, and so are drawn at its end."""
        low, high = self.ends
        return sum(value is not None and not low <= value <= high for value in self.values)


def parallel_info(cell: Cell, rows: Sequence[TrialRow]) -> ParallelInfo:
    """Returns the lines of a cell's finished search trials; trials of other grids or budgets are left out."""
    found = {row.key: row for row in rows}
    planned = [trial for trial in cell.search_trials if trial.key in found]
    shown = [trial for trial in planned if found[trial.key].outcome in FINISHED]
    series, metric = search_series(cell.protocol), metric_of(cell.protocol.metric)
    values = tuple(_finite(found[trial.key].summary.get(series), found[trial.key]) for trial in shown)
    known = [value for value in values if value is not None]
    low, high = better_part(known, cell.protocol.direction)
    return ParallelInfo(
        optimizer=cell.name.optimizer,
        batch_size=cell.name.batch_size,
        value=f"{cell.protocol.selection} {metric_name(cell.protocol.metric)}",
        unit=metric.unit,
        digits=metric.digits,
        direction=cell.protocol.direction,
        axes=tuple(
            ParallelAxis(name, levels, tuple(levels.index(trial.hyperparameters[name]) for trial in shown))
            for name, levels in _varied(cell)
        ),
        values=values,
        low=low,
        high=high,
    )


def _varied(cell: Cell) -> list[tuple[str, tuple[float, ...]]]:
    """Returns the hyperparameters that a grid varies with their levels, ascending; all of them if it varies none."""
    levels = [(name, tuple(sorted(values))) for name, values in cell.grid.values.items()]
    return [(name, values) for name, values in levels if len(values) > 1] or levels


def _finite(value: float | None, row: TrialRow) -> float | None:
    return value if row.outcome == "complete" and value is not None and math.isfinite(value) else None
