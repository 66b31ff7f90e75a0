"""A winner that was never constrained is no win of LAWN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from dashboards.widening import suggested
from lawn_tune.comparison.alarms import shared_points
from lawn_tune.comparison.compare import compare
from lawn_tune.comparison.comparison import PairResult, Verdict
from lawn_tune.comparison.flags import Flag
from lawn_tune.comparison.tables import table
from lawn_tune.comparison.verdicts import headline, sentence
from lawn_tune.planning.selection import points, search_series
from lawn_tune.results import Outcome
from tests.helpers.comparing import compared, flags_of, only_pair
from tests.helpers.memory_source import MemorySource, confirm_rows, make_cell, outcomes, search_rows
from tests.helpers.pair_source import MIDDLE, TOTAL, confirmed, joined
from trainables.training.switching import INFLECTION

FREES = (0.0, 1.0, 3.0, 20.0)


def both_searched(shift: float, hits: Sequence[int], best: int) -> PairResult:
    """Adam without decay at point `best` against LAWN; where neither acts, LAWN's search is `shift` (± 0.1) better."""
    adam, lawn = make_cell(), make_cell("adam-lawn", frees=FREES)
    size, base = lawn.grid.size, confirmed(adam, [150, 151, 152], best)
    values = [90.0 if i == 5 else 50.0 + shift + (0.1 if i == 3 else -0.1) if i % 4 == 3 else 40.0 for i in range(size)]
    winner = lawn.grid.point(5)
    kept = {t.key: outcomes(h, TOTAL, seed=t.seed) for t, h in zip(lawn.confirm_trials(winner), hits, strict=True)}
    rows = search_rows(lawn, values) + confirm_rows(lawn, winner, [100 * h / TOTAL for h in hits])
    return only_pair(joined(base, MemorySource([lawn], rows, kept)))


@pytest.mark.parametrize(
    ("shift", "hits", "best", "flags"),
    [
        (0.0, (150, 151, 152), MIDDLE, set()),
        (0.3, (150, 151, 152), MIDDLE, set()),  # within the margin
        (2.0, (150, 151, 152), MIDDLE, {Flag.SHARED}),
        (-2.0, (150, 151, 152), MIDDLE, {Flag.SHARED}),
        (0.0, (20, 21, 22), MIDDLE, set()),  # its grid holds no weight decay
        (0.0, (20, 21, 22), 3, {Flag.CONTAINED}),
        (0.0, (180, 181, 182), 3, set()),
    ],
)
def test_bad_tuning_is_noticed_by_the_points_that_both_grids_hold(
    shift: float, hits: Sequence[int], best: int, flags: set[Flag]
) -> None:
    assert flags_of(both_searched(shift, hits, best)) & {Flag.SHARED, Flag.CONTAINED} == flags


def test_grids_of_other_budgets_or_rules_hold_no_common_points() -> None:
    adam, lawn = make_cell(), make_cell("adam-lawn", frees=FREES)
    theirs = points(lawn, [])
    assert len(shared_points(adam, points(adam, []), lawn, theirs)) == 3
    later = make_cell("adam-lawn", frees=(*FREES, 30.0, 40.0))
    assert len(shared_points(adam, points(adam, []), later, points(later, []))) == 3, "30 and 40 train as 20 does"
    for other in (make_cell(epochs=10), make_cell("lamb")):
        assert shared_points(other, points(other, []), lawn, theirs) == ()


@pytest.mark.parametrize("base", [(100, 101, 102), (180, 181, 182), ("diverged", None, None)])
def test_a_winner_that_was_never_constrained_is_no_win_of_lawn(base: tuple[int | Outcome | None, ...]) -> None:
    lawn = confirmed(make_cell("adam-lawn", frees=FREES), [150, 151, 152], best=7)
    cell = make_cell()
    lost = MemorySource([cell], search_rows(cell, ["diverged"] * 9))
    comparison = compared(joined(lost if base[0] == "diverged" else confirmed(cell, base), lawn))
    (pair,) = comparison.pairs
    assert pair.verdict is Verdict.NEVER_CONSTRAINED
    assert "The winner of Adam-LAWN never reached its constraint: it is plain Adam without weight decay" in sentence(
        pair
    )
    assert "never reached its constraint" in headline(comparison)
    assert not any(entry.best for entry in table(comparison).entries.values())


def test_a_switch_by_itself_is_shown_with_its_epoch_and_the_best_number() -> None:
    """Per rule the best point speaks; a rule is no edge, and numbers keep theirs."""
    cell = make_cell("adam-lawn", frees=(1.0, 3.0, -4.0, INFLECTION))
    rows = search_rows(cell, [50.0] * cell.grid.size)
    for i, value, switched in ((1, 81.0, None), (6, 82.5, 2.3), (10, 70.0, 1.0), (7, 60.0, None)):
        summary = {**rows[i].summary, search_series(cell.protocol): value, "last/switch_epoch": switched}
        rows[i] = replace(rows[i], summary=summary)
    (result,) = compare([cell], rows, {}).cells
    assert [note.text for note in result.notes if note.flag is Flag.AUTOMATIC] == [
        "free_epochs = auto (margin 4) switched at epoch 2.3 and reached 82.50 % in the search "
        "(n = 1; free_epochs = 3, the best number, 81.00 %)",
        "free_epochs = inflection never switched and reached 60.00 % in the search "
        "(n = 1; free_epochs = 3, the best number, 81.00 %)",
    ]
    assert result.winner is not None
    assert result.winner.hyperparameters["free_epochs"] == -4.0
    assert "free_epochs" not in result.winner.edges


def test_a_grid_with_rules_is_widened_by_its_numbers_and_keeps_its_words() -> None:
    cell = make_cell("adam-lawn", frees=(1.0, 3.0, -2.0, INFLECTION))
    rows = search_rows(cell, [90.0 if i == 4 else 50.0 for i in range(cell.grid.size)])
    expected = '[optimizers.adam-lawn]\nfree_epochs = [0, 1, 3, "auto", "inflection"]\nswitch_margin = [2]'
    assert suggested(compare([cell], rows, {}).cells) == expected


@pytest.mark.parametrize(
    ("epochs", "verdict"), [((None, None), Verdict.NEVER_CONSTRAINED), ((None, 2.5), Verdict.BETTER)]
)
def test_a_rule_that_switched_in_no_run_is_no_win_of_lawn(epochs: tuple[float | None, ...], verdict: Verdict) -> None:
    cell = make_cell("adam-lawn", frees=(1.0, -1e6, 3.0))
    lawn = confirmed(cell, [170, 171, 172], best=4)
    ends = {trial.key: epoch for trial, epoch in zip(cell.confirm_trials(cell.grid.point(4)), epochs, strict=False)}
    lawn.rows = [replace(row, summary={**row.summary, "last/switch_epoch": ends.get(row.key)}) for row in lawn.rows]
    (pair,) = compared(joined(confirmed(make_cell(), [100, 101, 102]), lawn)).pairs
    assert pair.verdict is verdict


def test_points_that_never_reach_the_constraint_are_counted() -> None:
    (result,) = compare([make_cell("adam-lawn", frees=(*FREES, 40.0))], [], {}).cells
    texts = [note.text for note in result.notes if note.flag is Flag.NEVER_CONSTRAINED]
    assert texts == [
        "6 of 15 points have free_epochs >= 20 epochs and never reach the constraint: "
        "they are plain Adam without weight decay"
    ]
