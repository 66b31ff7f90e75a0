"""What happens inside trials, epoch by epoch: every recorded series of the selected trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dashboards import style
from dashboards.figures.base import blank
from dashboards.figures.chosen_trials import Chosen, tint
from dashboards.figures.panels import axis, domains
from dashboards.figures.seed_mean import HIGHEST, LOWEST
from dashboards.figures.series import CURVE_POINTS, Curves, thinned


class Series(NamedTuple):
    """One recorded series of one trial over epochs; None where it was not measured."""

    trial: Chosen
    name: str
    epochs: tuple[int, ...]
    values: tuple[float | None, ...]


class DynamicsInfo(NamedTuple):
    """The panels of one figure: each holds the named series of every trial that has them.

    `last` is the last epoch of any trial, so that all figures of a page share their axis.
    """

    panels: tuple[tuple[Series, ...], ...]
    last: int


def dynamics_info(trials: Sequence[Chosen], curves: Curves, panels: Sequence[Sequence[str]]) -> DynamicsInfo:
    """Returns the series of trials in the panels of one figure.

    Args:
        trials: the selected ones.
        curves: of these trials; one that is missing has no line.
        panels: names of series, such as (("weight_norm",), ("last_layer_norm",)).
    """
    return DynamicsInfo(
        panels=tuple(
            tuple(
                series
                for trial in trials
                for name in names
                if (series := _series(trial, name, curves.get(trial.key, {}))) is not None
            )
            for names in panels
        ),
        last=max((max(trial.epochs, _length(curves.get(trial.key, {}))) for trial in trials), default=1),
    )


def _series(trial: Chosen, name: str, curve: Mapping[str, NDArray[np.float64]]) -> Series | None:
    values = curve.get(name)
    if values is None or not np.isfinite(values).any():
        return None
    places = thinned(len(values), CURVE_POINTS)
    picked = tuple(float(values[i]) if math.isfinite(values[i]) else None for i in places)
    return Series(trial, name, tuple(int(i) + 1 for i in places), picked)


def _length(curve: Mapping[str, NDArray[np.float64]]) -> int:
    return max((len(values) for values in curve.values()), default=0)


# --- drawing ----------------------------------------------------------------------------------------------------------


_PANEL, _SMALL, _TOP, _BOTTOM = 250, 180, 16, 46
"""Pixels: a panel alone, one of several, and the margins."""


def dynamics_figure(
    info: DynamicsInfo, titles: Sequence[str], *, log: bool = False, switches: bool = False
) -> go.Figure:
    """Draws one line per trial in each panel; diamonds mark the switch from LAWN's free phase to the constrained one.

    A mean over seeds has a band from the lowest to the highest.

    Args:
        info: one panel per title.
        titles: of the y axes.
        log: y axes are logarithmic.
        switches: dotted lines go through the panels at every switch.
    """
    figure = _stacked(info, titles, log=log)
    for i, panel in enumerate(info.panels):
        figure.add_traces([_band(low, high, i) for low, high in _bands(panel)])
    for i, panel in enumerate(lines(info).panels):
        for series in panel:
            figure.add_trace(_line(series, i))
            figure.add_traces(_diamond(series, i))
    if switches:
        _add_switches(figure, info)
    return figure


def margin_figure(info: DynamicsInfo, title: str) -> go.Figure:
    """Draws each trial's median margin with a band from the 10th to the 90th percentile; info has one panel."""
    figure = _stacked(info, [title], log=False)
    by_trial: dict[str, dict[str, Series]] = {}
    for series in info.panels[0]:
        by_trial.setdefault(series.trial.key, {})[series.name] = series
    for found in by_trial.values():
        if "margin_p10" in found and "margin_p90" in found:
            figure.add_trace(_band(found["margin_p10"], found["margin_p90"]))
    for found in by_trial.values():
        if "margin_p50" in found:
            figure.add_trace(_line(found["margin_p50"], 0))
            figure.add_traces(_diamond(found["margin_p50"], 0))
    figure.update_yaxes(zeroline=True)
    return figure


def _stacked(info: DynamicsInfo, titles: Sequence[str], *, log: bool) -> go.Figure:
    count = len(info.panels)
    figure = blank(height=count * (_PANEL if count == 1 else _SMALL) + _TOP + _BOTTOM, legend=False)
    for i, (title, domain) in enumerate(zip(titles, domains(count), strict=True)):
        figure.layout[f"yaxis{axis(i)}"] = {
            "title": {"text": escape(title)},
            "domain": domain,
            "anchor": "x",
            "type": "log" if log else "linear",
            "exponentformat": "power",
            "nticks": 6,
            "minor": {"nticks": 0},
            "automargin": True,
        }
    last = f"y{axis(count - 1)}"
    figure.update_layout(
        xaxis={"title": {"text": "Epoch"}, "anchor": last, "range": [0, 1.01 * info.last], "hoverformat": "d"},
        margin={"t": _TOP, "b": _BOTTOM, "l": 62, "r": 8},
        hovermode="x unified",
        hoverlabel={"namelength": 44},
    )
    return figure


def _line(series: Series, i: int) -> go.Scatter:
    trial = series.trial
    return go.Scatter(
        name=f"{trial.letter}  {escape(trial.name)}",
        x=series.epochs,
        y=series.values,
        yaxis=f"y{axis(i)}",
        mode="lines" if sum(value is not None for value in series.values) > 1 else "markers",
        line={"color": tint(trial), "width": 1.8, "dash": style.dash(trial.optimizer)},
        hovertemplate="%{y:.5~g}",
        legendgroup=trial.key,
    )


def lines(info: DynamicsInfo) -> DynamicsInfo:
    """Returns the series that are lines, without those that bound bands."""
    ends = (LOWEST, HIGHEST)
    return info._replace(panels=tuple(tuple(s for s in panel if not s.name.startswith(ends)) for panel in info.panels))


def _bands(panel: Sequence[Series]) -> list[tuple[Series, Series]]:
    ends = {(series.trial.key, series.name): series for series in panel}
    return [
        (ends[key, name], ends[key, name.replace(LOWEST, HIGHEST)])
        for key, name in ends
        if name.startswith(LOWEST) and (key, name.replace(LOWEST, HIGHEST)) in ends
    ]


def _band(low: Series, high: Series, i: int = 0) -> go.Scatter:
    pairs = [
        (epoch, a, b)
        for epoch, a, b in zip(low.epochs, low.values, high.values, strict=False)
        if a is not None and b is not None
    ]
    red, green, blue = (int(tint(low.trial)[i : i + 2], 16) for i in (1, 3, 5))
    return go.Scatter(
        x=[epoch for epoch, _, _ in pairs] + [epoch for epoch, _, _ in reversed(pairs)],
        y=[b for _, _, b in pairs] + [a for _, a, _ in reversed(pairs)],
        yaxis=f"y{axis(i)}",
        mode="lines",
        fill="toself",
        fillcolor=f"rgba({red}, {green}, {blue}, 0.13)",
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=low.trial.key,
    )


def _diamond(series: Series, i: int) -> list[go.Scatter]:
    """Returns the diamond at the last epoch of the free phase, if the trial came so far."""
    trial = series.trial
    if trial.switch is None or not 0 < trial.switch <= series.epochs[-1]:
        return []
    at = max((j for j, epoch in enumerate(series.epochs) if epoch <= max(1, trial.switch)), default=0)
    return [
        go.Scatter(
            x=[series.epochs[at]],
            y=[series.values[at]],
            yaxis=f"y{axis(i)}",
            mode="markers",
            marker={"symbol": "diamond", "size": 9, "color": tint(trial), "line": {"width": 1, "color": "#ffffff"}},
            hoverinfo="skip",
            legendgroup=trial.key,
        )
    ]


def _add_switches(figure: go.Figure, info: DynamicsInfo) -> None:
    trials = {series.trial for panel in info.panels for series in panel}
    for trial in sorted((t for t in trials if t.switch is not None), key=lambda t: t.order):
        line: dict[str, Any] = {"width": 1.2, "color": tint(trial), "dash": "2px,3px"}
        figure.add_shape(type="line", xref="x", yref="paper", x0=trial.switch, x1=trial.switch, y0=0, y1=1, line=line)
