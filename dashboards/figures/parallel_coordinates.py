"""A cell's trials as lines over their hyperparameters and values; no WebGL, whose code is compiled from text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank, capital, selecting
from dashboards.figures.panels import MAX_LABELS, better_part, round_ticks, sampled
from lawn_tune.cells import Cell
from lawn_tune.planning.selection import search_series
from lawn_tune.results import FINISHED, TrialRow
from lawn_tune.words import fixed, hyperparameter, metric_of
from search_spaces.levels import text as level_text
from trainables.catalogue.rows import Direction


class ParallelAxis(NamedTuple):
    """A hyperparameter by level: `places` holds the index in `levels` of each line."""

    name: str
    levels: tuple[float, ...]
    places: tuple[int, ...]


class ParallelInfo(NamedTuple):
    """One line per finished search trial: its level on each axis, and its value; NaN is never in it.

    `values` are None for trials that diverged; `low` and `high` bound the colors and hold the better three quarters.
    """

    optimizer: str
    batch_size: int
    value: str
    unit: str
    digits: int
    direction: Direction
    axes: tuple[ParallelAxis, ...]
    values: tuple[float | None, ...]
    low: float
    high: float

    @property
    def ends(self) -> tuple[float, float]:
        """Lowest and highest value on the metric's axis: the better three quarters, and a little on the worse side."""
        pad = 0.15 * (self.high - self.low) or 0.5
        return (self.low - pad, self.high) if self.direction == "maximize" else (self.low, self.high + pad)

    @property
    def beyond(self) -> int:
        """Values that are worse than the axis shows, and so are drawn at its end."""
        low, high = self.ends
        return sum(value is not None and not low <= value <= high for value in self.values)


def parallel_info(cell: Cell, rows: Sequence[TrialRow]) -> ParallelInfo:
    """Returns the lines of a cell's finished search trials; trials of other grids or budgets are left out."""
    found = {row.key: row for row in rows}
    planned = [trial for trial in cell.search_trials if trial.key in found]
    shown = [trial for trial in planned if found[trial.key].outcome in FINISHED]
    series, metric = search_series(cell.protocol), metric_of(cell.protocol.metric)
    values = tuple(_finite(found[trial.key].summary.get(series), found[trial.key]) for trial in shown)
    known = [value for value in values if value is not None]
    low, high = better_part(known, cell.protocol.direction)
    return ParallelInfo(
        optimizer=cell.name.optimizer,
        batch_size=cell.name.batch_size,
        value=selecting(cell),
        unit=metric.unit,
        digits=metric.digits,
        direction=cell.protocol.direction,
        axes=tuple(
            ParallelAxis(name, levels, tuple(levels.index(trial.hyperparameters[name]) for trial in shown))
            for name, levels in _varied(cell)
        ),
        values=values,
        low=low,
        high=high,
    )


def _varied(cell: Cell) -> list[tuple[str, tuple[float, ...]]]:
    """Returns the hyperparameters that a grid varies with their levels, ascending; all of them if it varies none."""
    levels = [(name, tuple(sorted(values))) for name, values in cell.grid.values.items()]
    return [(name, values) for name, values in levels if len(values) > 1] or levels


def _finite(value: float | None, row: TrialRow) -> float | None:
    return value if row.outcome == "complete" and value is not None and math.isfinite(value) else None


# --- drawing ----------------------------------------------------------------------------------------------------------


_FLOOR = -0.12
"""Where lines of diverged trials end, below the metric's axis, whose ends are 0 and 1."""


MAX_LINES = 120
"""Lines of one group that are drawn, evenly spread over their ranks."""


class _Group(NamedTuple):
    name: str
    color: str
    width: float
    opacity: float
    lines: list[int]


def parallel_figure(info: ParallelInfo) -> go.Figure:
    """Draws a line per trial, better ones stronger and in front; a click on the legend hides a group."""
    figure = blank(height=430)
    for group in _groups(info):
        figure.add_trace(_trace(info, group))
    _add_axes(figure, info)
    metric = f"{info.value} ({info.unit})" if info.unit else info.value
    figure.update_layout(
        margin={"t": 24, "b": 124, "l": 30, "r": 56},
        hovermode="closest",
        dragmode="select",
        legend={"y": -0.32},
        xaxis={
            "tickvals": list(range(len(info.axes) + 1)),
            "ticktext": [_lines(text) for text in (*(hyperparameter(axis.name) for axis in info.axes), metric)],
            "range": [-0.15, len(info.axes) + 0.15],
            "tickangle": 0,
            "showgrid": False, "showline": False, "ticks": "", "fixedrange": True, "zeroline": False,
        },
        yaxis={"visible": False, "range": [-0.2, 1.06], "fixedrange": True},
    )  # fmt: skip
    return figure


def _lines(name: str) -> str:
    """Returns a name of an axis in narrow lines."""
    return "<br>".join(escape(word) for word in capital(name).replace(" (", "\u00a0(").split(" "))


def _groups(info: ParallelInfo) -> list[_Group]:
    """Returns the lines by rank, worst first, so that the best are drawn last and seen."""
    sign = -1 if info.direction == "maximize" else 1
    known = sorted(
        (i for i, value in enumerate(info.values) if value is not None), key=lambda i: sign * (info.values[i] or 0)
    )
    n = len(known)
    cuts = [0, max(1, round(0.1 * n)), max(1, round(0.25 * n)), max(1, round(0.5 * n)), n]
    names = ("best 10 %", "10–25 %", "25–50 %", "worse half")
    looks = (
        (style.RANKS[0], 2.2, 0.95),
        (style.RANKS[1], 1.7, 0.85),
        (style.RANKS[2], 1.3, 0.6),
        (style.ZERO, 1.0, 0.22),
    )
    groups = [_Group(name, *look, known[a:b]) for name, look, a, b in zip(names, looks, cuts, cuts[1:], strict=False)]
    lost = [i for i, value in enumerate(info.values) if value is None]
    groups.append(_Group("diverged", style.ZERO, 1.0, 0.35, lost))
    return [group for group in reversed(groups) if group.lines]


def _trace(info: ParallelInfo, group: _Group) -> go.Scatter:
    shown = [group.lines[rank] for rank in sampled(len(group.lines), MAX_LINES)]
    some = f"{len(shown):,} of " if len(shown) < len(group.lines) else ""
    x: list[float | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for i in shown:
        x += [*range(len(info.axes) + 1), None]
        y += [*_heights(info, i), None]
        texts += [_hover(info, i)] * (len(info.axes) + 1) + [""]
    return go.Scatter(
        name=f"{group.name} ({some}{len(group.lines):,})",
        x=x,
        y=y,
        mode="lines",
        line={"color": group.color, "width": group.width, "dash": "2px,3px" if group.name == "diverged" else "solid"},
        opacity=min(1.0, group.opacity * max(1.0, (120 / max(1, len(info.values))) ** 0.5)),
        hovertext=texts,
        hoverinfo="text",
    )


def _heights(info: ParallelInfo, i: int) -> list[float]:
    value = info.values[i]
    share = _share(info, value)
    places = []
    for axis in info.axes:
        wobble = min(0.05, 0.3 / len(axis.levels)) * (2 * share - 1 if value is not None else -1)
        places.append(_height(axis, axis.places[i]) + wobble)
    return [*places, _FLOOR if value is None else share]


def _height(axis: ParallelAxis, place: int) -> float:
    """Returns the height of a level on its axis, which reaches a little beyond the first and the last."""
    return 0.06 + 0.88 * place / (len(axis.levels) - 1) if len(axis.levels) > 1 else 0.5


def _share(info: ParallelInfo, value: float | None) -> float:
    """Returns a value's height between the ends of the metric's axis, worse ones on its floor."""
    low, high = info.ends
    return min(1.0, max(0.0, ((value or 0.0) - low) / (high - low)))


def _hover(info: ParallelInfo, i: int) -> str:
    value = info.values[i]
    shown = "diverged" if value is None else f"{fixed(value, info.digits)} {info.unit}"
    point = ", ".join(f"{axis.name} {level_text(axis.levels[axis.places[i]])}" for axis in info.axes)
    return f"{escape(info.value)}: {escape(shown)}<br>{escape(point)}"


def _add_axes(figure: go.Figure, info: ParallelInfo) -> None:
    for x, axis in enumerate(info.axes):
        named = range(0, len(axis.levels), -(-len(axis.levels) // MAX_LABELS))
        _add_axis(figure, x, [_height(axis, i) for i in named], [level_text(axis.levels[i]) for i in named])
    marks = [(_share(info, value), f"{value:g}") for value in round_ticks(*info.ends)]
    marks += [(_FLOOR, "diverged")] if any(value is None for value in info.values) else []
    _add_axis(figure, len(info.axes), [height for height, _ in marks], [text for _, text in marks])


def _add_axis(figure: go.Figure, x: int, heights: Sequence[float], texts: Sequence[str]) -> None:
    figure.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, line={"width": 1, "color": style.ZERO}, layer="below")
    for height, text in zip(heights, texts, strict=True):
        figure.add_annotation(
            x=x, y=height, text=text, showarrow=False, font={"size": 12},
            xanchor="left", xshift=4, borderpad=1, visible=True, templateitemname=style.BACKED,
        )  # fmt: skip
