"""A measure against the batch size: our values with their errors, the paper's behind them, faint and dotted."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank, capital, named, with_unit
from dashboards.figures.legends import UNDER
from dashboards.figures.panels import dodge, log_range, whiskers
from dashboards.numbers.batch_curves import BatchCurve, BatchCurves, BatchPoint
from lawn_tune.words import fixed

PAPER_DASH = "2px,3px"


def batch_curves_figure(info: BatchCurves) -> go.Figure:
    """Draws every method over batch sizes on a log axis, ± one standard error; open markers are unconfirmed."""
    figure = blank(height=410)
    figure.update_layout(margin={"t": 12, "b": 108}, legend=UNDER)
    sizes = _sizes(info)
    for curve in info.curves:
        if curve.paper:
            figure.add_trace(_paper(curve))
    for i, curve in enumerate(info.curves):
        figure.add_trace(_ours(curve, info, dodge(sizes, i, len(info.curves))))
    if any(curve.paper for curve in info.curves):
        figure.add_trace(_paper_key())
    ticks = {
        "tickvals": sizes,
        "ticktext": _ticks(sizes),
        "minor": {"ticks": ""},
        "automargin": True,
    }
    figure.update_xaxes(
        type="log", title_text="batch size (examples per step, log scale)", range=log_range(sizes), **ticks
    )
    name = info.measure.name if info.measure.metric is None else f"{info.split} {info.measure.name}"
    figure.update_yaxes(title_text=capital(with_unit(name, info.measure.unit)))
    return figure


def _ours(curve: BatchCurve, info: BatchCurves, aside: float) -> go.Scatter:
    colour = style.colour(curve.optimizer)
    confirmed = [point.value.phase == "confirm" for point in curve.points]
    return go.Scatter(
        name=named(curve.optimizer),
        x=[point.batch_size * aside for point in curve.points],
        y=[point.value.mean for point in curve.points],
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": style.dash(curve.optimizer)},
        marker={
            "size": 9, "color": colour, "line": {"width": 2, "color": colour},
            "symbol": [style.symbol(curve.optimizer, confirmed=sure) for sure in confirmed],
        },
        error_y=whiskers([point.value.error for point in curve.points]),
        hovertext=[_hover(curve.optimizer, point, info) for point in curve.points],
        hoverinfo="text",
    )  # fmt: skip


def _hover(optimizer: str, point: BatchPoint, info: BatchCurves) -> str:
    value, digits = point.value, info.measure.digits
    spread = "" if value.error is None else f" ± {fixed(value.error, digits)}"
    sure = "fresh seeds, on test" if value.phase == "confirm" else "search value, not confirmed"
    lines = [
        f"<b>{named(optimizer)}</b>, batch {point.batch_size:,}",
        escape(f"{fixed(value.mean, digits)}{spread} {info.measure.unit}".strip() + f", n = {value.n}"),
        sure,
    ]
    caveats = escape(", ".join(dict.fromkeys(point.caveats)))
    return "<br>".join([*lines, *([caveats] if caveats else [])])


def _paper(curve: BatchCurve) -> go.Scatter:
    colour = style.colour(curve.optimizer)
    return go.Scatter(
        x=[value.batch_size for value in curve.paper],
        y=[value.mean for value in curve.paper],
        mode="lines+markers",
        opacity=0.5,
        showlegend=False,
        line={"color": colour, "width": 1.5, "dash": PAPER_DASH},
        marker={"size": 6, "color": colour, "symbol": style.symbol(curve.optimizer, confirmed=True)},
        hovertext=[
            f"paper, Table {value.table}: {named(curve.optimizer)}, batch {escape(value.batch)}<br>{value.text}, "
            f"{value.epochs} epochs, 3 runs"
            for value in curve.paper
        ],
        hoverinfo="text",
    )


def _paper_key() -> go.Scatter:
    """Returns a trace without points, for the legend."""
    line = {"color": style.ZERO, "width": 1.5, "dash": PAPER_DASH}
    return go.Scatter(
        x=[None], y=[None], mode="lines+markers", name="paper", line=line, marker={"size": 6}, opacity=0.7
    )


def _sizes(info: BatchCurves) -> list[int]:
    ours = {point.batch_size for curve in info.curves for point in curve.points}
    paper = {value.batch_size for curve in info.curves for value in curve.paper if value.batch_size is not None}
    return sorted(ours | paper)


def _ticks(sizes: Sequence[int]) -> list[str]:
    """Returns the sizes as the paper writes them, "10k", where all of them can be; else in full."""
    if any(size >= 1_000 and size % 1_000 for size in sizes):
        return [f"{size:,}" for size in sizes]
    return [
        f"{size // 1_000_000}M" if size % 1_000_000 == 0 else f"{size // 1_000}k" if size >= 1_000 else str(size)
        for size in sizes
    ]
