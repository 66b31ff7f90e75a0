"""What the length of LAWN's free phase does to a cell's metric: the paper's "effect of E_free" (§4.2, §4.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank, capital, selecting, with_unit
from lawn_tune.cells import Cell
from lawn_tune.comparison.comparison import CellResult
from lawn_tune.planning.selection import Point, ranked
from lawn_tune.results import TrialRow
from lawn_tune.words import fixed, hyperparameter, metric_of, setting
from search_spaces.levels import is_word
from search_spaces.levels import text as level_text


class FreeLevel(NamedTuple):
    """The best point at one level of the switch.

    `epochs` are those free of the control, at most all of them, the mean over its trials for a level that is a rule;
    `value` is the one that selects, `keys` and `setting` are its trials and its place.
    """

    level: float
    epochs: float
    value: float
    keys: tuple[str, ...]
    setting: str


class FreePhaseInfo(NamedTuple):
    """One cell's levels by their epochs: numbers and rules; `total` are the epochs of the training."""

    optimizer: str
    batch_size: int
    name: str
    value: str
    unit: str
    digits: int
    numbers: tuple[FreeLevel, ...]
    rules: tuple[FreeLevel, ...]
    total: int


def free_phase_info(result: CellResult, rows: Sequence[TrialRow]) -> FreePhaseInfo | None:
    """Returns the best complete point at each level of a cell's switch; None without a switch or with one level."""
    cell, switch = result.cell, result.cell.method.switch
    if switch is None or len(cell.grid.values.get(switch, ())) < 2:
        return None
    summaries = {row.key: row.summary for row in rows}
    best: dict[float, FreeLevel] = {}
    for point, value in ranked(cell, result.points):
        level = point.hyperparameters[switch]
        if level not in best:
            epochs = _epochs(cell, point, summaries)
            best[level] = FreeLevel(level, epochs, value, point.keys, setting(point.hyperparameters))
    levels = sorted(best.values(), key=lambda found: found.epochs)
    metric = metric_of(cell.protocol.metric)
    return FreePhaseInfo(
        optimizer=cell.name.optimizer,
        batch_size=cell.name.batch_size,
        name=switch,
        value=selecting(cell),
        unit=metric.unit,
        digits=metric.digits,
        numbers=tuple(found for found in levels if not is_word(found.level)),
        rules=tuple(found for found in levels if is_word(found.level)),
        total=cell.task.epochs,
    )


def _epochs(cell: Cell, point: Point, summaries: Mapping[str, Mapping[str, float | None]]) -> float:
    """Returns the mean over a point's trials; one that never switches is free to the end."""
    found = [cell.switch_epoch(point.hyperparameters, summaries.get(key, {})) for key in point.keys]
    return math.fsum(cell.task.epochs if e is None else min(e, cell.task.epochs) for e in found) / len(found)


# --- drawing ----------------------------------------------------------------------------------------------------------


def free_phase_figure(info: FreePhaseInfo) -> go.Figure:
    """Draws the best value against the free epochs, whose axis is that of log(1 + epochs); diamonds are rules."""
    figure = blank(height=280, legend=False)
    figure.add_trace(_trace(info, info.numbers, "lines+markers", "circle"))
    figure.add_trace(_trace(info, info.rules, "markers", "diamond-open"))
    ticks = sorted({min(found.level, info.total) for found in info.numbers} | {0.0, float(info.total)})
    figure.update_layout(
        margin={"t": 12, "b": 48, "l": 60, "r": 16},
        hovermode="closest",
        xaxis={
            "title": {"text": escape(capital(hyperparameter(info.name)))},
            "tickvals": [math.log1p(tick) for tick in ticks],
            "ticktext": [f"{tick:g}" for tick in ticks],
            "range": [-0.1, 1.05 * math.log1p(info.total)],
        },
        yaxis={"title": {"text": with_unit(f"Best {info.value}", info.unit)}, "nticks": 6},
    )  # fmt: skip
    return figure


def _trace(info: FreePhaseInfo, levels: Sequence[FreeLevel], mode: str, symbol: str) -> go.Scatter:
    return go.Scatter(
        x=[math.log1p(found.epochs) for found in levels],
        y=[found.value for found in levels],
        mode=mode,
        marker={"symbol": symbol, "size": 9},
        line={"color": style.color(info.optimizer), "dash": style.dash(info.optimizer)},
        hovertext=[
            f"{escape(level_text(found.level))}: free for {found.epochs:.3g} epochs<br>"
            f"{escape(info.value)} {fixed(found.value, info.digits)} {escape(info.unit)}<br>{escape(found.setting)}"
            for found in levels
        ],
        hoverinfo="text",
        customdata=[" ".join(found.keys) for found in levels],
    )
