"""The paper's Figure 2: the metric against the batch size, one line per method."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank, named, with_unit
from dashboards.figures.panels import dodge, gapped, log_range, whiskers
from dashboards.figures.untrained import Level, draw_levels, levels
from lawn_tune.cells import Phase
from lawn_tune.comparison.comparison import Comparison
from lawn_tune.words import fixed, metric_name, metric_of


class BatchSizeLine(NamedTuple):
    """One method's values over batch sizes, ascending; `errors` are standard errors, None where there is none."""

    optimizer: str
    batch_sizes: tuple[int, ...]
    means: tuple[float, ...]
    errors: tuple[float | None, ...]
    counts: tuple[int, ...]
    phases: tuple[Phase, ...]


class BatchSizeInfo(NamedTuple):
    """The paper's Figure 2: the metric against the batch size, one line per method."""

    metric: str
    unit: str
    digits: int
    lines: tuple[BatchSizeLine, ...]
    untrained: tuple[Level, ...] = ()


def batch_size_info(comparison: Comparison) -> BatchSizeInfo:
    """Returns each method's confirmed values, and its search values where there is no other, over batch sizes."""
    name = comparison.protocol.metric
    metric = metric_of(name)
    lines = [_batch_size_line(comparison, optimizer) for optimizer in comparison.optimizers]
    shown = tuple(line for line in lines if line.batch_sizes)
    return BatchSizeInfo(metric_name(name), metric.unit, metric.digits, shown, levels(comparison.references, name))


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


# --- drawing ----------------------------------------------------------------------------------------------------------


def batch_size_figure(info: BatchSizeInfo) -> go.Figure:
    """Draws the metric against the batch size on a log axis, with ± one standard error; open markers: unconfirmed.

    No line joins a search value to a test value.
    """
    sizes = sorted({size for line in info.lines for size in line.batch_sizes})
    figure = blank(height=420)
    for i, line in enumerate(info.lines):
        figure.add_trace(_batch_size_trace(info, line, dodge(sizes, i, len(info.lines))))
    ticks = {
        "range": log_range(sizes) if sizes else None,
        "tickvals": sizes,
        "ticktext": [f"{size:,}" for size in sizes],
        "minor": {"ticks": ""},
        "automargin": True,
    }
    figure.update_xaxes(type="log", title_text="Batch size (examples per step, log scale)", **ticks)
    figure.update_yaxes(title_text=with_unit(f"Test {info.metric}", info.unit))
    draw_levels(figure, info.untrained, [mean for line in info.lines for mean in line.means], info.digits)
    return figure


def _batch_size_trace(info: BatchSizeInfo, line: BatchSizeLine, aside: float) -> go.Scatter:
    confirmed = [phase == "confirm" for phase in line.phases]
    texts = []
    for size, mean, error, n, sure in zip(
        line.batch_sizes, line.means, line.errors, line.counts, confirmed, strict=True
    ):
        spread = "" if error is None else f" ± {fixed(error, info.digits)}"
        value = f"{fixed(mean, info.digits)}{spread} {info.unit}, n = {n}"
        source = "confirmed on test" if sure else "search value, not confirmed"
        texts.append(f"<b>{named(line.optimizer)}</b>, batch {size:,}<br>{escape(value)}<br>{source}")
    color = style.color(line.optimizer)
    return go.Scatter(
        name=named(line.optimizer),
        x=gapped([size * aside for size in line.batch_sizes], line.phases),
        y=gapped(line.means, line.phases),
        mode="lines+markers",
        line={"color": color, "width": 2, "dash": style.dash(line.optimizer)},
        marker={
            "size": 9,
            "color": color,
            "line": {"width": 2, "color": color},
            "symbol": [
                style.symbol(line.optimizer, confirmed=phase != "search") for phase in gapped(line.phases, line.phases)
            ],
        },
        error_y=whiskers(gapped(line.errors, line.phases)),
        hovertext=gapped(texts, line.phases),
        hoverinfo="text",
    )
