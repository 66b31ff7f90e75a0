"""How often the comparison's intervals are right: `python -m benchmarks coverage`, without training anything.

Outcomes of two methods on test examples are drawn with a known difference between them, and the product's own analysis
says where it thinks the difference is. Where runs and examples are many, or repeats are, the analysis's mean squares
are drawn from their distributions instead, which for normal effects is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lawn_tune.comparison.inference import Effect, crossed, family_quantile, squared_width
from lawn_tune.comparison.stability import selection, selection_variance

SEEDS = (3, 5, 10, 20)
EXAMPLES = (100, 943, 6_040, 10_000, 50_000)
SPREADS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Standard deviation of a run's mean difference from its expectation, points."""

FAMILIES = (2, 5, 10, 20)
SEARCHES = (2, 3, 5)
"""Search seeds."""

POINTS = 9
GAPS = (0.0, 0.1, 0.25, 0.5, 1.0)
"""Points by which each point of a grid is worse than the one before; at 0 all are equally good."""

EFFECTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
NOISE = ((30.0, 30.0), (10.0, 40.0), (0.0, 35.0))
"""Standard deviations over examples and of the rest, points: 35 is a disagreement on one example in eight."""

REPEATS = 400_000
DRAWN = 1_000
"""Repeats in which every outcome is drawn."""

SEARCHED = 10_000
"""Repeats of a search."""


def run() -> dict[str, Any]:
    """Returns coverage, errors of families and power, in percent."""
    generator = np.random.default_rng(1)
    return {
        "repeats": REPEATS,
        "repeats_drawn": DRAWN,
        "repeats_searched": SEARCHED,
        "coverage": [_coverage(generator, s, e) for s in SEEDS for e in EXAMPLES],
        "drawn": [_drawn(generator, s, e) for s in SEEDS for e in EXAMPLES],
        "families": [_family(generator, s, m) for s in SEEDS for m in FAMILIES],
        "power": {str(s): [_power(generator, s, effect) for effect in EFFECTS] for s in SEEDS},
        "effects": EFFECTS,
        "searches": [_searches(generator, n, s) for n in SEARCHES for s in SEEDS],
    }


class Draws(NamedTuple):
    """What the analysis finds in repeats [R] of a study; each field as of `Effect`."""

    mean: NDArray[np.float64]
    by_seed: NDArray[np.float64]
    by_example: NDArray[np.float64]


def draws(
    generator: Generator, seeds: int, examples: int, spread: float, noise: tuple[float, float], repeats: int
) -> Draws:
    """Draws what the analysis would find for a true difference of 0: means, and the mean squares of a layout.

    Args:
        spread: of runs, points.
        noise: of examples, and of the rest, points.
        repeats: R.
    """
    of_example, rest = noise[0] ** 2, noise[1] ** 2
    total = seeds * examples

    def mean_square(expected: float, freedom: int) -> NDArray[np.float64]:
        return expected * generator.chisquare(freedom, repeats) / freedom

    mean = generator.normal(0, np.sqrt(spread**2 / seeds + of_example / examples + rest / total), repeats)
    ms_seed = mean_square(examples * spread**2 + rest, seeds - 1)
    ms_example = mean_square(seeds * of_example + rest, examples - 1)
    ms_rest = mean_square(rest, (seeds - 1) * (examples - 1))
    return Draws(mean, ms_seed / total, np.maximum(ms_example - ms_rest, 0.0) / total)


def half_widths(found: Draws, seeds: int, examples: int, family: int = 1) -> NDArray[np.float64]:
    """Returns the half-widths of their intervals [R], by the product's own formula."""
    of_seeds, of_examples = (family_quantile(n - 1, family) ** 2 for n in (seeds, examples))
    return np.sqrt(squared_width((found.by_seed, of_seeds), (found.by_example, of_examples)))


def outcomes(generator: Generator, seeds: int, examples: int, spread: float) -> NDArray[np.float64]:
    """Draws D [S, E] in {-100, 0, 100} of two methods without a true difference, each example as hard as it is."""
    ease = 0.2 + 0.6 * generator.random(examples, dtype=np.float32)
    leaning = 0.1 * (generator.random(examples, dtype=np.float32) - 0.5)
    shifts = generator.normal(0, spread / np.sqrt(2) / 100, (2, seeds, 1)).astype(np.float32)
    draws = generator.random((2, seeds, examples), dtype=np.float32)
    baseline, challenger = draws[0] < ease + shifts[0], draws[1] < ease + leaning + shifts[1]
    found: NDArray[np.float64] = 100.0 * (challenger.astype(np.float64) - baseline)
    return found


def _coverage(generator: Generator, seeds: int, examples: int) -> dict[str, Any]:
    shares = []
    for spread, noise in product(SPREADS, NOISE):
        found = draws(generator, seeds, examples, spread, noise, REPEATS)
        shares.append(_share(np.less_equal(abs(found.mean), half_widths(found, seeds, examples))))
    return {"seeds": seeds, "examples": examples, "least": min(shares), "most": max(shares)}


def _drawn(generator: Generator, seeds: int, examples: int) -> dict[str, Any]:
    found = [
        _share(not crossed(outcomes(generator, seeds, examples, s)).interval().excludes_zero() for _ in range(DRAWN))
        for s in (0.0, 0.5, 2.0)
    ]
    return {"seeds": seeds, "examples": examples, "least": min(found), "most": max(found)}


def searched(generator: Generator, searches: int, seeds: int, gap: float) -> Effect:
    """Draws what the analysis would find of two tuned methods that are equally good, each with a search of its own.

    Runs of a point differ by 0.5 points, on validation and test data alike, which differ by 0.25 more. The difference
    is 0 on average over searches; in one search, one method's winner may be a better point than the other's.

    Args:
        searches: search seeds.
        seeds: confirm seeds of both winners.
        gap: see `GAPS`.
    """
    levels = -gap * np.arange(POINTS)
    values = levels[:, None] + generator.normal(0, 0.5, (2, POINTS, searches))
    tests = (values + generator.normal(0, 0.25, values.shape)).mean(axis=-1)
    won = levels[values.mean(axis=-1).argmax(axis=-1)]
    by_selection = sum(selection_variance(t, selection(v), searches) for v, t in zip(values, tests, strict=True))
    mean, by_seed, by_example = (float(x[0]) for x in draws(generator, seeds, 943, 0.5 * 2**0.5, (10.0, 40.0), 1))
    return Effect(mean + won[1] - won[0], seeds, 943, by_seed, by_example, by_selection)


def _searches(generator: Generator, searches: int, seeds: int) -> dict[str, Any]:
    """Returns how often intervals hold for other searches too, with the selection resampled and without, by gap."""
    found = [[searched(generator, searches, seeds, gap) for _ in range(SEARCHED)] for gap in GAPS]

    def covered(effects: Iterable[Effect]) -> float:
        return _share(not one.interval().excludes_zero() for one in effects)

    shares = [covered(effects) for effects in found]
    conditional = [covered(replace(one, by_selection=0.0) for one in effects) for effects in found]
    return {
        "searches": searches,
        "seeds": seeds,
        "least": min(shares),
        "most": max(shares),
        "conditional": {"least": min(conditional), "most": max(conditional)},
    }


def _family(generator: Generator, seeds: int, pairs: int) -> dict[str, Any]:
    """Returns how often any of so many intervals misses, at the worst of the spreads and noises."""
    errors = []
    for spread, noise in product(SPREADS[::2], NOISE):
        found = draws(generator, seeds, 943, spread, noise, REPEATS * pairs)
        missed = np.greater(abs(found.mean), half_widths(found, seeds, 943, pairs))
        errors.append(_share(missed.reshape(REPEATS, pairs).max(axis=1) > 0))
    return {"seeds": seeds, "pairs": pairs, "error": float(np.mean(errors)), "worst": max(errors)}


def _power(generator: Generator, seeds: int, true: float) -> float:
    """Returns how often a true difference is found with 943 examples, one pair, runs that differ by 0.5."""
    found = draws(generator, seeds, 943, 0.5, (10.0, 40.0), REPEATS)
    return _share(np.greater(found.mean + true, half_widths(found, seeds, 943)))


def _share(hits: Iterable[bool] | NDArray[np.bool_]) -> float:
    return 100 * float(np.mean(hits if isinstance(hits, np.ndarray) else list(hits)))
