"""How much a winner depends on the seeds of the search: the selection repeated on resamples of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lawn_tune.cells import Cell
from lawn_tune.planning.selection import Point, Winner, interior_first

EXACT = 5
"""Search seeds up to which every resample is counted with its chance; of more, `DRAWS` are drawn."""

DRAWS = 2_000


class Stability(NamedTuple):
    """What a resample of the search seeds selects.

    Args:
        seeds: search seeds, n >= 2.
        share: chance that a resample keeps the winner.
        variance: of the test value of the point that a resample selects, by the search's own runs, times n / (n − 1) as
            a resample varies less than fresh seeds; None where test values are missing.
    """

    seeds: int
    share: float
    variance: float | None


def stability(cell: Cell, scored: Sequence[Point], won: Winner | None) -> Stability | None:
    """Returns how stable a winner is under resampling of the search seeds; None for one seed, and without a winner.

    All points of a resample are averaged over the same seeds, drawn with replacement; equal ones are ordered as by
    `selection.ranked`.

    Source: our choice; the nonparametric bootstrap (Efron 1979) over search seeds.
    """
    n = len(cell.protocol.search_seeds)
    if won is None or n < 2:
        return None
    points = [point for point in interior_first(cell, scored) if point.value is not None]
    sign = 1.0 if cell.protocol.direction == "maximize" else -1.0
    chances = selection(sign * np.array([point.values for point in points]))
    kept = np.array([point.keys == won.keys for point in points])
    tests = [point.test for point in points if point.test is not None]
    variance = selection_variance(np.array(tests), chances, n) if len(tests) == len(points) else None
    return Stability(n, float(chances @ kept), variance)


def selection(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the chance of each point to be the best of a resample [P].

    Args:
        values: [P, n], a point's value with each seed, higher is better; of equal points the first is the best.
    """
    times, chances = resamples(values.shape[1])
    means = values @ times.T / values.shape[1]
    chosen = np.argmax(means.round(9), axis=0)  # sums in another order tie only after rounding
    return np.bincount(chosen, chances, minlength=len(values)).astype(np.float64)


def selection_variance(tests: NDArray[np.float64], chances: NDArray[np.float64], n: int) -> float:
    """Returns the variance that the choice of the point adds to a test value: see `Stability`.

    Args:
        tests: test value of each point [P].
        chances: of the points to be chosen [P].
        n: search seeds.
    """
    return float(chances @ (tests - chances @ tests) ** 2) * n / (n - 1)


@cache
def resamples(n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns how often each of n seeds is in a resample [R, n], and the chance of the resample [R]."""
    if n > EXACT:
        drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=DRAWS)
        return drawn.astype(np.float64), np.full(DRAWS, 1 / DRAWS)
    counts = [Counter(chosen) for chosen in combinations_with_replacement(range(n), n)]
    times = np.array([[found[seed] for seed in range(n)] for found in counts], dtype=np.float64)
    ways = [math.factorial(n) / math.prod(map(math.factorial, found.values())) for found in counts]
    return times, np.array(ways) / n**n
