"""How often the comparison's intervals are right: `python -m benchmarks coverage`, without training anything.

Outcomes of two methods on test examples are drawn with a known difference between them, and the product's own analysis
says where it thinks the difference is. Where runs and examples are many, or repeats are, the analysis's mean squares
are drawn from their distributions instead, which for normal effects is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lawn_tune.comparison.inference import Effect, crossed
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

REPEATS = 4_000
DRAWN = 400
"""Repeats in which every outcome is drawn."""


def run() -> dict[str, Any]:
    """Returns coverage, errors of families and power, in percent."""
    generator = np.random.default_rng(1)
    return {
        "repeats": REPEATS,
        "repeats_drawn": DRAWN,
        "coverage": [_coverage(generator, s, e) for s in SEEDS for e in EXAMPLES],
        "drawn": [_drawn(generator, s, e) for s in SEEDS for e in EXAMPLES],
        "families": [_family(generator, s, m) for s in SEEDS for m in FAMILIES],
        "power": {str(s): [_power(generator, s, effect) for effect in EFFECTS] for s in SEEDS},
        "effects": EFFECTS,
        "searches": [_searches(generator, n, s) for n in SEARCHES for s in SEEDS],
    }


def effect(generator: Generator, seeds: int, examples: int, spread: float, noise: tuple[float, float]) -> Effect:
    """Draws what the analysis would find for a true difference of 0: a mean, and the mean squares of a layout.

    Args:
        spread: of runs, points.
        noise: of examples, and of the rest, points.
    """
    of_example, rest = noise[0] ** 2, noise[1] ** 2
    total = seeds * examples
    mean = generator.normal(0, np.sqrt(spread**2 / seeds + of_example / examples + rest / total))
    ms_seed = (examples * spread**2 + rest) * generator.chisquare(seeds - 1) / (seeds - 1)
    ms_example = (seeds * of_example + rest) * generator.chisquare(examples - 1) / (examples - 1)
    ms_rest = rest * generator.chisquare((seeds - 1) * (examples - 1)) / ((seeds - 1) * (examples - 1))
    return Effect(float(mean), seeds, examples, ms_seed / total, max(ms_example - ms_rest, 0.0) / total)


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
    found = {
        (spread, noise): _share(
            not effect(generator, seeds, examples, spread, noise).interval().excludes_zero() for _ in range(REPEATS)
        )
        for spread in SPREADS
        for noise in NOISE
    }
    return {"seeds": seeds, "examples": examples, "least": min(found.values()), "most": max(found.values())}


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
    found = effect(generator, seeds, 943, 0.5 * 2**0.5, (10.0, 40.0))
    return replace(found, mean=found.mean + won[1] - won[0], by_selection=by_selection)


def _searches(generator: Generator, searches: int, seeds: int) -> dict[str, Any]:
    """Returns how often intervals hold for other searches too, with the selection resampled and without, by gap."""
    found = [[searched(generator, searches, seeds, gap) for _ in range(REPEATS)] for gap in GAPS]

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
    found = [
        _share(
            any(effect(generator, seeds, 943, spread, noise).interval(pairs).excludes_zero() for _ in range(pairs))
            for _ in range(REPEATS)
        )
        for spread in SPREADS[::2]
        for noise in NOISE
    ]
    return {"seeds": seeds, "pairs": pairs, "error": float(np.mean(found)), "worst": max(found)}


def _power(generator: Generator, seeds: int, true: float) -> float:
    """Returns how often a true difference is found with 943 examples, one pair, runs that differ by 0.5."""
    found = (effect(generator, seeds, 943, 0.5, (10.0, 40.0)) for _ in range(REPEATS))
    return _share(one.interval().low + true > 0 for one in found)


def _share(hits: Iterable[bool]) -> float:
    return 100 * float(np.mean(list(hits)))
