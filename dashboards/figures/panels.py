"""Panels one below the other that share an x axis, and what several figures put into them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import plotly.graph_objects as go

from dashboards import style
from search_spaces.levels import text as level_text
from trainables.catalogue.rows import Direction

T = TypeVar("T")

Window = tuple[float, float]
"""Lowest and highest value that a panel shows."""


def better_part(values: Sequence[float], direction: Direction) -> tuple[float, float]:
    """Returns the ends of the better three quarters, so that bad points do not squeeze the good; (0, 1) of nothing."""
    if not values:
        return 0.0, 1.0
    low, high = np.quantile(values, (0.25, 1.0) if direction == "maximize" else (0.0, 0.75))
    return float(low), float(high)


def shown(low: float, high: float) -> Window:
    """Returns a window a little wider than what it must show."""
    pad = 0.12 * (high - low) or 1.0
    return low - 2 * pad, high + pad


def within(value: float, window: Window) -> float:
    """Returns the value, or the border of the window that it lies beyond."""
    return min(max(value, window[0]), window[1])


def mark(value: float, window: Window) -> str:
    """Returns the symbol of a point: one beyond the window is an open triangle that points to it."""
    if value < window[0]:
        return "triangle-down-open"
    return "triangle-up-open" if value > window[1] else "circle"


MAX_LABELS = 9


def sampled(n: int, most: int) -> list[int]:
    """Returns at most `most` of n ranks, evenly spread, with the first and last: more marks would hide each other."""
    return list(range(n)) if n <= most else [round(i * (n - 1) / (most - 1)) for i in range(most)]


GAP = 0.08
"""Between two panels, as a share of the figure."""


def domains(count: int) -> list[list[float]]:
    """Returns the vertical places of panels, the first at the top."""
    height = (1 - GAP * (count - 1)) / count
    return [[max(0.0, 1 - i * (height + GAP) - height), 1 - i * (height + GAP)] for i in range(count)]


def axis(i: int) -> str:
    """Returns how Plotly numbers axes: "", "2", "3", …"""
    return "" if i == 0 else str(i + 1)


def level_axis(levels: Sequence[float]) -> dict[str, Any]:
    """Returns an axis with evenly spaced levels, whatever their values."""
    texts = [level_text(level) for level in levels]
    named = labeled(texts)
    return {
        "tickvals": named,
        "ticktext": [texts[i] for i in named],
        "tickangle": 0,
        "range": [-0.6, len(levels) - 0.4],
        "showgrid": False,
        "zeroline": False,
    }


def labeled(texts: Sequence[str]) -> list[int]:
    """Returns which of many labels are written along an axis: every n-th, so that they do not overlap."""
    longest = max(map(len, texts), default=0)
    most = max(2, min(MAX_LABELS, 48 // (longest + 1)))
    return list(range(0, len(texts), -(-len(texts) // most)))


def log_ticks(low: float, high: float) -> list[float]:
    """Returns round values of a log axis: 1, 2, 5, 10, … that lie between two positive ones."""
    decades = range(-6, 10)
    return [
        m * 10.0**d
        for d in decades
        for m in (1, 2, 5)
        if low <= m * 10.0**d * (1 + 1e-9) and m * 10.0**d <= high * (1 + 1e-9)
    ]


def round_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Returns multiples of 1, 2 or 5 times a power of ten from `low` to `high`, at least two and at most `most`."""
    for step in (m * 10.0**d for d in range(math.floor(math.log10(high - low)) - 2, 400) for m in (1, 2, 5)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [float(f"{i * step:.12g}") for i in range(first, last + 1)]
    return []


def log_range(sizes: Sequence[float]) -> list[float]:
    """Returns the ends of a log axis in decades, with air on both sides; half a decade each where there is one size."""
    low, high = math.log10(min(sizes)), math.log10(max(sizes))
    air = 0.08 * (high - low) or 0.5
    return [low - air, high + air]


def dodge(sizes: Sequence[float], i: int, n: int) -> float:
    """Returns the factor that moves line i of n a little sideways, so that error bars do not hide each other."""
    decades = math.log10(max(sizes) / min(sizes)) if len(sizes) > 1 else 1.0
    return float(10 ** (0.014 * decades * (i - (n - 1) / 2)))


def whiskers(errors: Sequence[float | None]) -> dict[str, Any] | None:
    """Returns error bars, none at a value without an error."""
    if not any(errors):
        return None
    return {"array": [error or 0 for error in errors], "thickness": 1.5, "width": 4}


def gapped(values: Sequence[T], kinds: Sequence[object]) -> list[T | None]:
    """Returns the values with None between neighbors of different kinds, so that no line joins these."""
    found: list[T | None] = []
    for i, value in enumerate(values):
        if i and kinds[i] != kinds[i - 1]:
            found.append(None)
        found.append(value)
    return found


def spread(n: int, width: float = 0.5) -> list[float]:
    """Returns n offsets around 0, the same ones always, so that points of one place do not hide each other."""
    if n <= 5:
        return [width * ((i + 0.5) / n - 0.5) for i in range(n)]
    golden = 0.6180339887
    return [width * (((i + 1) * golden) % 1 - 0.5) for i in range(n)]


def dots(
    x: Sequence[float],
    values: Sequence[float],
    window: Window,
    color: str,
    texts: Sequence[str],
    keys: Sequence[str],
    *,
    opacity: float,
    **where: Any,
) -> go.Scatter:
    """Returns points; those beyond the window are drawn on its border as open triangles."""
    return go.Scatter(
        x=list(x),
        y=[within(value, window) for value in values],
        mode="markers",
        marker={
            "size": 6,
            "opacity": opacity,
            "color": color,
            "symbol": [mark(value, window) for value in values],
        },
        hovertext=list(texts),
        hoverinfo="text",
        customdata=list(keys),
        cliponaxis=False,
        **where,
    )


def crosses(
    x: Sequence[float], y: Sequence[float], texts: Sequence[str], keys: Sequence[str], **where: Any
) -> go.Scatter:
    """Returns crosses for what has no value, such as diverged points."""
    return go.Scatter(
        x=list(x),
        y=list(y),
        mode="markers",
        marker={"symbol": "x-thin", "size": 7, "opacity": 0.6, "line": {"width": 1.5, "color": style.FRAME}},
        hovertext=list(texts),
        hoverinfo="text",
        customdata=list(keys),
        showlegend=False,
        cliponaxis=False,
        **where,
    )
