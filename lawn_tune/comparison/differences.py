"""Challenger − baseline: of one pair over the seeds that both have, and of several pairs together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lawn_tune.comparison.estimates import Estimate
from lawn_tune.comparison.inference import Effect, Interval, crossed, over_seeds
from trainables.examples import Outcomes, gains, hits


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Challenger − baseline over the seeds both have, in the metric's unit (percentage points).

    Args:
        mean: of the differences.
        seeds: paired seeds.
        effect: the mean with its uncertainty; None where runs do not tell it: one seed, or seeds that agree exactly.
        family: pairs whose intervals hold together: all of the comparison, measured already or not.
        margin: see `Protocol.margin`.
    """

    mean: float
    seeds: tuple[int, ...]
    effect: Effect | None
    family: int
    margin: float | None

    @property
    def n(self) -> int:
        """Number of paired seeds."""
        return len(self.seeds)

    @property
    def examples(self) -> int | None:
        """Test examples the interval also speaks of; None where it is over seeds only."""
        return self.effect.examples if self.effect else None

    @cached_property
    def interval(self) -> Interval | None:
        """The 95 % interval, simultaneous over the family; None without an effect."""
        return self.effect.interval(self.family) if self.effect else None

    @property
    def detectable(self) -> float | None:
        """True difference that as many runs would find in four of five repeats; None without an effect."""
        return self.effect.detectable(self.family) if self.effect else None

    @property
    def finds_nothing(self) -> bool:
        """True if no difference that there could be is detectable."""
        return self.effect is not None and self.effect.detectable(self.family) > self.effect.bound

    @cached_property
    def seeds_needed(self) -> int | None:
        """Seeds that would decide, whatever they show; None without a margin or an effect, or if no number would.

        An interval of half the margin to both sides excludes zero or lies within the margin, wherever its mean is.
        """
        if self.effect is None or self.margin is None:
            return None
        return self.effect.seeds_for(self.margin / 2, self.family)

    @cached_property
    def seeds_to_find(self) -> int | None:
        """Seeds with which `POWER` of all studies find a true difference of this mean; None if no number would."""
        if self.effect is None or self.mean == 0:
            return None
        return self.effect.seeds_to_detect(abs(self.mean), self.family)


ByExample = NDArray[np.int8] | NDArray[np.float64]

COMMON = 3
"""Seeds that pairs have in common, from which on these tell how the pairs err together (our choice)."""


class Paired(NamedTuple):
    """What the interval of a pair is computed from.

    Args:
        seeds: those that both cells have, S >= 1.
        by_seed: D [S] in the metric's unit.
        outcomes: challenger − baseline on each test example [S, E], from −1 to 1; None where outcomes are missing or
            are not those that the metric is the mean of.
        by_selection: variance of D that comes from the choice of the two winners.
        bound: no D is farther from zero: 100 of two percentages.
        alike: both methods have the same outcome on every test example of every seed, and these are not all the same.
    """

    seeds: tuple[int, ...]
    by_seed: NDArray[np.float64]
    outcomes: ByExample | None
    by_selection: float = 0.0
    bound: float = math.inf
    alike: bool = False

    @property
    def examples(self) -> int | None:
        """E; None where the differences are known by seed alone."""
        return None if self.outcomes is None else self.outcomes.shape[1]

    def over(self, seeds: Sequence[int]) -> Paired:
        """Returns the same over some of its seeds."""
        rows = [self.seeds.index(seed) for seed in seeds]
        outcomes = None if self.outcomes is None else self.outcomes[rows]
        return self._replace(seeds=tuple(seeds), by_seed=self.by_seed[rows], outcomes=outcomes)

    @property
    def effect(self) -> Effect | None:
        """Mean and uncertainty; None where the runs do not tell it: see `supported`."""
        return None if len(self.seeds) < 2 else supported([self], [1.0])


def paired(
    base: Estimate,
    challenger: Estimate,
    examples: Mapping[str, Outcomes],
    by_selection: float = 0.0,
    bound: float = math.inf,
) -> Paired | None:
    """Returns a pair's differences, or None if the two have no seed in common.

    Args:
        base, challenger: their confirmed values.
        examples: key → outcome on each test example [E].
        by_selection, bound: see `Paired`.
    """
    seeds = tuple(seed for seed in base.values if seed in challenger.values)
    if not seeds:
        return None
    ours, theirs = (np.array([estimate.values[seed] for seed in seeds]) for estimate in (base, challenger))
    by_seed = theirs - ours
    if np.ptp(by_seed) <= 1e-12 * np.abs([ours, theirs]).max():  # but for rounding, the same with every seed
        by_seed = np.full_like(by_seed, by_seed.mean())
    found = _outcomes(base, challenger, seeds, examples)
    if found is None:
        return Paired(seeds, by_seed, None, by_selection, bound)
    of_base, of_challenger = found
    alike = bool((of_base == of_challenger).all() and of_base.min() < of_base.max())
    return Paired(seeds, by_seed, of_challenger - of_base, by_selection, 100.0, alike)


def supported(pairs: Sequence[Paired], weights: Sequence[float]) -> Effect | None:
    """Returns Σ w·D as `weighted`; None where it has no variance that an interval could be computed from.

    The same D from all seeds does not tell how runs vary: rounded values of two runs often differ by as much, and
    models that learned nothing fail on every example alike. An interval has no width only for pairs that are `alike`:
    two methods that agree on every example, some of them right and some wrong, do the same (our choice).
    """
    effect = weighted(pairs, weights)
    return None if effect.constant and not all(pair.alike for pair in pairs) else effect


def weighted(pairs: Sequence[Paired], weights: Sequence[float]) -> Effect:
    """Returns Σ w·D over pairs, in the unit of the metric.

    Pairs with the same seeds and test examples are one layout, analyzed as that of a single pair: the examples, and
    whatever else they share, may make them err together. If some have more seeds than others, the mean is over all
    runs and its variance that over the seeds they have in common. With fewer than `COMMON` of these, or other examples,
    standard errors are added, which is at least that of the sum however they err together, with the degrees of freedom
    of the fewest.

    Args:
        pairs: at least one, of at least 2 seeds each.
        weights: one a pair.
    """
    terms = tuple(zip(weights, pairs, strict=True))
    by_selection = _squared_sum((weight, pair.by_selection) for weight, pair in terms)
    common = in_common(pairs)
    alike = len({pair.examples for pair in pairs}) == 1
    if alike and all(pair.seeds == common for pair in pairs):
        return replace(_one_layout(terms), by_selection=by_selection)
    effects = [(weight, _one_layout([(1.0, pair)])) for weight, pair in terms]
    if alike and len(common) >= COMMON:
        effect = _one_layout([(weight, pair.over(common)) for weight, pair in terms])
        mean = math.fsum(weight * own.mean for weight, own in effects)
        return replace(effect, mean=mean, by_selection=by_selection)
    return replace(_apart(effects), by_selection=by_selection)


def in_common(pairs: Sequence[Paired]) -> tuple[int, ...]:
    """Returns the seeds that all pairs have."""
    return tuple(seed for seed in pairs[0].seeds if all(seed in pair.seeds for pair in pairs))


def _one_layout(terms: Sequence[tuple[float, Paired]]) -> Effect:
    if terms[0][1].examples is None:
        parts = np.array([weight * pair.by_seed for weight, pair in terms])
        total = parts.sum(axis=0)
        equal = np.ptp(total) <= 1e-9 * np.abs(parts).max()  # but for rounding
        effect = over_seeds(np.full_like(total, total.mean()) if equal else total)
    else:
        effect = crossed(100 * sum(weight * pair.outcomes for weight, pair in terms if pair.outcomes is not None))
    return replace(effect, bound=math.fsum(abs(weight) * pair.bound for weight, pair in terms if weight))


def _apart(effects: Sequence[tuple[float, Effect]]) -> Effect:
    examples = [effect.examples for _, effect in effects if effect.examples is not None]
    return Effect(
        mean=math.fsum(weight * effect.mean for weight, effect in effects),
        seeds=min(effect.seeds for _, effect in effects),
        examples=min(examples) if examples else None,
        by_seed=_squared_sum((weight, effect.by_seed) for weight, effect in effects),
        by_example=_squared_sum((weight, effect.by_example) for weight, effect in effects),
        bound=math.fsum(abs(weight) * effect.bound for weight, effect in effects if weight),
    )


def _squared_sum(parts: Iterable[tuple[float, float]]) -> float:
    """Returns the variance of Σ w·x if all x err together: the square of the sum of their standard errors."""
    return math.fsum(abs(weight) * math.sqrt(variance) for weight, variance in parts) ** 2


def _outcomes(
    base: Estimate, challenger: Estimate, seeds: Sequence[int], examples: Mapping[str, Outcomes]
) -> tuple[ByExample, ByExample] | None:
    """Returns both methods' outcomes [S, E], or None unless they are there and their means are the metric.

    Hits average to an accuracy or a hit rate, gains to NDCG; neither to another metric, or to that of another epoch.
    """
    keys = [(of, of.keys[seed], seed) for of in (base, challenger) for seed in seeds]
    if any(key not in examples or len(examples[key]) < 2 for _, key, _ in keys):
        return None
    if len({len(examples[key]) for _, key, _ in keys}) > 1:
        return None
    values = np.array([estimate.values[seed] for estimate, _, seed in keys])
    for read in (hits, gains):
        found = np.stack([read(examples[key]) for _, key, _ in keys])
        if (abs(100 * found.mean(axis=1) - values) <= 0.01).all():
            signed: ByExample = found.astype(np.int8) if found.dtype == np.bool_ else found.astype(np.float64)
            return signed[: len(seeds)], signed[len(seeds) :]
    return None
