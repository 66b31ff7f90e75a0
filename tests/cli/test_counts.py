"""How much of a cell is done: every planned trial is counted once, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from lawn_tune.planning.counts import Counts, count
from lawn_tune.results import Outcome
from tests.helpers.memory_ledger import QUICKSTART, row, rows

CELL = QUICKSTART[0]
SEARCH = CELL.search_trials
CONFIRM = CELL.confirm_trials(SEARCH[0].hyperparameters)
OUTCOMES: list[Outcome] = ["complete", "diverged", "failed", "running"]


def test_no_cell_has_no_trial() -> None:
    assert Counts() == Counts(planned=0, complete=0, diverged=0, failed=0, running=0)


def test_a_cell_of_which_nothing_is_known_is_all_missing() -> None:
    counts = count(CELL, [])
    assert (counts.planned, counts.missing, counts.done, counts.share) == (12, 12, 0, 0.0)


def test_a_finished_cell() -> None:
    counts = count(CELL, [*rows(CELL, SEARCH), *rows(CELL, CONFIRM)])
    assert (counts.planned, counts.complete, counts.missing, counts.share) == (12, 12, 0, 1.0)


@settings(deadline=None)
@given(st.lists(st.none() | st.sampled_from(OUTCOMES), min_size=9, max_size=9), st.integers(0, 3))
def test_outcomes_are_counted_and_add_up(outcomes: list[Outcome | None], confirmed: int) -> None:
    held = [row(CELL, trial, outcome) for trial, outcome in zip(SEARCH, outcomes, strict=True) if outcome]
    counts = count(CELL, held)
    for outcome in OUTCOMES:
        assert getattr(counts, outcome) == outcomes.count(outcome)
    assert counts.done + counts.failed + counts.running + counts.missing == counts.planned
    assert counts.planned == (9 if set(outcomes) == {"diverged"} else 12)
    assert 0 <= counts.share <= 1


def test_what_does_not_belong_to_the_plan_is_left_out() -> None:
    other = QUICKSTART[1]
    loser = CELL.confirm_trials(SEARCH[-1].hyperparameters)
    longer = replace(CELL, task=replace(CELL.task, epochs=30)).search_trials
    unknown = [*rows(other, other.search_trials), *rows(CELL, loser), *rows(CELL, longer)]
    assert count(CELL, [*rows(CELL, SEARCH), *unknown]) == count(CELL, rows(CELL, SEARCH))


def test_a_search_that_diverged_has_nothing_to_confirm() -> None:
    counts = count(CELL, rows(CELL, SEARCH, "diverged"))
    assert (counts.planned, counts.diverged, counts.done, counts.missing, counts.share) == (9, 9, 9, 0, 1.0)


def test_one_point_that_did_not_diverge_is_confirmed() -> None:
    held = [*rows(CELL, SEARCH[1:], "diverged"), row(CELL, SEARCH[0])]
    assert count(CELL, held).planned == 12
    assert count(CELL, [*held, *rows(CELL, CONFIRM, "diverged")]).missing == 0
