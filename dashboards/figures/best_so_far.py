"""How the best value of a cell's search came about, point by point and hour by hour."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import accumulate
from typing import Literal, NamedTuple

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank, capital, selecting, with_unit
from dashboards.figures.panels import Window, better_part, crosses, dots, sampled, shown
from lawn_tune.comparison.comparison import CellResult
from lawn_tune.planning.selection import Point
from lawn_tune.results import TrialRow
from lawn_tune.words import duration, fixed, metric_of, setting


class Step(NamedTuple):
    """One finished point: device-hours spent up to its end, its value (None if it diverged) and the best until then."""

    hours: float
    value: float | None
    best: float | None
    place: str
    keys: tuple[str, ...]


class BestSoFarInfo(NamedTuple):
    """Steps in the order in which the points finished; the n-th has n points behind it, itself included.

    `low` and `high` bound the better three quarters of the values.
    """

    optimizer: str
    batch_size: int
    value: str
    unit: str
    digits: int
    steps: tuple[Step, ...]
    points: int
    low: float
    high: float


def best_so_far_info(result: CellResult, rows: Sequence[TrialRow]) -> BestSoFarInfo:
    """Returns the finished points of a cell in the order of their ends; a point ends with its last search seed."""
    cell, found = result.cell, {row.key: row for row in rows}
    finished = sorted((point for point in result.points if point.finished), key=lambda point: _end(point, found))
    hours = accumulate(_seconds(point, found) / 3600 for point in finished)
    better = max if cell.protocol.direction == "maximize" else min
    steps, best = [], None
    for point, spent in zip(finished, hours, strict=True):
        best = point.value if best is None else best if point.value is None else better(best, point.value)
        steps.append(Step(spent, point.value, best, setting(point.hyperparameters), point.keys))
    low, high = better_part([step.value for step in steps if step.value is not None], cell.protocol.direction)
    metric = metric_of(cell.protocol.metric)
    return BestSoFarInfo(
        optimizer=cell.name.optimizer,
        batch_size=cell.name.batch_size,
        value=selecting(cell),
        unit=metric.unit,
        digits=metric.digits,
        steps=tuple(steps),
        points=len(result.points),
        low=low,
        high=high,
    )


def _end(point: Point, rows: Mapping[str, TrialRow]) -> str:
    """Returns when the last trial of a point ended; ISO-8601 times in UTC sort as texts."""
    return max(str(rows[key].provenance.get("ended", "")) for key in point.keys)


def _seconds(point: Point, rows: Mapping[str, TrialRow]) -> float:
    return math.fsum(rows[key].summary.get("seconds") or 0.0 for key in point.keys)


# --- drawing ----------------------------------------------------------------------------------------------------------


MAX_MARKS = 250

Spent = Literal["points", "time"]


def best_so_far_figure(info: BestSoFarInfo, against: Spent = "points") -> go.Figure:
    """Draws every finished point and the best so far, against points or device time; crosses: diverged."""
    figure = blank(height=380, legend=False)
    x = [float(i + 1) if against == "points" else step.hours for i, step in enumerate(info.steps)]
    known = _some(info, [i for i, step in enumerate(info.steps) if step.value is not None])
    lost = _some(info, [i for i, step in enumerate(info.steps) if step.value is None])
    window = shown(info.low, info.high)
    figure.add_trace(_points(info, x, known, window))
    figure.add_trace(_best(info, x))
    if known:
        texts = [f"diverged<br>{escape(info.steps[i].place)}" for i in lost]
        keys = [" ".join(info.steps[i].keys) for i in lost]
        figure.add_trace(crosses([x[i] for i in lost], [window[0]] * len(lost), texts, keys))
        figure.update_yaxes(range=list(window))
    title = "Points finished" if against == "points" else "Device-hours"
    figure.update_xaxes(title_text=title, rangemode="tozero")
    figure.update_yaxes(title_text=with_unit(capital(info.value), info.unit))
    figure.update_layout(hovermode="closest", margin={"t": 16})
    return figure


def _some(info: BestSoFarInfo, steps: list[int]) -> list[int]:
    """Returns the steps that are drawn as marks: of many only some, and every one that was the best when it came."""
    kept = {steps[rank] for rank in sampled(len(steps), MAX_MARKS)}
    return [
        i for i in steps if i in kept or (info.steps[i].value is not None and info.steps[i].value == info.steps[i].best)
    ]


def _points(info: BestSoFarInfo, x: list[float], known: list[int], window: Window) -> go.Scatter:
    return dots(
        [x[i] for i in known],
        [info.steps[i].value or 0.0 for i in known],
        window,
        style.color(info.optimizer),
        [_hover(info, i) for i in known],
        [" ".join(info.steps[i].keys) for i in known],
        opacity=0.65,
    )


def _best(info: BestSoFarInfo, x: list[float]) -> go.Scatter:
    last = len(info.steps) - 1
    turns = [i for i, step in enumerate(info.steps) if i in (0, last) or step.best != info.steps[i - 1].best]
    return go.Scatter(
        x=[x[i] for i in turns],
        y=[info.steps[i].best for i in turns],
        mode="lines",
        line={"color": style.color(info.optimizer), "width": 2.2, "shape": "hv", "dash": style.dash(info.optimizer)},
        hoverinfo="skip",
    )


def _hover(info: BestSoFarInfo, i: int) -> str:
    step = info.steps[i]
    best = f"best so far {fixed(step.best or 0.0, info.digits)} {info.unit}"
    first = f"{info.value}: {fixed(step.value or 0.0, info.digits)} {info.unit}"
    lines = (first, step.place, best, f"point {i + 1} of {info.points}, after {duration(3600 * step.hours)}")
    return "<br>".join(escape(line) for line in lines)
