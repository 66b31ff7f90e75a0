"""What needs no training, in figures of a metric: a line among the methods' values, or a note where it lies beyond."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

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
        figure: with one panel.
        drawn: levels.
        values: of the methods.
        digits: decimals of a value.
    """
    for label, value in drawn if values else ():
        text = escape(f"{label} {fixed(value, digits)}")
        if min(values) <= value <= max(values):
            line = {"color": style.ZERO, "width": 1, "dash": "dot"}
            figure.add_hline(y=value, line=line, annotation_text=text, annotation_position="bottom right")
            continue
        below = value < min(values)
        figure.add_annotation(
            text=f"{text} {'↓' if below else '↑'}", showarrow=False,
            xref="paper", x=1, xanchor="right", yref="paper", y=0 if below else 1, yanchor="bottom" if below else "top",
        )  # fmt: skip
