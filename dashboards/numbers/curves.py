"""Learning curves of the winners."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lawn_tune.cells import Phase
from lawn_tune.comparison.compare import CellResult, Comparison, Estimate
from lawn_tune.words import metric_name, metric_of

Curves = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""key → series → values [epochs], NaN where not measured."""

CURVE_POINTS = 300
"""Longer curves are thinned to about so many epochs, first and last kept."""


class Curve(NamedTuple):
    """A winner's curve over epochs: mean, least and greatest over its n runs; margins are medians over examples.

    `switch` is the epoch at which LAWN's constraint starts; None for base optimizers.
    """

    optimizer: str
    phase: Phase
    n: int
    epochs: tuple[int, ...]
    metric: tuple[float | None, ...]
    least: tuple[float | None, ...]
    greatest: tuple[float | None, ...]
    margin: tuple[float | None, ...]
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


def readable(read: Callable[[Sequence[str]], Curves], keys: Sequence[str]) -> tuple[Curves, dict[str, str]]:
    """Returns the curves that can be read, and key → why of the others: one that is damaged hides no other."""
    try:
        return read(keys), {}
    except ValueError:
        found: dict[str, Mapping[str, NDArray[np.float64]]] = {}
        broken: dict[str, str] = {}
        for key in keys:
            try:
                found |= read([key])
            except ValueError as error:
                broken[key] = str(error)
        return found, broken


def curve_infos(comparison: Comparison, curves: Curves, points: int = CURVE_POINTS) -> tuple[CurveInfo, ...]:
    """Returns the winners' curves, one figure a batch size; sizes without a curve are left out.

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
    margins = _stacked([run["margin_p50"] for run in known if "margin_p50" in run])
    chosen = _thinned(values.shape[1], points)
    return Curve(
        optimizer=result.cell.name.optimizer,
        phase=estimate.phase,
        n=len(known),
        epochs=tuple(int(i) + 1 for i in chosen),
        metric=_picked(values.mean(axis=0), chosen),
        least=_picked(values.min(axis=0), chosen),
        greatest=_picked(values.max(axis=0), chosen),
        margin=_picked(margins.mean(axis=0), chosen) if margins.size else (None,) * len(chosen),
        switch=winner.get("free_epochs"),
    )


def _stacked(runs: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Returns runs [n, epochs], cut to the shortest."""
    if not runs:
        return np.empty((0, 0))
    shortest = min(len(run) for run in runs)
    return np.stack([run[:shortest] for run in runs])


def _thinned(epochs: int, points: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, epochs - 1, min(epochs, points)).round().astype(np.int64))


def _picked(statistic: NDArray[np.float64], chosen: NDArray[np.int64]) -> tuple[float | None, ...]:
    """Returns a statistic [epochs] at the chosen epochs; None where some run has no value."""
    return tuple(
        None if i >= len(statistic) or not math.isfinite(statistic[i]) else float(statistic[i]) for i in chosen
    )
