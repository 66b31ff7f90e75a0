"""Laws of the statistics: oracles by brute force, invariances, and how often intervals cover the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.special import erfc

from lawn_tune.comparison.inference import (
    MOST_SEEDS,
    Effect,
    Interval,
    crossed,
    mean_and_error,
    over_seeds,
    squared_width,
)

OUTCOMES = st.sampled_from([-100.0, 0.0, 100.0])
VALUES = st.floats(-50, 50, allow_nan=False).map(lambda x: round(x, 3))


@st.composite
def differences(draw: st.DrawFn) -> NDArray[np.float64]:
    """D [S, E] of outcomes: each in {-100, 0, 100} points."""
    seeds, examples = draw(st.integers(2, 5)), draw(st.integers(2, 30))
    row = st.lists(OUTCOMES, min_size=examples, max_size=examples)
    return np.array(draw(st.lists(row, min_size=seeds, max_size=seeds)))


# --- mean and standard error -----------------------------------------------------------------------------------------


@given(st.lists(VALUES, min_size=2, max_size=20))
def test_the_error_is_that_of_scipy(values: list[float]) -> None:
    mean, error = mean_and_error(values)
    assert mean == pytest.approx(np.mean(values))
    assert error == pytest.approx(stats.sem(values), abs=1e-9)


def test_one_value_has_no_error() -> None:
    assert mean_and_error([66.5]) == (66.5, None)


# --- crossed random effects ------------------------------------------------------------------------------------------


def literal_mean_squares(d: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean squares of seeds, examples and rest, as drops of the residual sum of least-squares fits."""
    seeds, examples = d.shape
    one = np.ones((d.size, 1))
    of_seed = np.kron(np.eye(seeds), np.ones((examples, 1)))
    of_example = np.kron(np.ones((seeds, 1)), np.eye(examples))

    def left(*columns: NDArray[np.floating[Any]]) -> float:
        design = np.hstack(columns)
        fitted = design @ np.linalg.lstsq(design, d.ravel(), rcond=None)[0]
        return float(np.sum((d.ravel() - fitted) ** 2))

    nothing, rest = left(one), left(one, of_seed, of_example)
    return (
        (nothing - left(one, of_seed)) / (seeds - 1),
        (nothing - left(one, of_example)) / (examples - 1),
        rest / ((seeds - 1) * (examples - 1)),
    )


@settings(max_examples=40)
@given(differences())
def test_variances_are_those_of_the_least_squares_fits(d: NDArray[np.float64]) -> None:
    effect, (seed, example, rest) = crossed(d), literal_mean_squares(d)
    assert effect.mean == pytest.approx(d.mean(), abs=1e-9)
    of_seeds = rest if np.ptp(d.mean(axis=1)) < 1e-9 else seed
    assert effect.by_seed == pytest.approx(of_seeds / d.size, rel=1e-6, abs=1e-6)
    assert effect.by_example == pytest.approx(max(example - rest, 0.0) / d.size, rel=1e-6, abs=1e-6)


@given(differences(), st.integers(1, 20))
def test_the_interval_is_symmetric_between_the_largest_part_and_the_sum(d: NDArray[np.float64], family: int) -> None:
    effect, (seeds, examples) = crossed(d), d.shape
    interval = effect.interval(family)
    p = (1 + 0.95 ** (1 / family)) / 2
    parts = stats.t.ppf(p, [seeds - 1, examples - 1]) * np.sqrt([effect.by_seed, effect.by_example])
    half = (interval.high - interval.low) / 2
    assert interval.low + interval.high == pytest.approx(2 * effect.mean, abs=1e-6)
    assert parts.max() * (1 - 1e-9) - 1e-9 <= half <= np.hypot(*parts) * (1 + 1e-9) + 1e-9


@given(differences(), st.integers(1, 20), st.floats(100, 300))
def test_the_bound_cuts_the_interval_and_nothing_else(d: NDArray[np.float64], family: int, bound: float) -> None:
    effect = crossed(d)
    free, cut = effect.interval(family), replace(effect, bound=bound).interval(family)
    assert (cut.low, cut.high) == (max(free.low, -bound), min(free.high, bound))
    assert cut.low <= effect.mean <= cut.high
    assert cut.excludes_zero() == free.excludes_zero()


@given(differences())
def test_swapping_the_methods_negates_the_interval(d: NDArray[np.float64]) -> None:
    there, back = crossed(d).interval(), crossed(-d).interval()
    assert (back.low, back.high) == (-there.high, -there.low)


@given(differences(), st.randoms(use_true_random=False))
def test_the_order_of_seeds_and_examples_has_no_influence(d: NDArray[np.float64], random: Any) -> None:
    rows, columns = list(range(d.shape[0])), list(range(d.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    there, moved = crossed(d).interval(), crossed(d[rows][:, columns]).interval()
    assert (moved.low, moved.high) == pytest.approx((there.low, there.high), rel=1e-6, abs=1e-6)


@given(differences(), st.floats(0.1, 10))
def test_the_interval_scales_with_the_differences(d: NDArray[np.float64], factor: float) -> None:
    plain, scaled = crossed(d).interval(), crossed(factor * d).interval()
    assert (scaled.low, scaled.high) == pytest.approx((factor * plain.low, factor * plain.high), rel=1e-6, abs=1e-5)


@given(differences(), st.integers(1, 20))
def test_only_a_difference_that_never_varies_has_an_interval_without_width(d: NDArray[np.float64], n: int) -> None:
    effect = crossed(d)
    assert (effect.half_width(n) > 1e-6) == (np.ptp(d) > 0) == (not effect.constant)


def test_two_runs_with_equal_means_that_differ_on_examples_leave_room_for_either_method() -> None:
    d = 100.0 * np.array([[1, -1, 0, 0] * 25, [-1, 1, 0, 0] * 25])
    effect = crossed(d)
    assert (effect.mean, effect.by_example) == (0, 0)
    assert effect.by_seed == pytest.approx((d**2).sum() / 99 / 200)


@given(VALUES, VALUES)
def test_an_interval_is_within_the_margin_that_its_far_end_has(one: float, other: float) -> None:
    interval, far = Interval(min(one, other), max(one, other)), max(abs(one), abs(other))
    assert interval.within(far)
    assert not interval.within(np.nextafter(far, -1.0))


def test_identical_methods_have_an_interval_of_exactly_zero() -> None:
    assert crossed(np.zeros((3, 500))).interval() == Interval(0.0, 0.0)


@pytest.mark.parametrize("seeds", [2, 3, 4, 5, 10, 20])
@pytest.mark.parametrize("family", [1, 5, 20, 200])
def test_it_misses_at_most_as_often_as_it_says_whatever_the_parts(seeds: int, family: int) -> None:
    """Integrated over the estimated variances [node of seeds, node of examples], of 50 examples and of many."""
    level = 0.95 ** (1 / family)
    x = np.linspace(-8, 7.5, 100)
    weights = np.outer(np.exp(-(x**2) / 2), np.exp(-(x**2) / 2))
    for examples in (50, 50_000):
        freedoms = seeds - 1, examples - 1
        a, b = (stats.chi2.ppf(stats.norm.cdf(x), freedom) / freedom for freedom in freedoms)
        p, q = (float(stats.t.ppf((1 + level) / 2, freedom)) ** 2 for freedom in freedoms)
        for share in np.linspace(0, 1, 11):
            squared = squared_width((share * a[:, None], p), ((1 - share) * b, q))
            missed = np.average(erfc(np.sqrt(squared / 2)), weights=weights)
            assert missed <= (1 - level) * 1.002, (examples, share)


@given(st.floats(0.01, 10), st.floats(0, 10), st.floats(1, 500), st.floats(1, 500))
def test_more_noise_of_either_kind_never_narrows_an_interval(a: float, b: float, p: float, q: float) -> None:
    before = squared_width((a, p), (b, q))
    assert before <= squared_width((1.1 * a, p), (b, q)) * (1 + 1e-9)
    assert before <= squared_width((a, p), (b + 0.1, q)) * (1 + 1e-9)
    assert before == squared_width((b, q), (a, p))


def drawn(generator: np.random.Generator, effect: float, spread: float) -> NDArray[np.float64]:
    """D [3, 300] of two methods whose true difference is `effect` points: runs and examples are drawn afresh."""
    easy = 0.55 + 0.3 * np.tanh(generator.normal(0, 1.5, 300))
    leaning = generator.normal(0, 0.1, 300)  # what the challenger is better at on this example
    runs = generator.normal(0, spread / 2**0.5, (2, 3, 1)) / 100
    base = generator.random((3, 300)) < easy + runs[0]
    challenger = generator.random((3, 300)) < easy + leaning + effect / 100 + runs[1]
    d: NDArray[np.float64] = 100.0 * (challenger.astype(int) - base.astype(int))
    return d


@pytest.mark.parametrize("spread", [0.0, 1.0, 2.0, 4.0])
def test_it_covers_a_planted_effect_as_often_as_it_says(spread: float) -> None:
    generator, covered, repeats = np.random.default_rng(7), 0, 1_000
    for _ in range(repeats):
        interval = crossed(drawn(generator, 2.0, spread)).interval()
        covered += interval.low <= 2.0 <= interval.high
    assert covered / repeats >= 0.935  # 95 % less two standard errors


@pytest.mark.parametrize("family", [2, 20])
def test_intervals_of_a_family_seldom_err_anywhere(family: int) -> None:
    generator, wrong, repeats = np.random.default_rng(9), 0, 2_000 // family
    for _ in range(repeats):
        intervals = [crossed(drawn(generator, 0.0, 2.0)).interval(family) for _ in range(family)]
        wrong += any(interval.excludes_zero() for interval in intervals)
    assert wrong / repeats <= 0.05 + 2 * (0.05 * 0.95 / repeats) ** 0.5


def test_a_detectable_difference_is_found_four_times_in_five() -> None:
    generator, (seeds, examples) = np.random.default_rng(8), (5, 200)

    def noise() -> NDArray[np.float64]:
        parts = generator.normal(0, 1, (seeds, 1)), generator.normal(0, 10, examples)
        return parts[0] + parts[1] + generator.normal(0, 30, (seeds, examples))

    planted = float(np.mean([crossed(noise()).detectable() for _ in range(400)]))
    found = [crossed(planted + noise()).interval().excludes_zero() for _ in range(1_000)]
    assert 0.72 <= np.mean(found) <= 0.85


# --- how many seeds --------------------------------------------------------------------------------------------------

EFFECTS = st.builds(
    Effect,
    mean=VALUES,
    seeds=st.integers(2, 20),
    examples=st.sampled_from([None, 100, 943, 50_000]),
    by_seed=st.floats(0.001, 10),
    by_example=st.floats(0, 10),
)


@given(EFFECTS, st.integers(1, 20), st.integers(2, 500))
def test_more_seeds_narrow_the_interval_and_a_larger_family_widens_it(effect: Effect, family: int, seeds: int) -> None:
    assert effect.half_width(family, seeds + 1) < effect.half_width(family, seeds)
    assert effect.half_width(family + 1, seeds) > effect.half_width(family, seeds)
    assert effect.half_width(family) == effect.half_width(family, effect.seeds)


@given(EFFECTS, st.floats(0.1, 5), st.integers(1, 20))
def test_the_seeds_asked_for_are_the_fewest_that_do(effect: Effect, width: float, family: int) -> None:
    found = effect.seeds_for(width, family)
    if found is None:
        assert effect.half_width(family, MOST_SEEDS) > width
        return
    assert effect.half_width(family, found) <= width
    assert found == 2 or effect.half_width(family, found - 1) > width


@given(EFFECTS, st.floats(0.1, 5), st.integers(1, 20))
def test_half_the_margin_to_both_sides_decides_wherever_the_mean_is(effect: Effect, margin: float, family: int) -> None:
    decided = replace(effect, by_seed=0.0, by_example=0.0)
    half = margin / 2
    interval = Interval(decided.mean - half, decided.mean + half)
    assert interval.excludes_zero() or interval.within(margin)


# --- seeds only ------------------------------------------------------------------------------------------------------


@given(st.lists(VALUES, min_size=2, max_size=12))
def test_over_seeds_the_interval_is_students(values: list[float]) -> None:
    interval = over_seeds(values).interval()
    half = stats.t.ppf(0.975, len(values) - 1) * float(stats.sem(values))
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=1e-6, abs=1e-9)
    assert (interval.high + interval.low) / 2 == pytest.approx(np.mean(values), abs=1e-9)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (mean_and_error, []),
        (mean_and_error, [[1.0]]),
        (mean_and_error, [1.0, float("nan")]),
        (over_seeds, [1.0]),
        (over_seeds, []),
        (crossed, [1.0, 2.0]),
        (crossed, [[1.0, 2.0]]),
        (crossed, [[1.0], [2.0]]),
        (crossed, np.empty((2, 0))),
        (crossed, [[1.0, 2.0], [float("inf"), 1.0]]),
    ],
)
def test_unfit_values_are_refused(function: Callable[[Any], Any], values: Any) -> None:
    with pytest.raises(ValueError, match=r"got|shape"):
        function(values)
