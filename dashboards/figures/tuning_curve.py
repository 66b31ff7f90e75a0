"""The tuning curve: the expected best of k points drawn at random from a grid, against k or device time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dashboards import style
from dashboards.figures.base import blank, capital, named, with_unit
from dashboards.figures.best_so_far import Spent
from dashboards.figures.panels import log_ticks
from lawn_tune.comparison.comparison import CellResult, Comparison
from lawn_tune.planning.selection import ranked
from lawn_tune.results import TrialRow
from lawn_tune.words import duration, fixed, metric_name, metric_of
from trainables.catalogue.rows import Direction

BAND = (0.1, 0.9)
"""Quantiles of the best value between which the band lies."""

MAX_DRAWS = 40
"""Numbers of draws computed for one line, spread evenly in their logarithm."""

ROUND = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Numbers of draws that tables name, where the grid is as large."""


class Drawn(NamedTuple):
    """The best of k points drawn at random, without replacement, from the finished points of a grid.

    Args:
        k: points drawn.
        found: chance that at least one of them has a value; diverged points have none.
        value: expected value of the best, given that there is one, and its quantiles `BAND`.
        sure: value that nine of ten draws reach, of all draws; None where more than a tenth hold no value.
        test: expected test value of that point; None where some point has none.
        test_low, test_high: its quantiles `BAND`.
        seconds: expected device time of k points.
    """

    k: int
    found: float
    value: float
    low: float
    high: float
    sure: float | None
    test: float | None
    test_low: float | None
    test_high: float | None
    seconds: float


class TuningLine(NamedTuple):
    """One cell: its draws by k, ascending, the last being the whole of the `finished` of `planned` points."""

    optimizer: str
    finished: int
    planned: int
    diverged: int
    seconds: float
    draws: tuple[Drawn, ...]


class TuningCurveInfo(NamedTuple):
    """Both rivals of a pair at one batch size, the base optimizer first; cells without a value are left out.

    `value` selects and `test` is that of the point selected, in the search itself: the same runs, no fresh seeds.
    """

    batch_size: int
    value: str
    test: str
    unit: str
    digits: int
    direction: Direction
    lines: tuple[TuningLine, ...]


def tuning_curve_infos(comparison: Comparison, trials: Sequence[TrialRow]) -> tuple[TuningCurveInfo, ...]:
    """Returns what smaller searches would have found, one figure per pair that has a value."""
    rows = {row.key: row for row in trials}
    infos = (tuning_curve_info((pair.baseline, pair.challenger), rows) for pair in comparison.pairs)
    return tuple(info for info in infos if info.lines)


def tuning_curve_info(results: Sequence[CellResult], rows: Mapping[str, TrialRow]) -> TuningCurveInfo:
    """Returns the lines of several cells of one batch size.

    Args:
        results: of the cells.
        rows: key → trial.
    """
    protocol = results[0].cell.protocol
    metric, name = metric_of(protocol.metric), metric_name(protocol.metric)
    lines = tuple(_line(result, rows) for result in results if any(p.value is not None for p in result.points))
    return TuningCurveInfo(
        batch_size=results[0].cell.name.batch_size,
        value=f"{protocol.selection} {name}",
        test=f"test {name}",
        unit=metric.unit,
        digits=metric.digits,
        direction=protocol.direction,
        lines=lines,
    )


def reached(line: TuningLine, target: float, direction: Direction) -> int | None:
    """Returns the fewest points, of those computed, that are as good as `target` in 9 of 10 draws; None if none are."""
    sign = 1.0 if direction == "maximize" else -1.0
    return next((d.k for d in line.draws if d.sure is not None and sign * d.sure >= sign * target), None)


def _line(result: CellResult, rows: Mapping[str, TrialRow]) -> TuningLine:
    finished = [point for point in result.points if point.finished]
    order = ranked(result.cell, finished)
    tests = [point.test for point, _ in order]
    seconds = math.fsum(rows[key].summary.get("seconds") or 0.0 for point in finished for key in point.keys)
    values = np.array([value for _, value in order])
    known = [test for test in tests if test is not None]
    measured = np.array(known) if len(known) == len(tests) else None
    return TuningLine(
        optimizer=result.cell.name.optimizer,
        finished=len(finished),
        planned=len(result.points),
        diverged=sum(point.status == "diverged" for point in finished),
        seconds=seconds,
        draws=tuple(_drawn(k, len(finished), values, measured, seconds) for k in _numbers(len(finished))),
    )


def _drawn(k: int, total: int, values: NDArray[np.float64], tests: NDArray[np.float64] | None, seconds: float) -> Drawn:
    """Returns the best of k of `total` points, of which len(values) have a value, the best first."""
    chance = best_rank_chances(k, total)[: len(values)]
    found = float(chance.sum())
    beyond = np.cumsum(chance[::-1]) + 1 - found  # chance of a draw as bad as each value, the worst first, or of none
    sure = None if 1 - found > BAND[0] + 1e-9 else float(values[::-1][np.searchsorted(beyond, BAND[0] + 1e-9)])
    chance = chance / found
    low, high = sorted(_quantiles(values[::-1], chance[::-1]))
    order = np.argsort(tests) if tests is not None else None
    ends = _quantiles(tests[order], chance[order]) if tests is not None else (None, None)
    return Drawn(
        k=k,
        found=min(1.0, found),
        value=float(chance @ values),
        low=low,
        high=high,
        sure=sure,
        test=None if tests is None else float(chance @ tests),
        test_low=ends[0],
        test_high=ends[1],
        seconds=seconds * k / total,
    )


def _quantiles(values: NDArray[np.float64], chances: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the quantiles `BAND` of sorted values that have these chances: the innermost ones, where two are.

    A draw is at or beyond the first with a chance of 0.9 or more, and likewise at or before the second.
    """
    sums, (low, high) = np.cumsum(chances), BAND
    places = np.searchsorted(sums, (low + 1e-9, high - 1e-9)).clip(max=len(values) - 1)
    first, last = (float(values[place]) for place in places)
    return first, last


def best_rank_chances(k: int, total: int) -> NDArray[np.float64]:
    """Returns the chance that the best of k out of `total` points drawn without replacement has rank r = 1, 2, …

    P(r) = C(total − r, k − 1) / C(total, k), computed by P(1) = k / total and
    P(r + 1) = P(r) · (total − r − k + 1) / (total − r); it is 0 from r > total − k + 1 on.
    """
    ranks = np.arange(1, total)
    steps = np.clip(total - ranks - k + 1, 0, None) / (total - ranks)
    chances: NDArray[np.float64] = k / total * np.concatenate([[1.0], np.cumprod(steps)])
    return chances


def _numbers(total: int) -> list[int]:
    """Returns the numbers of draws to compute: all of few, else `MAX_DRAWS` from 1 to all, and those of `ROUND`."""
    if total <= MAX_DRAWS:
        return list(range(1, total + 1))
    spread = {int(k) for k in np.geomspace(1, total, MAX_DRAWS).round()}
    return sorted(spread | {k for k in ROUND if k <= total})


# --- drawing ----------------------------------------------------------------------------------------------------------


_UNITS = ((7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""Longest time from which on a unit is used, seconds in it, and its name."""


def tuning_curve_figure(info: TuningCurveInfo, against: Spent = "points") -> go.Figure:
    """Draws the expected best of k random points, and below it the test value of the point selected, with their bands.

    Without a test value there is no lower panel.
    """
    tested = any(drawn.test is not None for line in info.lines for drawn in line.draws)
    figure = blank(height=560)
    unit, name = _unit(info)
    for line in info.lines:
        x = [float(drawn.k) if against == "points" else drawn.seconds / unit for drawn in line.draws]
        figure.add_traces([*_bands(line, x), _expected(info, line, x), _tested(info, line, x)])
    ends = [x for line in info.lines for x in _ends(line, against, unit)]
    ticks = log_ticks(min(ends), max(ends))
    title = "Random grid points, k (log scale)" if against == "points" else f"Device time ({name}, log scale)"
    figure.update_layout(
        title_text=f"<b>Batch {info.batch_size:,}</b>",
        hovermode="closest",
        xaxis={
            "type": "log", "title": {"text": title}, "anchor": "y2" if tested else "y",
            "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks],
        },
        yaxis={"title": {"text": with_unit(f"Best {info.value}", info.unit)}, "domain": [0.46 if tested else 0, 1]},
        yaxis2={
            "title": {"text": with_unit(capital(info.test), info.unit)},
            "domain": [0, 0.4], "anchor": "x", "visible": tested,
        },
        legend={"y": -0.13},
        margin={"t": 36},
    )  # fmt: skip
    return figure


def _unit(info: TuningCurveInfo) -> tuple[float, str]:
    longest = max(line.seconds for line in info.lines)
    return next((size, name) for shortest, size, name in _UNITS if longest >= shortest)


def _ends(line: TuningLine, against: Spent, unit: float) -> Sequence[float]:
    first, last = line.draws[0], line.draws[-1]
    found = (float(first.k), float(last.k)) if against == "points" else (first.seconds / unit, last.seconds / unit)
    return [x for x in found if x > 0] or [1.0]


def _bands(line: TuningLine, x: Sequence[float]) -> list[go.Scatter]:
    """Returns the bands of the value that selects, and of the test value on an axis of its own."""
    return [
        _band(line, x, [drawn.low for drawn in line.draws], [drawn.high for drawn in line.draws], "y"),
        _band(line, x, [drawn.test_low for drawn in line.draws], [drawn.test_high for drawn in line.draws], "y2"),
    ]


def _band(
    line: TuningLine, x: Sequence[float], low: Sequence[float | None], high: Sequence[float | None], axis: str
) -> go.Scatter:
    return go.Scatter(
        x=[*x, *reversed(x)],
        y=[*high, *reversed(low)],
        yaxis=axis,
        mode="lines",
        fill="toself",
        fillcolor=style.faint(line.optimizer),
        line={
            "width": 0.8,
            "color": style.faint(line.optimizer).replace("0.12", "0.6"),
            "dash": style.dash(line.optimizer),
        },
        hoverinfo="skip",
        showlegend=False,
        legendgroup=line.optimizer,
    )


def _expected(info: TuningCurveInfo, line: TuningLine, x: Sequence[float]) -> go.Scatter:
    return go.Scatter(
        name=f"{named(line.optimizer)} ({line.finished} points)",
        x=list(x),
        y=[drawn.value for drawn in line.draws],
        mode="lines" if len(x) > 1 else "markers",
        line={"color": style.color(line.optimizer), "width": 2, "dash": style.dash(line.optimizer)},
        hovertext=[_hover(info, line, drawn) for drawn in line.draws],
        hoverinfo="text",
        legendgroup=line.optimizer,
    )


def _tested(info: TuningCurveInfo, line: TuningLine, x: Sequence[float]) -> go.Scatter:
    return go.Scatter(
        x=list(x),
        y=[drawn.test for drawn in line.draws],
        yaxis="y2",
        mode="lines" if len(x) > 1 else "markers",
        line={"color": style.color(line.optimizer), "width": 2, "dash": style.dash(line.optimizer)},
        hovertext=[_hover(info, line, drawn, tested=True) for drawn in line.draws],
        hoverinfo="text",
        showlegend=False,
        legendgroup=line.optimizer,
    )


def _hover(info: TuningCurveInfo, line: TuningLine, drawn: Drawn, *, tested: bool = False) -> str:
    """Returns one panel's value with its band: the value that selects, or that on test."""
    name, value, low, high = f"best {info.value}", drawn.value, drawn.low, drawn.high
    if tested and drawn.test is not None and drawn.test_low is not None and drawn.test_high is not None:
        name, value, low, high = f"{info.test} of it", drawn.test, drawn.test_low, drawn.test_high
    points = f"{drawn.k} of {line.finished} points, {duration(drawn.seconds)}"
    mean, *ends = (fixed(number, info.digits) for number in (value, low, high))
    return "<br>".join(
        (f"<b>{named(line.optimizer)}</b>", points, escape(f"{name} {mean} (80 %: {' to '.join(ends)})"))
    )
