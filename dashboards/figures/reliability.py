"""Reliability diagrams of trials, on one pair of axes."""

from __future__ import annotations

from html import escape

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank
from dashboards.figures.dynamics import tint
from dashboards.numbers.reliability import ReliabilityInfo, ReliabilityLine


def reliability_figure(info: ReliabilityInfo) -> go.Figure:
    """Draws accuracy against confidence, and below it how many predictions each bin holds; calibrated: the diagonal."""
    figure = blank(height=470, legend=False)
    diagonal = {"color": style.ZERO, "width": 1.2, "dash": "2px,3px"}
    figure.add_trace(go.Scatter(x=[0, 100], y=[0, 100], mode="lines", line=diagonal, hoverinfo="skip"))
    for line in info.lines:
        figure.add_traces([_accuracy(line), _shares(line, info.bins)])
    figure.update_layout(
        xaxis={"title": {"text": "Confidence of the predicted class (%)"}, "anchor": "y2", "range": [0, 101]},
        yaxis={"title": {"text": "Accuracy (%)"}, "domain": [0.36, 1], "range": [0, 102]},
        yaxis2={"title": {"text": "Share (%)"}, "domain": [0, 0.26], "rangemode": "tozero", "anchor": "x", "nticks": 4},
        hovermode="closest",
        margin={"t": 16, "b": 48},
    )
    return figure


def _accuracy(line: ReliabilityLine) -> go.Scatter:
    return go.Scatter(
        x=[100 * b.confidence for b in line.bins],
        y=[100 * b.accuracy for b in line.bins],
        mode="lines+markers",
        line={"color": _faint(tint(line.trial)), "width": 1.2, "dash": style.dash(line.trial.optimizer)},
        marker={"color": tint(line.trial), "size": [5 + 11 * (b.examples / line.examples) ** 0.5 for b in line.bins]},
        cliponaxis=False,
        hovertext=[
            f"<b>{line.trial.letter}  {escape(line.trial.name)}</b><br>"
            f"{b.examples:,} of {line.examples:,} predictions<br>"
            f"confidence {100 * b.confidence:.1f} %, right {100 * b.accuracy:.1f} %"
            for b in line.bins
        ],
        hoverinfo="text",
    )


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.5)"


def _shares(line: ReliabilityLine, bins: int) -> go.Scatter:
    counts = {b.place: b.examples for b in line.bins}
    shares = [100 * counts.get(i, 0) / line.examples for i in range(bins)]
    return go.Scatter(
        x=[100 * i / bins for i in range(bins + 1)],
        y=[*shares, shares[-1]],
        yaxis="y2",
        mode="lines",
        line={"color": tint(line.trial), "width": 1.5, "shape": "hv", "dash": style.dash(line.trial.optimizer)},
        hoverinfo="skip",
    )
