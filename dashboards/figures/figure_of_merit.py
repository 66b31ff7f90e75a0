"""Which figure of merit is shown: the protocol's, or another that the same trials carry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lawn_tune.cells import Cell, Phase
from lawn_tune.comparison.comparison import CellResult
from lawn_tune.comparison.inference import mean_and_error
from lawn_tune.results import TrialRow
from lawn_tune.words import metric_name, metric_of

Rows = Mapping[str, TrialRow]
"""Key → trial."""

_OTHERS = (("ece", "ECE, lower is better", "", 4), ("last/train_loss", "train loss", "", 4))
"""Series without a split: key, name, unit, digits. A ranking has no calibration."""


class Measure(NamedTuple):
    """A figure of merit.

    Args:
        key: names it in an address: "last/hr@10", "ece".
        name: as displayed, "HR@10 of the last epoch".
        unit, digits: how it is printed.
        metric: of the dataset, None where it is another series.
        chosen: it is the one that the protocol reports, so that `compare` has its statistics.
    """

    key: str
    name: str
    unit: str
    digits: int
    metric: str | None
    chosen: bool

    def series(self, split: str) -> str:
        """Returns its name in a trial's summary."""
        if self.metric is None:
            return self.key
        return f"{self.key.partition('/')[0]}/{split}/{self.metric}"


class Measured(NamedTuple):
    """A cell's value of a measure; `error` is a standard error over n seeds, None for one seed and a search value."""

    mean: float
    error: float | None
    n: int
    phase: Phase


def measures(cells: Sequence[Cell]) -> tuple[Measure, ...]:
    """Returns what the cells of a space can report, the protocol's first, whether or not a trial has finished yet."""
    cell = cells[0]
    first = _measure(cell.protocol.reported, cell.protocol.metric, chosen=True)
    dataset = cell.task.catalogue.datasets.get(cell.task.dataset)
    names = dict.fromkeys((cell.protocol.metric, *(dataset.metrics if dataset else ())))
    found = [_measure(epoch, name) for name in names for epoch in ("last", "best")]
    classes = dataset is not None and dataset.targets == "classes"
    others = [Measure(*other, None, False) for other in _OTHERS if classes or other[0] != "ece"]
    return (first, *(measure for measure in (*found, *others) if measure.key != first.key))


def _measure(epoch: str, metric: str, *, chosen: bool = False) -> Measure:
    known = metric_of(metric)
    name = metric_name(metric)
    return Measure(f"{epoch}/{metric}", f"{name}, {epoch} epoch", known.unit, known.digits, metric, chosen)


def measured(result: CellResult, measure: Measure, phase: Phase, rows: Rows) -> Measured | None:
    """Returns a cell's value of a measure, or None.

    Args:
        phase: "confirm" takes the winner's fresh runs on test, and where there is none its search trials; "search" its
            search trials on the split that selects.
        rows: the space's trials by key.
    """
    if phase == "confirm" and result.confirmed is not None:
        if measure.chosen:
            return Measured(result.confirmed.mean, result.confirmed.error, result.confirmed.n, "confirm")
        return _over(tuple(result.confirmed.keys.values()), measure.series("test"), "confirm", rows)
    if result.winner is None:
        return None
    return _over(result.winner.keys, measure.series(result.cell.protocol.selection), "search", rows)


def _over(keys: Sequence[str], series: str, phase: Phase, rows: Rows) -> Measured | None:
    found = [rows[key].summary.get(series) for key in keys if key in rows]
    values = [value for value in found if value is not None and math.isfinite(value)]
    if not values:
        return None
    mean, error = mean_and_error(values)
    return Measured(mean, error if phase == "confirm" else None, len(values), phase)
