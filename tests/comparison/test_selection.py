"""Laws of choosing a winner."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawn_tune.cells import Cell
from lawn_tune.comparison.stability import EXACT, resamples, stability
from lawn_tune.planning.selection import best, points, search_series, winner
from lawn_tune.results import Outcome, TrialRow
from tests.helpers.memory_source import make_cell, make_row, search_rows, with_protocol

SCORES = st.integers(0, 400).map(lambda i: i / 4)
CELL = make_cell()
SIZE = CELL.grid.size


def one_seed(values: list[float]) -> list[TrialRow]:
    return search_rows(CELL, list(values))


# The middle of 3 x 1 x 3 levels, then those at one border, then the corners; each kind in plan order.
INSIDE_OUT = (4, 1, 3, 5, 7, 0, 2, 6, 8)


@given(st.lists(SCORES, min_size=SIZE, max_size=SIZE))
def test_the_winner_is_the_best_point_and_of_equal_ones_the_farthest_inside(values: list[float]) -> None:
    won = winner(CELL, one_seed(values))
    assert won is not None
    assert won.hyperparameters == CELL.grid.point(max(INSIDE_OUT, key=lambda i: values[i]))
    assert won.value == max(values)
    lowest = winner(with_protocol(CELL, direction="minimize"), one_seed(values))
    assert lowest is not None
    assert lowest.hyperparameters == CELL.grid.point(min(INSIDE_OUT, key=lambda i: values[i]))


def test_of_equal_points_one_that_reaches_the_constraint_wins() -> None:
    cell = make_cell("adam-lawn", frees=(0.0, 1.0, 3.0, 20.0, 30.0))
    won = winner(cell, search_rows(cell, [50.0] * cell.grid.size))
    assert won is not None
    assert (won.hyperparameters[cell.method.switch or ""], won.edges) == (1.0, ())


def test_the_middle_of_two_ranges_is_as_far_inside_whatever_their_levels() -> None:
    """A single level that reaches the constraint is a middle, as is the second of three rates; plan order decides."""
    cell = make_cell("adam-lawn", frees=(1.0, 30.0))
    won = winner(cell, search_rows(cell, [50.0, 40.0, 40.0, 50.0, 40.0, 40.0]))
    assert won is not None
    assert won.hyperparameters == cell.grid.point(0)


@settings(max_examples=15)
@given(st.integers(2, 3), st.booleans(), st.data())
def test_the_stability_of_a_winner_is_that_over_all_resamples(seeds: int, minimize: bool, data: st.DataObject) -> None:
    direction = "minimize" if minimize else "maximize"
    cell = with_protocol(CELL, search_seeds=tuple(range(seeds)), direction=direction)
    values = data.draw(st.lists(SCORES, min_size=SIZE * seeds, max_size=SIZE * seeds))
    tests = {trial.key: float(i % 7) for i, trial in enumerate(cell.search_trials)}
    rows = [
        replace(row, summary={**row.summary, "last/test/accuracy": tests[row.key]}) for row in search_rows(cell, values)
    ]
    scored = points(cell, rows)
    won, sign = best(cell, scored), -1 if minimize else 1
    assert won is not None

    def selected(drawn: tuple[int, ...]) -> int:
        return max(INSIDE_OUT, key=lambda i: sign * sum(values[seed * SIZE + i] for seed in drawn))

    every = [selected(drawn) for drawn in product(range(seeds), repeat=seeds)]
    found = stability(cell, scored, won)
    assert found is not None
    assert found.variance is not None
    kept = [cell.grid.point(i) == won.hyperparameters for i in every]
    assert found.share == pytest.approx(np.mean(kept))
    means = [np.mean([tests[key] for key in scored[i].keys]) for i in every]
    assert found.variance == pytest.approx(np.var(means) * seeds / (seeds - 1))


def test_many_seeds_are_resampled_to_the_same_numbers_each_time() -> None:
    times, chances = resamples(EXACT + 1)
    assert (times.sum(axis=1) == EXACT + 1).all()
    assert chances.sum() == pytest.approx(1)
    resamples.cache_clear()
    assert (resamples(EXACT + 1)[0] == times).all()


def test_a_search_of_one_seed_has_no_stability() -> None:
    scored = points(CELL, one_seed([50.0] * SIZE))
    assert stability(CELL, scored, best(CELL, scored)) is None


@given(st.lists(SCORES, min_size=SIZE, max_size=SIZE), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_foreign_rows_change_nothing(values: list[float], random: Any) -> None:
    rows = one_seed(values)
    foreign = search_rows(make_cell(epochs=7), [100.0] * SIZE) + search_rows(make_cell("lamb"), [100.0] * SIZE)
    mixed = rows + foreign
    random.shuffle(mixed)
    assert winner(CELL, mixed) == winner(CELL, rows)


@given(st.lists(SCORES, min_size=2 * SIZE, max_size=2 * SIZE), st.sets(st.integers(0, 2 * SIZE - 1), max_size=2 * SIZE))
def test_a_point_that_diverged_with_any_seed_never_wins(values: list[float], lost: set[int]) -> None:
    cell = with_protocol(CELL, search_seeds=(0, 1))
    marked: list[float | Outcome] = ["diverged" if i in lost else value for i, value in enumerate(values)]
    won = winner(cell, search_rows(cell, marked))
    sound = [i for i in range(SIZE) if not {i, SIZE + i} & lost]
    if not sound:
        assert won is None
        return
    assert won is not None
    means = {i: (values[i] + values[SIZE + i]) / 2 for i in sound}
    assert won.hyperparameters == cell.grid.point(max((i for i in INSIDE_OUT if i in means), key=lambda i: means[i]))
    assert won.value == max(means.values())


def test_a_switch_of_one_level_has_no_edge() -> None:
    cell = make_cell("adam-lawn", frees=(1.0,))
    won = winner(cell, search_rows(cell, [80.0] * cell.grid.size))
    assert won is not None
    assert cell.method.switch not in won.edges


@pytest.mark.parametrize("outcome", ["failed", "running"])
def test_there_is_no_winner_before_every_search_trial_has_a_result(outcome: Outcome) -> None:
    rows = search_rows(CELL, [50.0, *[60.0] * (SIZE - 2), outcome])
    assert winner(CELL, rows) is None
    assert winner(CELL, rows[:-1]) is None
    so_far = best(CELL, points(CELL, rows))
    assert so_far is not None
    assert so_far.hyperparameters == CELL.grid.point(INSIDE_OUT[0])


def test_a_cell_that_diverged_everywhere_has_no_winner() -> None:
    rows = search_rows(CELL, ["diverged"] * SIZE)
    assert winner(CELL, rows) is None
    assert {point.status for point in points(CELL, rows)} == {"diverged"}


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_complete_trial_without_a_finite_value_cannot_win(value: float | None) -> None:
    rows = one_seed([50.0] * SIZE)
    first, second, *_ = INSIDE_OUT
    rows[first] = make_row(CELL, CELL.search_trials[first], {"last/validation/accuracy": value})
    won = winner(CELL, rows)
    assert won is not None
    assert won.hyperparameters == CELL.grid.point(second)


@pytest.mark.parametrize(
    ("changes", "series"),
    [
        ({}, "last/validation/accuracy"),
        ({"reported": "best"}, "best/validation/accuracy"),
        ({"selection": "test"}, "last/test/accuracy"),
        ({"metric": "hr@10", "reported": "best", "selection": "test"}, "best/test/hr@10"),
    ],
)
def test_the_protocol_names_the_value_that_selects(changes: dict[str, Any], series: str) -> None:
    cell = with_protocol(CELL, **changes)
    assert search_series(cell.protocol) == series
    rows = [
        make_row(cell, trial, {series: float(i), "last/train_loss": -float(i)})
        for i, trial in enumerate(cell.search_trials)
    ]
    won = winner(cell, rows)
    assert won is not None
    assert won.hyperparameters == cell.grid.point(SIZE - 1)


def test_the_winner_names_its_edges_and_its_trials() -> None:
    won = winner(CELL, one_seed([90.0, *[50.0] * (SIZE - 1)]))
    assert won is not None
    assert won.edges == ("peak_lr", "weight_decay")
    assert won.keys == (CELL.search_trials[0].key,)


@pytest.mark.parametrize(
    ("outcomes", "status", "finished"),
    [
        (("complete", "complete"), "complete", True),
        (("complete", "diverged"), "diverged", True),
        (("diverged", None), "diverged", False),
        (("diverged", "failed"), "diverged", False),
        (("complete", "failed"), "failed", False),
        (("running", "failed"), "failed", False),
        (("running", "complete"), "running", False),
        ((None, "complete"), "missing", False),
    ],
)
def test_the_status_of_a_point_is_its_worst_seeds(
    outcomes: tuple[Outcome | None, ...], status: str, finished: bool
) -> None:
    cell: Cell = replace(with_protocol(CELL, search_seeds=(0, 1)))
    trials = [trial for trial in cell.search_trials if trial.hyperparameters == cell.grid.point(0)]
    rows = [
        make_row(cell, trial, {"last/validation/accuracy": 1.0}, outcome)
        for trial, outcome in zip(trials, outcomes, strict=True)
        if outcome is not None
    ]
    point = points(cell, rows)[0]
    assert (point.status, point.finished) == (status, finished)
    assert (point.value is not None) == (status == "complete")
