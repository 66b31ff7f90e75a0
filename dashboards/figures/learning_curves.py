"""Learning curves of the winners: the metric with the range of its runs; median margin and train loss below."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dashboards import style
from dashboards.figures.base import blank, capital, named, with_unit
from dashboards.figures.series import CURVE_POINTS, Curves, thinned
from lawn_tune.cells import Phase
from lawn_tune.comparison.comparison import CellResult, Comparison
from lawn_tune.comparison.estimates import Estimate
from lawn_tune.words import metric_name, metric_of
from trainables.outcomes import SWITCH_EPOCH

Values = tuple[float | None, ...]


class Curve(NamedTuple):
    """A winner's curve over epochs: mean, lowest and highest over its n runs; margins are medians over examples.

    `switch` is the epoch at which LAWN's constraint starts, a mean where runs switch by themselves; None for base
    optimizers.
    """

    optimizer: str
    phase: Phase
    n: int
    epochs: tuple[int, ...]
    metric: Values
    lowest: Values
    highest: Values
    margin: Values
    loss: Values
    switch: float | None


class CurveInfo(NamedTuple):
    """The winners' curves at one batch size."""

    batch_size: int
    metric: str
    unit: str
    digits: int
    curves: tuple[Curve, ...]


def curve_keys(comparison: Comparison) -> tuple[str, ...]:
    """Returns the keys of the trials whose curves `curve_infos` draws."""
    estimates = [result.estimate for result in comparison.cells if result.estimate is not None]
    return tuple(key for estimate in estimates for key in estimate.keys.values())


def curve_infos(comparison: Comparison, curves: Curves, points: int = CURVE_POINTS) -> tuple[CurveInfo, ...]:
    """Returns the winners' curves, one figure per batch size; sizes without a curve are left out.

    Args:
        comparison: whose winners.
        curves: of their trials.
        points: epochs kept of longer curves.
    """
    name = comparison.protocol.metric
    metric = metric_of(name)
    infos = [
        CurveInfo(
            size, metric_name(name), metric.unit, metric.digits, tuple(_curves_at(comparison, size, curves, points))
        )
        for size in comparison.batch_sizes
    ]
    return tuple(info for info in infos if info.curves)


def _curves_at(comparison: Comparison, batch_size: int, curves: Curves, points: int) -> Iterator[Curve]:
    for optimizer in comparison.optimizers:
        result = comparison.cell(optimizer, batch_size)
        if result is not None and result.winner is not None and result.estimate is not None:
            curve = _curve(result, result.winner.hyperparameters, result.estimate, curves, points)
            if curve is not None:
                yield curve


def _curve(
    result: CellResult, winner: Mapping[str, float], estimate: Estimate, curves: Curves, points: int
) -> Curve | None:
    series = estimate.series.split("/", 1)[1]
    known = [curves[key] for key in estimate.keys.values() if series in curves.get(key, {})]
    if not known:
        return None
    values = _stacked([run[series] for run in known])
    chosen = thinned(values.shape[1], points)
    return Curve(
        optimizer=result.cell.name.optimizer,
        phase=estimate.phase,
        n=len(known),
        epochs=tuple(int(i) + 1 for i in chosen),
        metric=_picked(values.mean(axis=0), chosen),
        lowest=_picked(values.min(axis=0), chosen),
        highest=_picked(values.max(axis=0), chosen),
        margin=_mean_of(known, "margin_p50", chosen),
        loss=_mean_of(known, "train_loss", chosen),
        switch=_switch_epoch(result, winner, known),
    )


def _switch_epoch(
    result: CellResult, winner: Mapping[str, float], runs: Sequence[Mapping[str, NDArray[np.float64]]]
) -> float | None:
    """Returns the epochs free of the control, the mean over runs that switch by themselves; None if one never does."""
    ends = [float(run[SWITCH_EPOCH][-1]) for run in runs if SWITCH_EPOCH in run]
    measured = math.fsum(ends) / len(ends) if ends else math.nan
    summary = {f"last/{SWITCH_EPOCH}": measured if math.isfinite(measured) else None}
    return result.cell.switch_epoch(winner, summary)


def _stacked(runs: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Returns runs [n, epochs], cut to the shortest."""
    if not runs:
        return np.empty((0, 0))
    shortest = min(len(run) for run in runs)
    return np.stack([run[:shortest] for run in runs])


def _mean_of(runs: Sequence[Mapping[str, NDArray[np.float64]]], name: str, chosen: NDArray[np.int64]) -> Values:
    """Returns the mean of a series over the runs that have it, at the chosen epochs."""
    found = _stacked([run[name] for run in runs if name in run])
    return _picked(found.mean(axis=0), chosen) if found.size else (None,) * len(chosen)


def _picked(statistic: NDArray[np.float64], chosen: NDArray[np.int64]) -> Values:
    """Returns a statistic [epochs] at the chosen epochs; None where some run has no value."""
    return tuple(
        None if i >= len(statistic) or not math.isfinite(statistic[i]) else float(statistic[i]) for i in chosen
    )


# --- drawing ----------------------------------------------------------------------------------------------------------


def curve_figure(info: CurveInfo) -> go.Figure:
    """Draws the winners' metric with the range of its runs, and below it their median margin and training loss.

    Diamonds mark the switch. Of two runs that differ in their logits only, it is the paper's Figure 1.
    """
    figure = blank(height=600)
    for curve in info.curves:
        figure.add_trace(_band(curve))
        figure.add_trace(_line(info, curve, curve.metric, "y", info.unit, legend=True))
        figure.add_trace(_line(info, curve, curve.margin, "y2", "", legend=False))
        figure.add_trace(_line(info, curve, curve.loss, "y3", "", legend=False))
        if curve.switch is not None and 0 < curve.switch < curve.epochs[-1]:
            shown = ((curve.metric, "y"), (curve.margin, "y2"), (curve.loss, "y3"))
            figure.add_traces([_switch(curve, values, axis) for values, axis in shown])
    figure.update_layout(
        title_text=f"<b>Batch {info.batch_size:,}</b>",
        hovermode="x unified",
        xaxis={"title": {"text": "Epoch"}, "anchor": "y3", "hoverformat": "d", "range": [0, 1.01 * _last(info)]},
        yaxis={
            "title": {"text": with_unit(capital(info.metric), info.unit)},
            "domain": [0.52, 1],
            "range": _focus(info),
        },
        yaxis2={
            "title": {"text": "Median margin (logits)"},
            "domain": [0.26, 0.47],
            "anchor": "x",
            "rangemode": "tozero",
        },
        yaxis3={"title": {"text": "Train loss"}, "domain": [0, 0.21], "anchor": "x", "rangemode": "tozero"},
    )
    return figure


def _last(info: CurveInfo) -> int:
    return max((epoch for curve in info.curves for epoch in curve.epochs), default=1)


def _band(curve: Curve) -> go.Scatter:
    known = [
        (epoch, low, high)
        for epoch, low, high in zip(curve.epochs, curve.lowest, curve.highest, strict=True)
        if low is not None and high is not None
    ]
    return go.Scatter(
        x=[epoch for epoch, _, _ in known] + [epoch for epoch, _, _ in reversed(known)],
        y=[high for _, _, high in known] + [low for _, low, _ in reversed(known)],
        fill="toself",
        fillcolor=style.faint(curve.optimizer),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=curve.optimizer,
    )


def _line(
    info: CurveInfo, curve: Curve, values: Sequence[float | None], yaxis: str, unit: str, *, legend: bool
) -> go.Scatter:
    kind = f"n = {curve.n}" if curve.phase == "confirm" else f"search, n = {curve.n}"
    return go.Scatter(
        name=f"{named(curve.optimizer)} ({kind})",
        x=curve.epochs,
        y=values,
        yaxis=yaxis,
        mode="lines",
        line={"color": style.color(curve.optimizer), "width": 1.8, "dash": style.dash(curve.optimizer)},
        hovertemplate=f"%{{y:.{info.digits}f}} {escape(unit)}",
        showlegend=legend,
        legendgroup=curve.optimizer,
    )


def _switch(curve: Curve, values: Sequence[float | None], yaxis: str) -> go.Scatter:
    """Returns the diamond at the last epoch of the free phase."""
    at = max((i for i, epoch in enumerate(curve.epochs) if epoch <= (curve.switch or 0)), default=0)
    return go.Scatter(
        x=[curve.epochs[at]],
        y=[values[at]],
        yaxis=yaxis,
        mode="markers",
        marker={"symbol": "diamond", "size": 10, "color": style.color(curve.optimizer), "line": {"width": 1}},
        name=f"{named(curve.optimizer)} constrained from epoch {curve.switch:g}",
        hovertemplate=" ",
        showlegend=False,
        legendgroup=curve.optimizer,
    )


def _focus(info: CurveInfo) -> list[float] | None:
    """Returns a range that shows the last nine tenths of training; the steep start can be zoomed out to."""
    late = [
        value
        for curve in info.curves
        for low, high in zip(curve.lowest, curve.highest, strict=True)
        for value in (low, high)
        if value is not None
    ]
    start = [
        value
        for curve in info.curves
        for epoch, value in zip(curve.epochs, curve.lowest, strict=True)
        if value is not None and epoch >= 0.1 * curve.epochs[-1]
    ]
    if not late or not start or min(start) == max(late):
        return None
    pad = 0.05 * (max(late) - min(start))
    return [min(start) - pad, max(late) + pad]
