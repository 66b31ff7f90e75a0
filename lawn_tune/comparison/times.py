"""Time to target: when each method of a pair reaches the baseline's confirmed value, and how often it is the faster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lawn_tune.comparison.comparison import CellResult, Comparison
from lawn_tune.comparison.verdicts import side
from lawn_tune.results import ResultSource, TrialRow
from trainables.catalogue.rows import Direction

CUT = 4.0
"""Ratio to the fastest beyond which a method counts as not arriving (AlgoPerf, arXiv 2306.07179, section 4)."""

Unit = Literal["epochs", "device_hours"]


class Arrival(NamedTuple):
    """When the confirm runs of a cell reach a target.

    Args:
        task: what is compared: the baseline's cell.
        cell: whose runs.
        side: what it stands for, "LAWN".
        target: mean of the baseline's confirmed values.
        epochs: of each run, the first epoch whose test value is as good as the target; infinite if none is.
        device_hours: the same in device time, by the share of its epochs.
    """

    task: str
    cell: str
    side: str
    target: float
    epochs: tuple[float, ...]
    device_hours: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.epochs)

    @property
    def arrived(self) -> int:
        """Number of runs that reach the target."""
        return sum(map(math.isfinite, self.epochs))

    def median(self, unit: Unit) -> float:
        """Returns the median over the runs, infinite if half of them do not arrive."""
        return float(median(self.epochs if unit == "epochs" else self.device_hours))


class Profile(NamedTuple):
    """How often one side is within a ratio of the fastest.

    Args:
        side: "LAWN".
        ratios: at which the share rises, ascending, up to `CUT`.
        shares: of the pairs, from that ratio on.
        pairs: of this side and another, their number.
        score: area below the shares from 1 to `CUT`, as a part of the largest.
    """

    side: str
    ratios: tuple[float, ...]
    shares: tuple[float, ...]
    pairs: int
    score: float

    def within(self, ratio: float) -> float:
        """Returns the share of pairs in which the side takes at most `ratio` times as long as the faster."""
        return max((share for at, share in zip(self.ratios, self.shares, strict=True) if at <= ratio), default=0.0)


def arrivals(source: ResultSource, comparison: Comparison) -> tuple[Arrival, ...]:
    """Returns when the cells of all confirmed pairs arrive at their baseline's value, baselines before challengers.

    Runs without a curve on test are left out, and baselines whose runs collapsed: their mean is no run's value.
    """
    pairs = [pair for pair in comparison.pairs if pair.difference and not pair.baseline.collapsed]
    racing = {(pair.baseline.cell.name, cell.cell.name): (pair.baseline, cell) for pair in pairs for cell in pair.cells}
    keys = [key for _, result in racing.values() if result.confirmed for key in result.confirmed.keys.values()]
    curves, rows = source.curves(keys), {row.key: row for row in source.trials(comparison.space)}
    found = [_arrival(baseline, result, curves, rows) for baseline, result in racing.values()]
    return tuple(arrival for arrival in found if arrival.epochs)


def _arrival(
    baseline: CellResult,
    result: CellResult,
    curves: Mapping[str, Mapping[str, NDArray[np.float64]]],
    rows: Mapping[str, TrialRow],
) -> Arrival:
    assert baseline.confirmed is not None
    assert result.confirmed is not None
    series = result.confirmed.series.partition("/")[2]
    target, direction = baseline.confirmed.mean, result.cell.protocol.direction
    known = [key for key in result.confirmed.keys.values() if series in curves.get(key, {})]
    epochs = tuple(first_epoch(curves[key][series], target, direction) for key in known)
    return Arrival(
        task=str(baseline.cell.name),
        cell=str(result.cell.name),
        side=side(result.cell),
        target=target,
        epochs=epochs,
        device_hours=tuple(
            (rows[key].summary.get("seconds") or math.nan) * epoch / rows[key].total_epochs / 3600
            for key, epoch in zip(known, epochs, strict=True)
        ),
    )


def first_epoch(values: NDArray[np.float64], target: float, direction: Direction) -> float:
    """Returns the first epoch, from 1, whose value is as good as the target; infinite if none is.

    Args:
        values: [epochs], NaN where not measured.
    """
    good = np.flatnonzero(values >= target if direction == "maximize" else values <= target)
    return float(good[0] + 1) if len(good) else math.inf


def profiles(found: Sequence[Arrival], unit: Unit = "epochs") -> tuple[Profile, ...]:
    """Returns the performance profile of each side over all pairs, cut at `CUT`.

    The ratio of a cell is its median time over the lower one of its pair; a pair of which none arrives counts for
    nobody, and one of a single side is left out. rho(tau) = share of the side's pairs with a ratio <= tau.

    Source: Dolan and Moré 2002; the cut and the score as AlgoPerf (arXiv 2306.07179, section 4), with the baseline's
    value as the target (our choice).
    """
    ratios: dict[str, list[float]] = {}
    baselines = {arrival.task: arrival for arrival in found if arrival.cell == arrival.task}
    for challenger in found:
        baseline = baselines.get(challenger.task)
        if baseline is None or baseline.side == challenger.side:
            continue
        times = [(arrival.side, arrival.median(unit)) for arrival in (baseline, challenger)]
        fastest = min(time for _, time in times)
        for name, time in times:
            ratios.setdefault(name, []).append(time / fastest if 0 < fastest < math.inf else math.inf)
    return tuple(_profile(name, sorted(values)) for name, values in ratios.items())


def _profile(name: str, ratios: Sequence[float]) -> Profile:
    within = [ratio for ratio in ratios if ratio <= CUT]
    steps = tuple(sorted(set(within)))
    score = math.fsum(CUT - ratio for ratio in within) / (CUT - 1) / len(ratios)
    shares = tuple(sum(ratio <= step for ratio in within) / len(ratios) for step in steps)
    return Profile(name, steps, shares, len(ratios), score)
