"""Estimates of a comparison: confirmed values, search values, spaces without results."""

from __future__ import annotations

import pytest

from lawn_tune.comparison.compare import compare
from lawn_tune.comparison.inference import mean_and_error
from tests.helpers.comparing import compared
from tests.helpers.memory_source import confirm_rows, make_cell, search_rows, with_protocol
from tests.helpers.pair_source import MIDDLE, confirmed, searched


def test_a_confirmed_value_is_mean_and_error_of_the_winners_fresh_runs_on_test() -> None:
    cell = make_cell()
    (result,) = compared(confirmed(cell, [150, 160, 170])).cells
    estimate = result.confirmed
    assert estimate is not None
    assert (estimate.mean, estimate.error) == mean_and_error([75.0, 80.0, 85.0])
    assert (estimate.n, estimate.series) == (3, "last/test/accuracy")
    assert estimate.values == {101: 75.0, 102: 80.0, 103: 85.0}


def test_without_confirm_runs_the_search_value_stands_in_and_has_no_error() -> None:
    cell = with_protocol(make_cell(), search_seeds=(0, 1))
    (result,) = compare([cell], searched(cell), {}).cells
    assert result.estimate is not None
    assert result.confirmed is None
    assert (result.estimate.mean, result.estimate.error, result.estimate.n) == (80.0, None, 2)


def test_confirm_runs_of_another_point_do_not_count() -> None:
    cell = make_cell()
    rows = searched(cell, best=MIDDLE) + confirm_rows(cell, cell.grid.point(0), [70.0, 71.0, 72.0])
    (result,) = compare([cell], rows, {}).cells
    assert result.confirmed is None


def test_a_space_that_reports_the_best_epoch_reports_it_on_test_too() -> None:
    cell = with_protocol(make_cell(), reported="best")
    (result,) = compared(confirmed(cell, [150, 150, 150])).cells
    assert result.confirmed is not None
    assert (result.confirmed.series, result.confirmed.mean) == ("best/test/accuracy", 76.0)


def test_a_comparison_needs_a_cell() -> None:
    with pytest.raises(ValueError, match="at least one cell"):
        compare([], [], {})


def test_a_space_without_results_is_empty_and_one_with_divergence_is_not() -> None:
    cell = make_cell()
    assert compare([cell], [], {}).empty
    assert not compare([cell], search_rows(cell, ["diverged"] * 9), {}).empty
