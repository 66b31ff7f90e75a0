"""The metric against the batch size: one line a method."""

from __future__ import annotations

from typing import NamedTuple

from lawn_tune.cells import Phase
from lawn_tune.comparison.compare import Comparison
from lawn_tune.words import metric_name, metric_of


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
