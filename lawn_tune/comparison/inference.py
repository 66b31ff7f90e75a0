"""How sure we are: the one analysis behind every interval and every verdict, in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Value = TypeVar("Value", float, NDArray[np.float64])

LEVEL = 0.95
"""Of all intervals of a family together."""

POWER = 0.8
"""Share of repeats in which a detectable difference would be found (our choice, as is usual)."""

MOST_SEEDS = 10_000
"""More seeds than this are no advice."""


@dataclass(frozen=True)
class Interval:
    """An interval, in the unit of what it is about."""

    low: float
    high: float

    def excludes_zero(self) -> bool:
        """True when zero is outside, so that the sign is settled."""
        return self.low > 0 or self.high < 0

    def within(self, margin: float) -> bool:
        """True when no value inside is farther from zero than `margin`."""
        return -margin <= self.low and self.high <= margin


@dataclass(frozen=True)
class Effect:
    """A mean difference between two methods, and what its uncertainty is made of.

    The interval's half-width h is that of `squared_width`: what the seeds and what the test examples contribute, each
    with the quantile of its own degrees of freedom. Where the selection of the winners was resampled, its variance is
    added with the normal quantile, z²·by_selection.

    Args:
        mean: of the differences, in the metric's unit.
        seeds: S >= 2.
        examples: E >= 2, or None where the differences are known by seed alone.
        by_seed: variance of the mean that comes from the seeds, from S − 1 degrees of freedom.
        by_example: variance of the mean that comes from the choice of test examples, from E − 1; 0 without them.
        by_selection: variance that comes from the choice of the winners; 0 where the interval is conditional on it.
        bound: no mean is farther from zero: 100 for a difference of two percentages.
    """

    mean: float
    seeds: int
    examples: int | None
    by_seed: float
    by_example: float
    by_selection: float = 0.0
    bound: float = math.inf

    @property
    def constant(self) -> bool:
        """True where neither seeds nor examples show a variance to compute an interval from."""
        return self.by_seed == self.by_example == 0

    def interval(self, family: int = 1) -> Interval:
        """Returns the interval at which `family` of them hold together with probability `LEVEL`, within the bound."""
        half = self.half_width(family)
        return Interval(max(self.mean - half, -self.bound), min(self.mean + half, self.bound))

    def half_width(self, family: int = 1, seeds: int | None = None) -> float:
        """Returns half the interval's width, as it is, or as it would be with another number of seeds."""
        n = self.seeds if seeds is None else seeds
        return self._width(lambda freedom: family_quantile(freedom, family), n)

    def _width(self, quantile: Callable[[float], float], seeds: int) -> float:
        by_seed, of_seeds = self.by_seed * self.seeds / seeds, quantile(seeds - 1) ** 2
        if self.examples is None or by_seed == self.by_example == 0:
            squared = of_seeds * by_seed
        else:
            squared = squared_width((by_seed, of_seeds), (self.by_example, quantile(self.examples - 1) ** 2))
        if self.by_selection:
            squared += quantile(math.inf) ** 2 * self.by_selection
        return math.sqrt(squared)

    def detectable(self, family: int = 1, seeds: int | None = None) -> float:
        """Returns the true difference for which such an interval would exclude zero in `POWER` of all repeats."""
        n = self.seeds if seeds is None else seeds
        beyond = self._width(lambda freedom: _student(freedom, POWER), n)
        return self.half_width(family, n) + beyond

    def seeds_for(self, half_width: float, family: int = 1) -> int | None:
        """Returns how many seeds would make the interval so narrow; None if `MOST_SEEDS` would not."""
        return _fewest(lambda seeds: self.half_width(family, seeds) <= half_width)

    def seeds_to_detect(self, difference: float, family: int = 1) -> int | None:
        """Returns how many seeds would make a true difference detectable; None if `MOST_SEEDS` would not."""
        return _fewest(lambda seeds: self.detectable(family, seeds) <= difference)


def family_quantile(freedom: float, family: int) -> float:
    """Returns Student's t at which as many independent two-sided intervals hold together at `LEVEL` (Šidák)."""
    return _student(freedom, (1 + LEVEL ** (1 / family)) / 2)


def squared_width(one: tuple[Value, float], other: tuple[Value, float]) -> Value:
    """Returns h² for a mean whose variance is the sum of two estimated parts.

    With variances a, b and squared quantiles p >= q, h² = q·(a + b) + (p − q)·a·(a / (a + b))^(q/p). A part alone has
    its own quantile, and h grows with either part. The exponent is ours: for normal effects, integrated numerically
    over all ratios of the parts, for 2 to 30 seeds and up to 200 pairs, an interval misses at most as often as it says,
    which is not so for an exponent of 1.2·q/p. With the exponent 0 it is Banerjee's bound (Calcutta Statistical
    Association Bulletin 10, 1960), which is wider; Satterthwaite's approximation is narrower and misses more often than
    it says.

    Args:
        one, other: variance, not both 0, and squared quantile of Student's t at its degrees of freedom.
    """
    (a, p), (b, q) = (one, other) if one[1] >= other[1] else (other, one)
    total = a + b
    share: Value = (a / total) ** (q / p)
    return q * total + (p - q) * a * share


def _fewest(enough: Callable[[int], bool]) -> int | None:
    if not enough(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS  # enough at `high`, and not at `low`: one seed has no interval
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def mean_and_error(values: ArrayLike) -> tuple[float, float | None]:
    """Returns mean and standard error, sd / sqrt(n) with n - 1 in the variance; no error for a single value.

    Args:
        values: [n], n >= 1, one value a run.

    Raises:
        ValueError: values are empty, not one-dimensional or not finite.
    """
    x = _finite(values, dimensions=1)
    if len(x) == 1:
        return float(x[0]), None
    return float(x.mean()), float((x - x[0]).std(ddof=1) / np.sqrt(len(x)))  # of equal values exactly 0


def crossed(differences: ArrayLike) -> Effect:
    """Returns the mean of D over seeds and test examples, both drawn at random.

    D[s, e] = mean + seed_s + example_e + rest_se, so Var(mean D) = (MS_seed + MS_example − MS_rest) / (S·E), of which
    MS_seed is the part of the seeds and MS_example − MS_rest, or 0 where that is negative, the part of the examples.
    Runs that differ on examples and have equal means do so by chance, as hits are counted: MS_seed is 0 there, and
    MS_rest is taken, which has at most its expectation (our choice).

    Args:
        differences: D [S, E], one row a seed, one column a test example, S >= 2 and E >= 2.

    Raises:
        ValueError: D is not [S, E] with S, E >= 2, or not finite.

    Source: two-way random effects without replication, as in multi-reader multi-case studies; the paper gives standard
    errors over runs only.
    """
    d = _finite(differences, dimensions=2)
    seeds, examples = d.shape
    if seeds < 2 or examples < 2:
        raise ValueError(f"an interval needs at least 2 seeds and 2 examples, got D of shape {list(d.shape)}")
    mean = float(d.mean())
    of_seeds, of_examples = d.mean(axis=1) - mean, d.mean(axis=0) - mean
    rest = d - mean - of_seeds[:, None] - of_examples
    ms_example = seeds * float(of_examples @ of_examples) / (examples - 1)
    ms_rest = float(np.vdot(rest, rest)) / ((seeds - 1) * (examples - 1))
    equal = np.ptp(of_seeds) <= 1e-12 * np.abs(d).max()
    ms_seed = ms_rest if equal else examples * float(of_seeds @ of_seeds) / (seeds - 1)
    total = seeds * examples
    return Effect(mean, seeds, examples, ms_seed / total, max(ms_example - ms_rest, 0.0) / total)


def over_seeds(differences: ArrayLike) -> Effect:
    """Returns the mean over seeds alone, for a metric without outcomes on single examples; Student's interval.

    Args:
        differences: d [S], one a seed, S >= 2.

    Raises:
        ValueError: d is not [S] with S >= 2, or not finite.
    """
    d = _finite(differences, dimensions=1)
    mean, error = mean_and_error(d)
    if error is None:
        raise ValueError("an interval needs at least 2 seeds, got 1; add confirm seeds")
    return Effect(mean, len(d), None, error**2, 0.0)


def _student(freedom: float, probability: float) -> float:
    """Returns a quantile of Student's t."""
    from scipy.special import stdtrit  # here, as it takes a tenth of a second that most commands can do without

    return float(stdtrit(freedom, probability))


def _finite(values: ArrayLike, *, dimensions: int) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"expected finite values with {dimensions} dimension(s), at least one value; got shape {list(array.shape)}"
        )
    return array
