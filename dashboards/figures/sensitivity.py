"""How a cell's metric depends on each hyperparameter alone: all points at each of its levels."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank, capital, selecting, with_unit
from dashboards.figures.panels import Window, better_part, dots, level_axis, sampled, shown, spread
from dashboards.figures.panels import axis as axis_number
from lawn_tune.comparison.comparison import CellResult
from lawn_tune.words import fixed, hyperparameter, metric_of, setting
from trainables.catalogue.rows import Direction


class SensitivityLevel(NamedTuple):
    """The points at one level of a hyperparameter.

    `values` are those of complete points, `keys` their search trials, `settings` their places in the grid; `best` and
    `median` are None without one. `diverged`, `failed` and `open` count the points without a value.
    """

    level: float
    values: tuple[float, ...]
    keys: tuple[tuple[str, ...], ...]
    settings: tuple[str, ...]
    best: float | None
    median: float | None
    diverged: int
    failed: int
    open: int


class SensitivityAxis(NamedTuple):
    """One hyperparameter with its levels, ascending; `chosen` is the winner's, which may be on the edge.

    `share` is the part of the complete points' variance that its levels explain alone, from 0 to 1: the sum of squares
    between levels over the total one, as in a one-way analysis of variance.
    """

    name: str
    levels: tuple[SensitivityLevel, ...]
    chosen: float | None
    edge: bool
    share: float


class SensitivityInfo(NamedTuple):
    """One cell's axes, the one that moves the best value most first; `low` and `high` bound the better values."""

    optimizer: str
    batch_size: int
    value: str
    unit: str
    digits: int
    direction: Direction
    axes: tuple[SensitivityAxis, ...]
    low: float
    high: float


def sensitivity_info(result: CellResult) -> SensitivityInfo:
    """Returns the axes of one cell's grid that have more than one level; of a grid of one point, all of them."""
    cell = result.cell
    metric = metric_of(cell.protocol.metric)
    several = [name for name, levels in cell.grid.values.items() if len(levels) > 1] or list(cell.grid.values)
    axes = [_axis(result, name) for name in several]
    low, high = better_part(
        [point.value for point in result.points if point.value is not None], cell.protocol.direction
    )
    return SensitivityInfo(
        optimizer=cell.name.optimizer,
        batch_size=cell.name.batch_size,
        value=selecting(cell),
        unit=metric.unit,
        digits=metric.digits,
        direction=cell.protocol.direction,
        axes=tuple(sorted(axes, key=lambda axis: -span(axis))),
        low=low,
        high=high,
    )


def span(axis: SensitivityAxis) -> float:
    """Returns how far apart the best values at the levels of a hyperparameter are, in the metric's unit."""
    best = [level.best for level in axis.levels if level.best is not None]
    return max(best) - min(best) if best else 0.0


def _axis(result: CellResult, name: str) -> SensitivityAxis:
    won = result.winner
    levels = tuple(_level(result, name, level) for level in sorted(result.cell.grid.values[name]))
    return SensitivityAxis(
        name=name,
        levels=levels,
        chosen=won.hyperparameters[name] if won else None,
        edge=won is not None and name in won.edges,
        share=explained([level.values for level in levels]),
    )


def explained(groups: Sequence[Sequence[float]]) -> float:
    """Returns the sum of squares between groups over that of all values, from 0 to 1; 0 where all values are equal."""
    values = np.array([value for group in groups for value in group])
    total = float(((values - values.mean()) ** 2).sum()) if len(values) else 0.0
    between = sum(len(group) * (float(np.mean(group)) - float(values.mean())) ** 2 for group in groups if len(group))
    return min(1.0, between / total) if total else 0.0


def _level(result: CellResult, name: str, level: float) -> SensitivityLevel:
    here = [point for point in result.points if point.hyperparameters[name] == level]
    known = [(point, point.value) for point in here if point.value is not None]
    values = tuple(value for _, value in known)
    better = max if result.cell.protocol.direction == "maximize" else min
    statuses = [point.status for point in here]
    return SensitivityLevel(
        level=level,
        values=values,
        keys=tuple(point.keys for point, _ in known),
        settings=tuple(setting(point.hyperparameters) for point, _ in known),
        best=better(values, default=None),
        median=float(np.median(values)) if values else None,
        diverged=statuses.count("diverged"),
        failed=statuses.count("failed"),
        open=statuses.count("running") + statuses.count("missing"),
    )


# --- drawing ----------------------------------------------------------------------------------------------------------


_PANEL, _GAP, _TOP, _BOTTOM = 150, 72, 20, 64
"""Pixels: a panel, the space between two, and the margins."""


MAX_MARKS = 40
"""Points of one level that are drawn on a screen, evenly spread over their ranks; the best is one."""


def sensitivity_figure(info: SensitivityInfo, most: int = MAX_MARKS) -> go.Figure:
    """Draws the points at each level, the best of each joined, the median as a bar; the winner's level is framed.

    Args:
        info: what is drawn.
        most: points of one level that are drawn, fewer of many levels.
    """
    panels = len(info.axes)
    inside = panels * _PANEL + (panels - 1) * _GAP
    figure = blank(height=inside + _TOP + _BOTTOM, legend=False)
    for i, axis in enumerate(info.axes):
        top = 1 - i * (_PANEL + _GAP) / inside
        _add_panel(figure, info, axis, most, axis_number(i), [max(0.0, top - _PANEL / inside), top])
    figure.update_layout(margin={"t": _TOP, "b": _BOTTOM, "l": 60, "r": 8}, hovermode="closest")
    return figure


def _add_panel(
    figure: go.Figure, info: SensitivityInfo, axis: SensitivityAxis, most: int, i: str, domain: list[float]
) -> None:
    window = shown(info.low, info.high)
    figure.add_traces([_points(info, axis, window, most, i), _medians(info, axis, i), _best(info, axis, i)])
    ticks = level_axis([level.level for level in axis.levels])
    if len(ticks["tickvals"]) == len(axis.levels):
        ticks["ticktext"] = [
            _with_lost(text, level) for text, level in zip(ticks["ticktext"], axis.levels, strict=True)
        ]
    else:
        figure.add_trace(_without(axis, window[0], i))
    figure.layout[f"xaxis{i}"] = ticks | {
        "anchor": f"y{i}",
        "title": {"text": escape(capital(hyperparameter(axis.name))), "standoff": 4},
    }
    figure.layout[f"yaxis{i}"] = {
        "anchor": f"x{i}",
        "domain": domain,
        "range": list(window),
        "title": {"text": with_unit(capital(info.value), info.unit) if i == _middle(info) else None},
        "nticks": 5,
    }
    if axis.chosen is not None:
        _frame(figure, axis, i)


def _middle(info: SensitivityInfo) -> str:
    return "" if len(info.axes) < 3 else "2"


def _points(info: SensitivityInfo, axis: SensitivityAxis, window: Window, most: int, i: str) -> go.Scatter:
    """Returns the points of all levels; those beyond the panel are drawn on its border as open triangles."""
    most = min(most, max(6, 5 * most // len(axis.levels)))
    shown = [(x, offset, level, at) for x, level in enumerate(axis.levels) for offset, at in _marks(info, level, most)]
    return dots(
        [x + offset for x, offset, _, _ in shown],
        [level.values[at] for _, _, level, at in shown],
        window,
        style.color(info.optimizer),
        [
            f"{escape(info.value)}: {fixed(level.values[at], info.digits)} {escape(info.unit)}<br>"
            f"{escape(level.settings[at])}"
            for _, _, level, at in shown
        ],
        [" ".join(level.keys[at]) for _, _, level, at in shown],
        opacity=0.7,
        **_where(i),
    )


def _marks(info: SensitivityInfo, level: SensitivityLevel, most: int) -> list[tuple[float, int]]:
    """Returns (offset, index) of a level's points that are drawn, the best first; of many only some."""
    sign = -1 if info.direction == "maximize" else 1
    ranked = sorted(range(len(level.values)), key=lambda at: sign * level.values[at])
    chosen = [ranked[rank] for rank in sampled(len(ranked), most)]
    return list(zip(spread(len(chosen)), chosen, strict=True))


def _where(i: str) -> dict[str, Any]:
    return {"xaxis": f"x{i}", "yaxis": f"y{i}", "showlegend": False}


def _medians(info: SensitivityInfo, axis: SensitivityAxis, i: str) -> go.Scatter:
    known = [(x, level.median) for x, level in enumerate(axis.levels) if level.median is not None]
    return go.Scatter(
        x=[x for x, _ in known],
        y=[median for _, median in known],
        mode="markers",
        marker={"symbol": "line-ew", "size": 26, "line": {"width": 2, "color": style.ZERO}},
        hovertext=[f"median {fixed(median, info.digits)} {escape(info.unit)}" for _, median in known],
        hoverinfo="text",
        **_where(i),
    )


def _best(info: SensitivityInfo, axis: SensitivityAxis, i: str) -> go.Scatter:
    return go.Scatter(
        x=list(range(len(axis.levels))),
        y=[level.best for level in axis.levels],
        mode="lines",
        line={"color": style.color(info.optimizer), "width": 2, "dash": style.dash(info.optimizer)},
        hoverinfo="skip",
        **_where(i),
    )


def _without(axis: SensitivityAxis, low: float, i: str) -> go.Scatter:
    """Returns signs on the floors of levels, too many to be named, that have points without a value."""
    texts = [next((sign for sign, n in _lost(level) if n), "") for level in axis.levels]
    places = [x for x, text in enumerate(texts) if text]
    return go.Scatter(
        x=places,
        y=[low] * len(places),
        text=[texts[x] for x in places],
        mode="text",
        textposition="top center",
        textfont={"size": 11},
        hovertext=[_lost_text(axis.levels[x]) for x in places],
        hoverinfo="text",
        cliponaxis=False,
        **_where(i),
    )


def _with_lost(text: str, level: SensitivityLevel) -> str:
    """Returns a level's label, and below it how many of its points diverged, failed or are open."""
    return text + "<br>" + " ".join(f"{n} {sign}" for sign, n in _lost(level) if n)


def _lost(level: SensitivityLevel) -> tuple[tuple[str, int], ...]:
    return ("×", level.diverged), ("!", level.failed), ("…", level.open)


def _lost_text(level: SensitivityLevel) -> str:
    counts = (("diverged", level.diverged), ("failed", level.failed), ("not finished", level.open))
    return ", ".join(f"{n} {what}" for what, n in counts if n)


def _frame(figure: go.Figure, axis: SensitivityAxis, i: str) -> None:
    x = [level.level for level in axis.levels].index(axis.chosen or 0.0)
    figure.add_shape(
        type="rect", xref=f"x{i}", yref=f"y{i} domain", x0=x - 0.42, x1=x + 0.42, y0=0, y1=1, layer="below",
        line={"width": 2, "color": style.FRAME, "dash": "4px,3px" if axis.edge else "solid"},
    )  # fmt: skip
