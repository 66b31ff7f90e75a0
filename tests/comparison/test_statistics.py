"""Laws of the statistics: oracles by brute force, invariances, and how often intervals cover the truth."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from lawn_tune.comparison.inference import (
    EXACT_SEEDS,
    Interval,
    bootstrap_interval,
    holm,
    mean_and_error,
    seeds_interval,
    sign_flip,
)

OUTCOMES = st.sampled_from([-100.0, 0.0, 100.0])
VALUES = st.floats(-50, 50, allow_nan=False).map(lambda x: round(x, 3))


@st.composite
def differences(draw: st.DrawFn) -> NDArray[np.float64]:
    """D [S, E] of outcomes: each in {-100, 0, 100} points."""
    seeds, examples = draw(st.integers(2, 5)), draw(st.integers(1, 30))
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


# --- two-way bootstrap -----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(differences())
def test_the_interval_brackets_the_estimate(d: NDArray[np.float64]) -> None:
    interval = bootstrap_interval(d, seed=0, resamples=1_000)
    assert interval.low <= d.mean() + 1e-9
    assert d.mean() - 1e-9 <= interval.high


@settings(max_examples=40, deadline=None)
@given(differences(), st.integers(0, 5))
def test_the_same_seed_gives_the_same_interval(d: NDArray[np.float64], seed: int) -> None:
    assert bootstrap_interval(d, seed=seed, resamples=500) == bootstrap_interval(d, seed=seed, resamples=500)


def test_the_seed_is_used() -> None:
    d = np.random.default_rng(3).normal(size=(3, 40))
    assert bootstrap_interval(d, seed=1, resamples=500) != bootstrap_interval(d, seed=2, resamples=500)


@settings(max_examples=40, deadline=None)
@given(differences().filter(lambda d: d.sum() != 0))
def test_swapping_the_methods_negates_the_interval(d: NDArray[np.float64]) -> None:
    there, back = bootstrap_interval(d, seed=0, resamples=500), bootstrap_interval(-d, seed=0, resamples=500)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))


@settings(max_examples=40, deadline=None)
@given(differences(), st.randoms(use_true_random=False))
def test_the_order_of_examples_has_no_influence(d: NDArray[np.float64], random: Any) -> None:
    order = list(range(d.shape[1]))
    random.shuffle(order)
    assert bootstrap_interval(d[:, order], seed=0, resamples=500) == bootstrap_interval(d, seed=0, resamples=500)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(4)))
def test_the_order_of_seeds_changes_the_resampling_noise_only(order: Sequence[int]) -> None:
    d = np.random.default_rng(0).choice([-100.0, 0.0, 100.0], p=[0.1, 0.7, 0.2], size=(4, 200))
    there, moved = bootstrap_interval(d, seed=0), bootstrap_interval(d[list(order)], seed=0)
    width = there.high - there.low
    assert (moved.low, moved.high) == pytest.approx((there.low, there.high), abs=0.05 * width)


@settings(max_examples=20, deadline=None)
@given(differences(), st.sampled_from([0.25, 0.5, 2.0, 8.0]))  # exact in binary, so that no sum is rounded
def test_the_interval_scales_with_the_differences(d: NDArray[np.float64], factor: float) -> None:
    plain, scaled = bootstrap_interval(d, seed=0, resamples=500), bootstrap_interval(factor * d, seed=0, resamples=500)
    assert (scaled.low, scaled.high) == pytest.approx((factor * plain.low, factor * plain.high))


def test_identical_methods_have_an_interval_of_exactly_zero() -> None:
    assert bootstrap_interval(np.zeros((3, 500)), seed=0) == Interval(0.0, 0.0)


def test_it_equals_a_literal_bootstrap_in_distribution() -> None:
    generator = np.random.default_rng(1)
    d = generator.choice([-100.0, 0.0, 100.0], p=[0.1, 0.6, 0.3], size=(4, 60))
    means = [d[generator.integers(4, size=4)][:, generator.integers(60, size=60)].mean() for _ in range(10_000)]
    literal, interval = np.quantile(means, [0.025, 0.975]), bootstrap_interval(d, seed=0)
    assert (interval.low, interval.high) == pytest.approx(tuple(literal), abs=0.06 * (literal[1] - literal[0]))


def paired_runs(generator: np.random.Generator, effect: float, run_sd: float) -> NDArray[np.float64]:
    """D [3, 300] of two methods whose true difference is `effect` points: runs and examples are drawn afresh."""
    easy = 0.55 + 0.3 * np.tanh(generator.normal(0, 1.5, 300))
    runs = generator.normal(0, run_sd, (2, 3, 1)) / 100
    base = generator.random((3, 300)) < easy + runs[0]
    lawn = generator.random((3, 300)) < easy + effect / 100 + runs[1]
    d: NDArray[np.float64] = 100.0 * (lawn.astype(int) - base.astype(int))
    return d


@pytest.mark.parametrize(("run_sd", "least"), [(0.2, 0.97), (2.0, 0.93)])
def test_it_covers_a_planted_effect(run_sd: float, least: float) -> None:
    generator, covered = np.random.default_rng(7), 0
    for i in range(200):
        interval = bootstrap_interval(paired_runs(generator, 2.0, run_sd), seed=i, resamples=400)
        covered += interval.low <= 2.0 <= interval.high
    assert covered / 200 >= least


def test_it_finds_a_large_effect_and_not_a_missing_one() -> None:
    generator = np.random.default_rng(8)
    large = [bootstrap_interval(paired_runs(generator, 14.0, 0.2), seed=0, resamples=400) for _ in range(50)]
    none = [bootstrap_interval(paired_runs(generator, 0.0, 0.2), seed=0, resamples=400) for _ in range(50)]
    assert sum(interval.low > 0 for interval in large) >= 40
    assert sum(interval.excludes_zero() for interval in none) <= 3


# --- seeds only ------------------------------------------------------------------------------------------------------


@given(st.lists(VALUES, min_size=2, max_size=12))
def test_the_seeds_interval_is_students(values: list[float]) -> None:
    interval = seeds_interval(values)
    half = stats.t.ppf(0.975, len(values) - 1) * float(stats.sem(values))
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=1e-4, abs=1e-9)
    assert (interval.high + interval.low) / 2 == pytest.approx(np.mean(values), abs=1e-9)


@pytest.mark.parametrize("n", [2, 5, 16, 30, 31, 60])
def test_the_table_of_quantiles_is_right(n: int) -> None:
    values = np.arange(n, dtype=float)
    half = (seeds_interval(values).high - values.mean()) / float(stats.sem(values))
    assert half == pytest.approx(stats.t.ppf(0.975, n - 1), rel=0.001 if n <= 31 else 0.03)
    assert half >= stats.t.ppf(0.975, n - 1) - 1e-4


# --- sign-flip test --------------------------------------------------------------------------------------------------


def literal_sign_flip(values: Sequence[float]) -> float:
    observed = abs(sum(values))
    flips = list(itertools.product((-1, 1), repeat=len(values)))
    reached = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) >= observed - 1e-7 for signs in flips]
    return sum(reached) / len(flips)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-40, 40).map(lambda i: i / 8), min_size=1, max_size=8))
def test_the_sign_flip_test_is_the_literal_one(values: list[float]) -> None:
    test = sign_flip(values)
    assert test is not None
    assert test.p == pytest.approx(literal_sign_flip(values))
    assert test.lowest <= test.p <= 1
    mirrored = sign_flip([-v for v in values])
    assert mirrored is not None
    assert mirrored.p == test.p


@pytest.mark.parametrize(("n", "least"), [(1, 1.0), (2, 0.5), (3, 0.25), (5, 0.0625), (10, 2**-9)])
def test_the_least_p_is_reached_when_all_seeds_agree(n: int, least: float) -> None:
    test = sign_flip(np.arange(1, n + 1, dtype=float))
    assert test is not None
    assert (test.p, test.lowest) == (least, least)


def test_no_difference_at_all_has_p_one_and_too_many_seeds_none() -> None:
    test = sign_flip(np.zeros(4))
    assert test is not None
    assert test.p == 1.0
    assert sign_flip(np.ones(EXACT_SEEDS)) is not None
    assert sign_flip(np.ones(EXACT_SEEDS + 1)) is None


# --- Holm ------------------------------------------------------------------------------------------------------------


def literal_holm(p_values: Sequence[float]) -> list[float]:
    """The closed testing principle: p of i is the greatest Bonferroni p over all sets of hypotheses that hold i."""
    indices = range(len(p_values))
    sets = [s for n in range(1, len(p_values) + 1) for s in itertools.combinations(indices, n)]
    return [max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in sets if i in s) for i in indices]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=7))
def test_holm_is_the_closed_bonferroni_test(p_values: list[float]) -> None:
    assert list(holm(p_values)) == pytest.approx(literal_holm(p_values))


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (mean_and_error, []),
        (mean_and_error, [[1.0]]),
        (mean_and_error, [1.0, float("nan")]),
        (seeds_interval, [1.0]),
        (sign_flip, []),
        (lambda d: bootstrap_interval(d, seed=0), [1.0, 2.0]),
        (lambda d: bootstrap_interval(d, seed=0), [[1.0, 2.0]]),
        (lambda d: bootstrap_interval(d, seed=0), np.empty((2, 0))),
        (lambda d: bootstrap_interval(d, seed=0), [[1.0], [float("inf")]]),
        (holm, [0.5, 1.5]),
    ],
)
def test_unfit_values_are_refused(function: Callable[[Any], Any], values: Any) -> None:
    with pytest.raises(ValueError, match=r"got|shape"):
        function(values)
