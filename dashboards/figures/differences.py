"""Paired differences as a forest of intervals."""

from __future__ import annotations

from html import escape

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank
from dashboards.numbers import DifferenceInfo
from lawn_tune.words import signed


def difference_figure(info: DifferenceInfo) -> go.Figure:
    """Draws LAWN − WD with its 95 % interval for each pair; zero is where nothing can be told."""
    figure = blank(height=110 + 46 * max(1, len(info.bars)), legend=False)
    for bar in info.bars:
        low, high = bar.low if bar.low is not None else bar.mean, bar.high if bar.high is not None else bar.mean
        colour = style.colour(bar.lawn)
        figure.add_trace(
            go.Scatter(
                x=[bar.mean],
                y=[_two_lines(bar.label)],
                mode="markers",
                marker={"size": 10, "color": colour, "symbol": "circle" if bar.low is not None else "circle-open"},
                error_x={"array": [high - bar.mean], "arrayminus": [bar.mean - low], "thickness": 2.5, "width": 6},
                hovertext=[_wrapped(f"{signed(bar.mean, info.digits)}. {bar.sentence}")],
                hoverinfo="text",
                showlegend=False,
            )
        )
    figure.add_vline(x=0, line={"width": 1.5, "color": style.ZERO})
    figure.update_xaxes(title_text="LAWN − WD (points)", rangemode="tozero")
    below = len(info.bars) - 0.5
    figure.update_yaxes(
        range=[max(below, 0.5), -0.5], type="category", automargin=True, title_text=None, showgrid=False
    )
    return figure


def _two_lines(label: str) -> str:
    first, _, second = label.partition(", ")
    return f"{escape(first)}<br>{escape(second)}"


def _wrapped(text: str, width: int = 60) -> str:
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{word} "
    return "<br>".join(escape(line.strip()) for line in lines)
