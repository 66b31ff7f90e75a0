"""Paired differences with their intervals."""

from __future__ import annotations

from typing import NamedTuple

from lawn_tune.compare import Comparison
from lawn_tune.verdicts import sentence
from lawn_tune.words import method, metric_of


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
