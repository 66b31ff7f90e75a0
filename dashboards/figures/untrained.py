"""What needs no training, in figures of a metric: a line among the methods' values, or a note where it lies beyond."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from dashboards import style
from lawn_tune.comparison.references import Reference
from lawn_tune.words import fixed

Level = tuple[str, float]
"""Label and value of a reference."""


def levels(references: Sequence[Reference], metric: str | None) -> tuple[Level, ...]:
    """Returns the references that have one value of a metric on test."""
    values = [(found.label, found.value(metric or "")) for found in references]
    return tuple((label, value) for label, value in values if value is not None)


def draw_levels(figure: go.Figure, drawn: Sequence[Level], values: Sequence[float], digits: int) -> None:
    """Adds each level as a dotted line; one beyond the values only as a note, so that it does not squeeze them.

    Args:
        figure: with one panel, whose x axis is logarithmic and has a range.
        drawn: levels.
        values: of the methods.
        digits: decimals of a value.
    """
    if not drawn or not values:
        return
    marks = _marks(figure)
    for label, value in drawn:
        text = escape(f"{label} {fixed(value, digits)}")
        if min(values) <= value <= max(values):
            figure.add_hline(y=value, line={"width": 1, "color": style.ZERO, "dash": "dot"})
            low, high = min(y for _, y in marks), max(y for _, y in marks)
            place = {"yref": "y", "y": value, **_free(marks, (value - low) / (high - low or 1.0), ("top", "bottom"))}
        else:
            below = value < min(values)
            text = f"{text} {'↓' if below else '↑'}"
            edge = 0 if below else 1
            place = {"yref": "paper", "y": edge, **_free(marks, edge, ("bottom",) if below else ("top",))}
        figure.add_annotation(text=text, showarrow=False, xref="paper", **place)


_Mark = tuple[float, float]
"""Where something is drawn: share of the x axis, and value."""

_WIDE, _HIGH = 0.32, 0.08
"""Room for a text, in parts of a panel on a narrow screen."""


def _marks(figure: go.Figure) -> list[_Mark]:
    """Returns places close together along all lines and error bars."""
    start, end = figure.layout.xaxis.range
    found: list[_Mark] = []
    for trace in figure.data:
        errors = trace.error_y.array or [0.0] * len(trace.x)
        points = [
            ((math.log10(x) - start) / (end - start), y, error)
            for x, y, error in zip(trace.x, trace.y, errors, strict=True)
            if x is not None and y is not None
        ]
        found += [(x, y + error * i / 10) for x, y, error in points for i in range(-10, 11)]
        for (x, y, _), (next_x, next_y, _) in pairwise(points):
            found += [(x + (next_x - x) * i / 20, y + (next_y - y) * i / 20) for i in range(1, 20)]
    return found


def _free(marks: Sequence[_Mark], at: float, anchors: Sequence[str]) -> dict[str, Any]:
    """Returns where next to a height a text covers least of what is drawn, at the right end if that is as good.

    Args:
        marks: what is drawn.
        at: height as a share of the panel.
        anchors: "top" for a text below that height, "bottom" for one above.
    """
    low, high = min(y for _, y in marks), max(y for _, y in marks)
    shares = [(x, (y - low) / (high - low or 1.0)) for x, y in marks]
    places = [(anchor, x) for anchor in anchors for x in ("right", "left", "center")]

    def covered(place: tuple[str, str]) -> int:
        left = {"right": 1 - _WIDE, "left": 0.0, "center": 0.5 - _WIDE / 2}[place[1]]
        bottom = at - _HIGH if place[0] == "top" else at
        return sum(left <= x <= left + _WIDE and bottom <= y <= bottom + _HIGH for x, y in shares)

    anchor, x = min(places, key=covered)
    return {"x": {"right": 0.99, "left": 0.01, "center": 0.5}[x], "xanchor": x, "yanchor": anchor}
