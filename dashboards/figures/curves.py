"""Learning curves of the winners."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank, capital, named, with_unit
from dashboards.numbers import Curve, CurveInfo


def curve_figure(info: CurveInfo) -> go.Figure:
    """Draws the winners' metric with the range of its runs, and the median margin below; diamonds mark the switch."""
    figure = blank(height=470)
    for curve in info.curves:
        figure.add_trace(_band(curve))
        figure.add_trace(_line(info, curve, curve.metric, "y", info.unit, legend=True))
        figure.add_trace(_line(info, curve, curve.margin, "y2", "", legend=False))
        if curve.switch is not None and 0 < curve.switch < curve.epochs[-1]:
            figure.add_traces([_switch(curve, curve.metric, "y"), _switch(curve, curve.margin, "y2")])
    figure.update_layout(
        title_text=f"<b>Batch {info.batch_size:,}</b>",
        hovermode="x unified",
        xaxis={"title": {"text": "Epoch"}, "anchor": "y2", "hoverformat": "d", "range": [0, 1.01 * _last(info)]},
        yaxis={
            "title": {"text": with_unit(capital(info.metric), info.unit)},
            "domain": [0.4, 1],
            "range": _focus(info),
        },
        yaxis2={"title": {"text": "Median margin (logits)"}, "domain": [0, 0.33], "anchor": "x", "rangemode": "tozero"},
    )
    return figure


def _last(info: CurveInfo) -> int:
    return max((epoch for curve in info.curves for epoch in curve.epochs), default=1)


def _band(curve: Curve) -> go.Scatter:
    known = [
        (epoch, low, high)
        for epoch, low, high in zip(curve.epochs, curve.least, curve.greatest, strict=True)
        if low is not None and high is not None
    ]
    return go.Scatter(
        x=[epoch for epoch, _, _ in known] + [epoch for epoch, _, _ in reversed(known)],
        y=[high for _, _, high in known] + [low for _, low, _ in reversed(known)],
        fill="toself",
        fillcolor=style.faint(curve.optimizer),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=curve.optimizer,
    )


def _line(
    info: CurveInfo, curve: Curve, values: Sequence[float | None], yaxis: str, unit: str, *, legend: bool
) -> go.Scatter:
    kind = f"n = {curve.n}" if curve.phase == "confirm" else f"search, n = {curve.n}"
    return go.Scatter(
        name=f"{named(curve.optimizer)} ({kind})",
        x=curve.epochs,
        y=values,
        yaxis=yaxis,
        mode="lines",
        line={"color": style.colour(curve.optimizer), "width": 1.8, "dash": style.dash(curve.optimizer)},
        hovertemplate=f"%{{y:.{info.digits}f}} {escape(unit)}",
        showlegend=legend,
        legendgroup=curve.optimizer,
    )


def _switch(curve: Curve, values: Sequence[float | None], yaxis: str) -> go.Scatter:
    """Returns the diamond at the last epoch of the free phase."""
    at = max((i for i, epoch in enumerate(curve.epochs) if epoch <= (curve.switch or 0)), default=0)
    return go.Scatter(
        x=[curve.epochs[at]],
        y=[values[at]],
        yaxis=yaxis,
        mode="markers",
        marker={"symbol": "diamond", "size": 10, "color": style.colour(curve.optimizer), "line": {"width": 1}},
        name=f"{named(curve.optimizer)} constrained from epoch {curve.switch:g}",
        hovertemplate=" ",
        showlegend=False,
        legendgroup=curve.optimizer,
    )


def _focus(info: CurveInfo) -> list[float] | None:
    """Returns a range that shows the last nine tenths of training; the steep start can be zoomed out to."""
    late = [
        value
        for curve in info.curves
        for low, high in zip(curve.least, curve.greatest, strict=True)
        for value in (low, high)
        if value is not None
    ]
    start = [
        value
        for curve in info.curves
        for epoch, value in zip(curve.epochs, curve.least, strict=True)
        if value is not None and epoch >= 0.1 * curve.epochs[-1]
    ]
    if not late or not start or min(start) == max(late):
        return None
    pad = 0.05 * (max(late) - min(start))
    return [min(start) - pad, max(late) + pad]
