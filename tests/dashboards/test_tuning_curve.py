"""Invariants of the tuning curve: the expected best of k random points equals the mean over every draw there is."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dashboards.figures.base import plain
from dashboards.figures.best_so_far import Spent
from dashboards.figures.tuning_curve import (
    MAX_DRAWS,
    ROUND,
    TuningLine,
    best_rank_chances,
    reached,
    tuning_curve_figure,
    tuning_curve_info,
    tuning_curve_infos,
)
from lawn_tune.comparison.compare import compare, compare_space
from lawn_tune.comparison.comparison import Comparison
from lawn_tune.results import Outcome, TrialRow
from tests.helpers.memory_source import demo_source, make_cell, make_row, with_protocol
from trainables.catalogue.rows import Direction

Value = float | Outcome


def line_of(values: list[Value], direction: str = "maximize") -> TuningLine:
    """The line of a cell whose points have these values in plan order, a test value of −v and a cost of 1 + v² each."""
    cell = with_protocol(make_cell(lrs=tuple(range(1, len(values) + 1)), decays=(0.0,)), direction=direction)
    rows = [row_of(trial_value, i) for i, trial_value in enumerate(zip(cell.search_trials, values, strict=True))]
    comparison = compare([cell], [replace(row, cell=str(cell.name)) for row in rows], {})
    (line,) = tuning_curve_info(comparison.cells, {row.key: row for row in rows}).lines
    return line


def row_of(trial_value: tuple[object, Value], i: int) -> TrialRow:
    trial, value = trial_value
    cell = make_cell()
    if isinstance(value, str):
        return make_row(cell, trial, {"seconds": 1.0}, value)  # type: ignore[arg-type]
    metrics = {"last/validation/accuracy": value, "last/test/accuracy": -value, "seconds": 1 + value**2}
    return make_row(cell, trial, metrics)  # type: ignore[arg-type]


NUMBERS = st.integers(-3, 3).map(float)
VALUES = st.lists(st.one_of(NUMBERS, st.just("diverged")), min_size=1, max_size=7).filter(
    lambda values: any(not isinstance(value, str) for value in values)
)


def draws(values: list[Value], k: int, sign: float) -> list[float]:
    """The best of every draw of k points that holds a value; of equal ones the first in plan order."""
    found = []
    for chosen in combinations(values, k):
        known = [value for value in chosen if not isinstance(value, str)]
        if known:
            found.append(max(known, key=lambda value: sign * value))
    return found


def quantiles(ordered: list[float]) -> list[float]:
    """The last value that nine of ten are at or beyond, and the first that nine of ten are at or before."""
    n = len(ordered)
    first = max(i for i in range(n) if (n - i) / n > 0.9 - 1e-9)
    last = min(i for i in range(n) if (i + 1) / n > 0.9 - 1e-9)
    return [ordered[first], ordered[last]]


@given(VALUES, st.sampled_from(["maximize", "minimize"]))
def test_the_expected_best_is_the_mean_over_every_draw(values: list[Value], direction: str) -> None:
    sign = 1.0 if direction == "maximize" else -1.0
    line = line_of(values, direction)
    assert [drawn.k for drawn in line.draws] == list(range(1, len(values) + 1))
    for drawn in line.draws:
        best = draws(values, drawn.k, sign)
        assert drawn.value == pytest.approx(fmean(best), abs=1e-9)
        assert drawn.test == pytest.approx(-fmean(best), abs=1e-9)
        assert drawn.found == pytest.approx(len(best) / math.comb(len(values), drawn.k), abs=1e-12)
        worst_first = sorted(best, key=lambda value: sign * value)
        assert [drawn.low, drawn.high] == sorted(quantiles(worst_first))
        assert [drawn.test_low, drawn.test_high] == quantiles(sorted(-value for value in best))


@given(VALUES)
def test_costs_add_up_and_diverged_points_are_paid(values: list[Value]) -> None:
    line = line_of(values)
    total = math.fsum(1.0 if isinstance(value, str) else 1 + value**2 for value in values)
    assert line.seconds == pytest.approx(total)
    assert line.draws[-1].seconds == pytest.approx(total)
    assert line.draws[0].seconds == pytest.approx(total / len(values))
    assert line.diverged == sum(isinstance(value, str) for value in values)


@given(st.integers(1, 400), st.data())
def test_rank_chances_are_those_of_drawing_without_replacement(total: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, total))
    chances = best_rank_chances(k, total)
    assert chances.sum() == pytest.approx(1)
    exact = [math.comb(total - r, k - 1) / math.comb(total, k) for r in range(1, total + 1)]
    assert chances == pytest.approx(exact, abs=1e-12)


def test_more_points_never_make_it_worse_and_all_give_the_winner() -> None:
    source = demo_source(epochs=5)
    comparison = compare_space(source, "movielens_100k")
    infos = tuning_curve_infos(comparison, source.rows)
    assert len(infos) == len(comparison.pairs)
    for info in infos:
        for line in info.lines:
            expected = [drawn.value for drawn in line.draws]
            assert expected == sorted(expected)
            result = comparison.cell(line.optimizer, info.batch_size)
            assert result is not None
            assert result.winner is not None
            assert line.draws[-1].value == result.winner.value
            assert line.draws[-1].low == line.draws[-1].high == result.winner.value
            assert all(drawn.low <= drawn.value <= drawn.high for drawn in line.draws[:1])


def test_many_points_are_thinned_and_keep_their_ends() -> None:
    line = line_of([float(i) for i in range(500)])
    assert len(line.draws) <= MAX_DRAWS + len(ROUND)
    assert {k for k in ROUND if k <= line.finished} <= {drawn.k for drawn in line.draws}
    assert (line.draws[0].k, line.draws[-1].k) == (1, 500)
    assert line.draws[-1].value == 499


def test_a_missing_test_value_is_missing_and_unfinished_points_are_no_draws() -> None:
    cell = make_cell()
    rows = [make_row(cell, trial, {"last/validation/accuracy": 1.0}) for trial in cell.search_trials[:4]]
    rows.append(make_row(cell, cell.search_trials[4], {}, "running"))
    info = tuning_curve_info(compare([cell], rows, {}).cells, {row.key: row for row in rows})
    (line,) = info.lines
    assert (line.finished, line.planned) == (4, 9)
    assert {drawn.test for drawn in line.draws} == {None}
    assert tuning_curve_info(compare([cell], [], {}).cells, {}).lines == ()


@given(VALUES, st.sampled_from(["maximize", "minimize"]), NUMBERS)
@example([0.0, 0.0, "diverged", 1.0, 1.0], "maximize", 1.0)  # in exactly nine of ten draws of 3
@example([1.0, "diverged", "diverged", "diverged"], "maximize", 1.0)  # three of four draws of 1 hold no value
def test_reached_is_the_fewest_points_that_are_as_good_in_nine_of_ten_draws(
    values: list[Value], direction: Direction, target: float
) -> None:
    sign = 1.0 if direction == "maximize" else -1.0
    wanted = [
        k
        for k in range(1, len(values) + 1)
        if sum(sign * value >= sign * target for value in draws(values, k, sign))
        > (0.9 - 1e-9) * math.comb(len(values), k)
    ]
    assert reached(line_of(values, direction), target, direction) == (wanted[0] if wanted else None)


@pytest.mark.parametrize("against", ["points", "time"])
def test_the_figure_draws_both_rivals_in_both_panels(against: Spent) -> None:
    source = demo_source(epochs=5)
    comparison: Comparison = compare_space(source, "movielens_100k")
    for info in tuning_curve_infos(comparison, source.rows):
        figure = plain(tuning_curve_figure(info, against))
        assert [trace.get("yaxis", "y") for trace in figure["data"]] == ["y", "y2", "y", "y2"] * len(info.lines)
        tested = any(drawn.test is not None for line in info.lines for drawn in line.draws)
        assert figure["layout"]["yaxis2"]["visible"] == tested
        shown = [trace["name"] for trace in figure["data"] if trace.get("showlegend", True)]
        assert len(shown) == len(info.lines) == 2
        assert all(x > 0 for trace in figure["data"] for x in trace["x"])  # the axis is logarithmic
