"""What a smaller search would have found."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank, named, with_unit
from dashboards.figures.best_so_far import Spent
from dashboards.figures.panels import log_ticks
from dashboards.numbers.budget import BudgetInfo, BudgetLine, Drawn
from lawn_tune.words import duration, fixed

_UNITS = ((7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""Longest time from which on a unit is used, seconds in it, and its name."""


def budget_figure(info: BudgetInfo, against: Spent = "points") -> go.Figure:
    """Draws the expected best of k random points with its band, and below it the test value of the point selected."""
    figure = blank(height=560)
    unit, name = _unit(info)
    for line in info.lines:
        x = [float(drawn.k) if against == "points" else drawn.seconds / unit for drawn in line.draws]
        figure.add_traces([_band(line, x), _expected(info, line, x), _tested(info, line, x)])
    ends = [x for line in info.lines for x in _ends(line, against, unit)]
    ticks = log_ticks(min(ends), max(ends))
    title = "Random grid points, k (log scale)" if against == "points" else f"Device time ({name}, log scale)"
    figure.update_layout(
        title_text=f"<b>Batch {info.batch_size:,}</b>",
        hovermode="closest",
        xaxis={
            "type": "log", "title": {"text": title}, "anchor": "y2",
            "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks],
        },
        yaxis={"title": {"text": with_unit(f"Best {info.value}", info.unit)}, "domain": [0.46, 1]},
        yaxis2={"title": {"text": with_unit(f"Its {info.test}", info.unit)}, "domain": [0, 0.4], "anchor": "x"},
        legend={"y": -0.13},
        margin={"t": 36},
    )  # fmt: skip
    return figure


def _unit(info: BudgetInfo) -> tuple[float, str]:
    most = max(line.seconds for line in info.lines)
    return next((size, name) for least, size, name in _UNITS if most >= least)


def _ends(line: BudgetLine, against: Spent, unit: float) -> Sequence[float]:
    first, last = line.draws[0], line.draws[-1]
    found = (float(first.k), float(last.k)) if against == "points" else (first.seconds / unit, last.seconds / unit)
    return [x for x in found if x > 0] or [1.0]


def _band(line: BudgetLine, x: Sequence[float]) -> go.Scatter:
    return go.Scatter(
        x=[*x, *reversed(x)],
        y=[*(drawn.high for drawn in line.draws), *(drawn.low for drawn in reversed(line.draws))],
        mode="lines",
        fill="toself",
        fillcolor=style.faint(line.optimizer),
        line={
            "width": 0.8,
            "color": style.faint(line.optimizer).replace("0.12", "0.6"),
            "dash": style.dash(line.optimizer),
        },
        hoverinfo="skip",
        showlegend=False,
        legendgroup=line.optimizer,
    )


def _expected(info: BudgetInfo, line: BudgetLine, x: Sequence[float]) -> go.Scatter:
    return go.Scatter(
        name=f"{named(line.optimizer)} ({line.finished} points)",
        x=list(x),
        y=[drawn.value for drawn in line.draws],
        mode="lines" if len(x) > 1 else "markers",
        line={"color": style.colour(line.optimizer), "width": 2, "dash": style.dash(line.optimizer)},
        hovertext=[_hover(info, line, drawn) for drawn in line.draws],
        hoverinfo="text",
        legendgroup=line.optimizer,
    )


def _tested(info: BudgetInfo, line: BudgetLine, x: Sequence[float]) -> go.Scatter:
    return go.Scatter(
        x=list(x),
        y=[drawn.test for drawn in line.draws],
        yaxis="y2",
        mode="lines" if len(x) > 1 else "markers",
        line={"color": style.colour(line.optimizer), "width": 2, "dash": style.dash(line.optimizer)},
        hovertext=[_hover(info, line, drawn) for drawn in line.draws],
        hoverinfo="text",
        showlegend=False,
        legendgroup=line.optimizer,
    )


def _hover(info: BudgetInfo, line: BudgetLine, drawn: Drawn) -> str:
    def text(value: float) -> str:
        return fixed(value, info.digits)

    points = f"{drawn.k} of {line.finished} points, {duration(drawn.seconds)}"
    best = f"best {info.value} {text(drawn.value)} (80 %: {text(drawn.low)} to {text(drawn.high)})"
    test = f"its {info.test} {text(drawn.test)}" if drawn.test is not None else ""
    parts = [f"<b>{named(line.optimizer)}</b>", *(escape(part) for part in (points, best, test) if part)]
    return "<br>".join(parts)
