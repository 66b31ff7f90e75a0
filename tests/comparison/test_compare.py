"""Laws of a comparison: estimates, paired differences, verdicts, and each flag exactly where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dashboards.widening import suggested
from lawn_tune.cells import Cell
from lawn_tune.comparison.compare import compare, compare_space
from lawn_tune.comparison.comparison import CellResult, Comparison, PairResult, Verdict
from lawn_tune.comparison.flags import Flag
from lawn_tune.comparison.inference import crossed, mean_and_error, over_seeds
from lawn_tune.comparison.next_steps import next_steps
from lawn_tune.comparison.published import caveat
from lawn_tune.comparison.tables import caption, table
from lawn_tune.comparison.verdicts import headline, sentence, verdict_text
from lawn_tune.planning.selection import search_series
from lawn_tune.results import DAMAGED, Outcome, TrialRow
from tests.helpers.memory_source import (
    MemorySource,
    confirm_rows,
    demo_source,
    make_cell,
    make_row,
    outcomes,
    search_rows,
    with_protocol,
)
from tests.helpers.pair_source import MIDDLE, TOTAL, confirmed, joined, pair_source, searched
from trainables.tasks import model_config
from trainables.training.switching import INFLECTION


def compared(source: MemorySource) -> Comparison:
    return compare_space(source, "digits")


def only_pair(source: MemorySource) -> PairResult:
    (pair,) = compared(source).pairs
    return pair


def flags_of(result: CellResult | PairResult) -> set[Flag]:
    return {note.flag for note in result.notes}


# --- estimates -------------------------------------------------------------------------------------------------------


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


# --- paired differences ----------------------------------------------------------------------------------------------


def test_the_difference_is_lawn_minus_base_with_the_interval_over_its_pairs() -> None:
    source = pair_source([150, 150, 148], [154, 157, 160])
    pair = only_pair(source)
    difference = pair.difference
    assert difference is not None
    assert difference.mean == pytest.approx((2 + 3.5 + 6) / 3)
    assert (difference.n, difference.examples) == (3, TOTAL)
    keys = [[t.key for t in cell.confirm_trials(cell.grid.point(MIDDLE))] for cell in source.planned]
    base, lawn = (np.stack([source.outcomes[key] for key in group]).astype(float) for group in keys)
    assert difference.effect == crossed(100 * (lawn - base))
    assert difference.interval == crossed(100 * (lawn - base)).interval()


@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(random: Any) -> None:
    source = pair_source([150, 150, 148], [154, 157, 160])
    shuffled = list(source.rows)
    random.shuffle(shuffled)
    assert compare(source.planned, shuffled, source.outcomes) == compare(source.planned, source.rows, source.outcomes)


def test_identical_methods_are_equivalent_and_the_interval_is_zero() -> None:
    pair = only_pair(pair_source([150, 150, 148], [150, 150, 148]))
    assert pair.difference is not None
    assert pair.difference.interval is not None
    assert (pair.difference.mean, pair.difference.interval.low, pair.difference.interval.high) == (0, 0, 0)
    assert pair.verdict is Verdict.EQUIVALENT
    assert "as good as Adam at batch 64 within ±0.5 points" in sentence(pair)


@settings(max_examples=15)
@given(st.lists(st.integers(0, TOTAL), min_size=2, max_size=5), st.integers(-20, 20))
def test_seeds_that_all_show_one_difference_decide_nothing_without_outcomes(hits: list[int], shift: int) -> None:
    lawn, seeds = [hit + shift for hit in hits], tuple(range(101, 101 + len(hits)))
    source = replace(pair_source([0] * len(hits), [0] * len(hits), confirm_seeds=seeds), outcomes={})
    for cell, found in zip(source.planned, (hits, lawn), strict=True):
        values = {t.key: h / 7 for t, h in zip(cell.confirm_trials(cell.grid.point(MIDDLE)), found, strict=True)}
        source.rows = [
            replace(row, summary=dict(row.summary) | {"last/test/accuracy": values[row.key]})
            if row.key in values
            else row
            for row in source.rows
        ]
    pair = only_pair(source)
    assert pair.difference is not None
    assert pair.difference.mean == pytest.approx(shift / 7)
    assert (pair.difference.interval, pair.verdict) == (None, Verdict.UNDECIDED)
    assert f"The {len(hits)} seeds show the same difference" in sentence(pair)
    assert "interval is over seeds only" not in str(pair.notes)
    assert [step.command for step in next_steps(pair)][-1].endswith(f"--seeds {max(3, len(hits) + 1)}")


@pytest.mark.parametrize(("base", "lawn"), [(0, 0), (TOTAL, TOTAL), (0, TOTAL)])
def test_runs_that_all_fail_or_all_pass_decide_nothing(base: int, lawn: int) -> None:
    pair = only_pair(pair_source([base] * 3, [lawn] * 3))
    assert pair.difference is not None
    assert (pair.difference.interval, pair.verdict) == (None, Verdict.UNDECIDED)


@pytest.mark.parametrize(
    ("base", "lawn", "verdict", "words"),
    [
        ((100, 101, 102), (180, 181, 182), Verdict.BETTER, "Adam-LAWN is 40.00 points better than Adam at batch 64"),
        ((180, 181, 182), (100, 101, 102), Verdict.WORSE, "Adam-LAWN is 40.00 points worse than Adam at batch 64"),
        ((150, 151, 152), (150, 153, 152), Verdict.UNDECIDED, "0.33 points better than Adam at batch 64 in these runs"),
        ((150, None, None), (170, None, None), Verdict.UNDECIDED, "One seed has no interval; at least 2 are needed"),
        ((100, 110, None), (180, 160, None), Verdict.UNDECIDED, "32.50 points better than Adam at batch 64 in these"),
        ((150, 151, 152), (None, None, None), Verdict.PENDING, "no verdict yet"),
        ((150, None, None), (None, 150, None), Verdict.PENDING, "no verdict yet"),
    ],
)
def test_verdicts_say_in_words_who_wins_and_who_loses(
    base: tuple[int | None, ...], lawn: tuple[int | None, ...], verdict: Verdict, words: str
) -> None:
    pair = only_pair(pair_source(base, lawn))
    assert pair.verdict is verdict
    assert words in sentence(pair)
    if pair.difference is not None:
        assert f"n = {pair.difference.n} seed" in sentence(pair)
        assert (pair.difference.interval is None) == (pair.difference.n < 2), "two seeds have an interval"


def test_a_smaller_value_is_better_where_the_metric_is_minimized() -> None:
    sources = []
    for name, hits in (("adam", (180, 181, 182)), ("adam-lawn", (100, 101, 102))):
        cell = with_protocol(make_cell(name), direction="minimize")
        best, size = cell.grid.point(MIDDLE), cell.grid.size
        rows = search_rows(cell, [20.0 if i == MIDDLE else 50.0 for i in range(size)])
        source = confirmed(cell, hits)
        sources.append(replace(source, rows=rows + confirm_rows(cell, best, [h / 2 for h in hits])))
    pair = only_pair(joined(*sources))
    assert pair.verdict is Verdict.BETTER
    assert "better" in sentence(pair)


@pytest.mark.parametrize(("lost", "verdict"), [("adam", Verdict.ONLY_CHALLENGER), ("adam-lawn", Verdict.ONLY_BASELINE)])
def test_a_method_that_diverges_everywhere_loses_in_words(lost: str, verdict: Verdict) -> None:
    kept = "adam-lawn" if lost == "adam" else "adam"
    cell = make_cell(lost)
    source = joined(MemorySource([cell], search_rows(cell, ["diverged"] * 9)), confirmed(make_cell(kept), [1, 2, 3]))
    pair = only_pair(source)
    assert pair.verdict is verdict
    assert "diverged everywhere" in sentence(pair)
    assert verdict_text(pair).lower() in headline(compared(source)).lower()


def test_where_both_diverge_everywhere_neither_trains() -> None:
    cells = [make_cell(name) for name in ("adam", "adam-lawn")]
    rows = [row for cell in cells for row in search_rows(cell, ["diverged"] * 9)]
    comparison = compare(cells, rows, {})
    (pair,) = comparison.pairs
    assert pair.verdict is Verdict.NEITHER
    assert headline(comparison) == "Both diverged everywhere in 1 of 1 comparison."
    assert "both diverged everywhere" in sentence(pair)


def test_a_tie_is_equal_and_has_no_bold() -> None:
    comparison = compared(pair_source([150, 150, 148], [150, 148, 150]))
    (pair,) = comparison.pairs
    assert "Adam-LAWN is equal to Adam at batch 64 in these runs" in sentence(pair)
    assert not any(entry.best for entry in table(comparison).entries.values())


def two_search_seeds(rival: tuple[float, float]) -> PairResult:
    """A pair whose LAWN winner scores 80 with both search seeds, and whose first point scores `rival`: test 70, 72."""
    source = pair_source([150, 150, 148], [154, 157, 160], search_seeds=(0, 1))
    size = LAWN.grid.size
    values = [rival[i // size] if i % size == 0 else 80.0 if i % size == MIDDLE else 50.0 for i in range(2 * size)]
    lawn = source.planned[1]
    rows = [
        replace(row, summary={**row.summary, "last/test/accuracy": 70.0 + 2 * (i % size == 0)})
        for i, row in enumerate(search_rows(lawn, values))
    ]
    known = {row.key for row in rows}
    return only_pair(replace(source, rows=[row for row in source.rows if row.key not in known] + rows))


def test_an_interval_includes_the_choice_of_winners_where_search_seeds_tell_how_it_varies() -> None:
    single = only_pair(pair_source([150, 150, 148], [154, 157, 160]))
    stable, unstable = two_search_seeds((50.0, 50.0)), two_search_seeds((100.0, 50.0))
    assert single.difference is not None
    assert stable.difference is not None
    assert unstable.difference is not None
    assert single.difference.effect is not None
    assert unstable.difference.effect is not None
    assert stable.difference.interval == single.difference.interval, "the same winner in every resample adds nothing"
    assert unstable.challenger.stability is not None
    assert unstable.challenger.stability.share == 3 / 4
    assert unstable.difference.effect.by_selection == pytest.approx(2 * 4 * 3 / 16)
    half = unstable.difference.effect.half_width()
    assert half**2 == pytest.approx(single.difference.effect.half_width() ** 2 + 1.959964**2 * 1.5, rel=1e-5)
    assert "75 % of resamples of the 2 search seeds keep this winner" in str(unstable.challenger.notes)


def test_the_caption_names_what_intervals_are_conditional_on() -> None:
    single, several = pair_source([1, 2, 3], [1, 2, 3]), pair_source([1, 2, 3], [1, 2, 3], search_seeds=(0, 1))
    tested = [replace(row, summary={**row.summary, "last/test/accuracy": 70.0}) for row in several.rows]
    known = replace(
        several, rows=[t if t.phase == "search" else row for t, row in zip(tested, several.rows, strict=True)]
    )
    assert "The intervals are conditional on the winners" in caption(compared(single))
    assert "The intervals are conditional on the winners" in caption(compared(several)), "its search has no test values"
    assert "conditional" not in caption(compared(known))
    assert [only_pair(source).conditional for source in (single, several, known)] == [True, True, False]


def changed_task(cell: Cell, **changes: Any) -> Cell:
    return replace(cell, task=replace(cell.task, **changes))


def changed_pair(lawn: Cell) -> Comparison:
    return compared(joined(confirmed(make_cell(), [100, 101, 102]), confirmed(lawn, [180, 181, 182])))


LAWN = make_cell("adam-lawn")


@pytest.mark.parametrize(
    ("lawn", "words"),
    [
        (changed_task(LAWN, model=model_config("small-vgg", width=4)), "model width 16 against 4"),
        (changed_task(LAWN, model=model_config("ncf")), "model small-vgg against ncf"),
        (changed_task(LAWN, dataset="synthetic"), "dataset digits against synthetic"),
        (changed_task(LAWN, loss="bce"), "loss cross-entropy against bce"),
        (changed_task(LAWN, batch_size=32), "batch size 64 against 32"),
        (changed_task(LAWN, schedule="cosine"), "schedule linear against cosine"),
        (changed_task(LAWN, constrain="final"), "constrain all against final"),
        (changed_task(LAWN, precision="bfloat16"), "precision float32 against bfloat16"),
        (with_protocol(LAWN, metric="hr@10"), "metric accuracy against hr@10"),
        (with_protocol(LAWN, selection="test"), "selection validation against test"),
        (with_protocol(LAWN, reported="best"), "reported last against best"),
    ],
)
def test_cells_of_different_tasks_are_never_compared(lawn: Cell, words: str) -> None:
    comparison = changed_pair(lawn)
    (pair,) = comparison.pairs
    assert pair.challenger.confirmed is not None
    assert (pair.verdict, pair.difference) == (Verdict.NOT_COMPARABLE, None)
    (note,) = [note for note in pair.notes if note.flag is Flag.DIFFERENT_TASKS]
    assert words in note.text
    assert words in sentence(pair)
    assert "better" not in sentence(pair)
    assert "not comparable" in headline(comparison).lower()
    assert not any(entry.best for entry in table(comparison).entries.values())


def test_other_epochs_and_seeds_are_another_budget_and_no_other_task() -> None:
    (pair,) = changed_pair(with_protocol(make_cell("adam-lawn", epochs=10), search_seeds=(0, 1))).pairs
    assert pair.verdict is Verdict.BETTER
    assert flags_of(pair) == {Flag.UNEQUAL_BUDGET}


def test_the_caption_names_tasks_that_differ_and_only_then() -> None:
    shared, mixed = (
        compared(pair_source([1, 2, 3], [1, 2, 3])),
        changed_pair(changed_task(LAWN, model=model_config("small-vgg", width=4))),
    )
    assert "not all of one task" not in caption(shared)
    assert "not all of one task: model small-vgg (width 16) or small-vgg (width 4)" in caption(mixed)


def test_a_metric_that_differs_is_claimed_for_no_cell_alone() -> None:
    assert table(changed_pair(with_protocol(LAWN, metric="hr@10"))).title == "digits: test accuracy (%) or HR@10 (%)"


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


@pytest.mark.parametrize(
    ("epochs", "batch_size", "words", "absent"),
    [
        (40, 100_000, "40 epochs here against 500 in the paper, less than half", "equal"),
        (250, 100_000, "250 epochs here against 500 in the paper;", "half"),
        (300, 1_000, "epochs are equal (300)", "half"),
    ],
)
def test_a_published_value_says_how_its_set_up_differs(epochs: int, batch_size: int, words: str, absent: str) -> None:
    cell = make_cell("adam", batch_size, epochs=epochs, dataset="movielens-100k")
    text = caveat(with_protocol(cell, metric="hr@10")) or ""
    assert words in text
    assert absent not in text
    assert "the paper's model size is not published" in text


def test_without_a_published_value_there_is_no_caveat() -> None:
    assert caveat(make_cell()) is None


def test_unequal_seeds_are_paired_by_those_both_have() -> None:
    pair = only_pair(pair_source([150, 151, 152], [160, None, 164]))
    assert pair.difference is not None
    assert pair.difference.seeds == (101, 103)
    assert pair.difference.mean == pytest.approx(5.5)
    assert Flag.UNPAIRED in flags_of(pair)


def test_one_seed_has_no_interval() -> None:
    pair = only_pair(pair_source([150, None, None], [170, None, None]))
    assert pair.difference is not None
    assert pair.difference.interval is None
    assert pair.difference.n == 1


def broken(examples: Mapping[str, NDArray[np.bool_]], how: str) -> dict[str, NDArray[np.bool_]]:
    """Outcomes of which the last run's are missing, of another length, or not what the metric says."""
    last = list(examples)[-1]
    changed = {"missing": None, "length": outcomes(80, 100), "metric": outcomes(10, TOTAL)}[how]
    kept = {key: value for key, value in examples.items() if key != last}
    return kept if changed is None else kept | {last: changed}


@pytest.mark.parametrize("how", ["missing", "length", "metric"])
def test_where_outcomes_do_not_fit_the_interval_is_over_seeds_and_says_so(how: str) -> None:
    source = pair_source([150, 150, 148], [154, 157, 160])
    (pair,) = compare(source.planned, source.rows, broken(source.outcomes, how)).pairs
    assert pair.difference is not None
    assert pair.difference.examples is None
    assert pair.difference.interval == over_seeds([2.0, 3.5, 6.0]).interval()
    assert Flag.SEEDS_ONLY in flags_of(pair)


def test_the_intervals_of_all_pairs_are_one_family_measured_or_not() -> None:
    comparison = compare_space(demo_source(epochs=30), "movielens_100k")
    measured = [pair.difference for pair in comparison.pairs if pair.difference is not None]
    assert len(measured) == 5
    assert {difference.family for difference in measured} == {len(comparison.pairs)} == {6}
    for difference in measured:
        assert difference.effect is not None
        assert difference.interval == difference.effect.interval(6)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=6), st.sampled_from([1, 30]))
def test_no_verdict_contradicts_the_interval_that_is_shown(hits: list[tuple[int, int]], scale: int) -> None:
    near = [(base, base + (lawn - base) // scale) for base, lawn in hits]
    pair = only_pair(pair_source(*zip(*near, strict=True), confirm_seeds=tuple(range(101, 101 + len(near)))))
    difference, text = pair.difference, sentence(pair)
    assert difference is not None
    interval = difference.interval
    low, high = (interval.low, interval.high) if interval else (-1e9, 1e9)
    assert low <= difference.mean <= high
    assert (pair.verdict is Verdict.BETTER) == (low > 0)
    assert (pair.verdict is Verdict.WORSE) == (high < 0)
    assert (pair.verdict is Verdict.EQUIVALENT) == (low <= 0 <= high and max(-low, high) <= 0.5)
    assert ("undecided" in text) == (pair.verdict is Verdict.UNDECIDED)
    if pair.verdict is Verdict.UNDECIDED and (needed := difference.seeds_needed) is not None:
        assert needed > difference.n, "more seeds are needed where these do not decide"


def test_methods_are_ordered_base_then_lawn_whatever_the_plan() -> None:
    cells = [make_cell(name, size) for name in ("lamb-lawn", "adam", "lamb", "adam-lawn") for size in (64, 16)]
    comparison = compare(cells, [], {})
    assert comparison.optimizers == ("adam", "adam-lawn", "lamb", "lamb-lawn")
    assert comparison.batch_sizes == (16, 64)
    assert {(pair.baseline.cell.name.optimizer, pair.batch_size) for pair in comparison.pairs} == {
        (name, size) for name in ("adam", "lamb") for size in (16, 64)
    }


def test_device_time_and_versions_are_collected() -> None:
    cell = make_cell()
    rows = [row for row in searched(cell) if row.seed == 0]
    other = replace(rows[0], provenance=dict(rows[0].provenance) | {"device": "cuda: H100", "commit": None})
    comparison = compare([cell], [other, *rows[1:]], {})
    assert comparison.cells[0].seconds == pytest.approx(18.0)
    assert comparison.provenance["device"] == ("cpu: x86_64", "cuda: H100")
    assert comparison.provenance["libraries.torch"] == ("2.14.1",)
    assert not {"started", "ended"} & set(comparison.provenance)
    assert "commit" not in comparison.provenance, "what is not known has no value"


# --- flags: each exactly where it belongs ----------------------------------------------------------------------------


@dataclass
class Case:
    """A change of a clean, confirmed cell, and the flags that it must raise, all of them."""

    name: str
    change: Callable[[], MemorySource]
    flags: set[Flag]


def clean(**changes: Any) -> MemorySource:
    return confirmed(with_protocol(make_cell(), **changes), [150, 151, 152])


def first_planned(*seeds: int) -> MemorySource:
    source = clean()
    return replace(source, planned=[replace(cell, first_seeds=seeds) for cell in source.planned])


def widened(best: int, first: tuple[float, ...]) -> MemorySource:
    """A winner with the highest rate and weight decay 0 (6) or 1 (8), of which the first levels were `first`."""
    source = confirmed(make_cell(), [150, 151, 152], best)
    cells = [replace(c, first_grid={**c.grid.values, tuple(c.grid.values)[-1]: first}) for c in source.planned]
    return replace(source, planned=cells)


def lost_points(values: Sequence[float | Outcome]) -> MemorySource:
    cell = make_cell()
    return MemorySource([cell], search_rows(cell, values) + confirmed(cell, [150, 151, 152]).rows[9:])


def changed_code() -> MemorySource:
    source = clean()
    row, *others = source.rows
    return replace(source, rows=[replace(row, provenance={**row.provenance, "code": "another"}), *others])


def without_rows(drop: Callable[[TrialRow], bool]) -> MemorySource:
    source = clean()
    return replace(source, rows=[row for row in source.rows if not drop(row)])


def damaged_search() -> MemorySource:
    source = failed_search()
    source.rows = [replace(r, error=f"{DAMAGED}x") if r.outcome == "failed" else r for r in source.rows]
    return source


def failed_search() -> MemorySource:
    source = clean()
    row = source.rows[0]
    return replace(source, rows=[replace(row, outcome="failed", error="boom"), *source.rows[1:]])


AROUND = [50.0] * MIDDLE

OF_PAIRS = {*(Flag.UNEQUAL_BUDGET, Flag.SEEDS_ONLY, Flag.DIFFERENT_TASKS, Flag.UNPAIRED, Flag.SHARED, Flag.CONTAINED)}

CASES = [
    Case("clean", clean, set()),
    Case("edge", lambda: confirmed(make_cell(), [150, 151, 152], best=0), {Flag.EDGE}),
    Case("edge that was widened before", lambda: widened(8, (0.1, 0.5)), {Flag.EDGE, Flag.WIDENED}),
    Case("edge of the first grid", lambda: widened(6, (0.0, 0.1)), {Flag.EDGE}),
    Case("tied", lambda: lost_points([60.0, *AROUND[1:], 80.0, 80.0, *AROUND[1:]]), {Flag.TIED}),
    Case("several search seeds", lambda: clean(search_seeds=(0, 1)), {Flag.RESAMPLED}),
    Case("a single level is no edge", lambda: confirmed(make_cell(lrs=(0.1,)), [1, 2, 3], best=1), set()),
    Case("diverged", lambda: lost_points(["diverged", *AROUND[1:], 80.0, *AROUND]), {Flag.DIVERGED}),
    Case("diverged confirm run", lambda: confirmed(make_cell(), [150, 151, "diverged"]), {
        Flag.DIVERGED, Flag.FEW_SEEDS}),
    Case("unconfirmed", lambda: confirmed(make_cell(), [None, None, None]), {Flag.UNCONFIRMED}),
    Case("all confirm runs diverged", lambda: confirmed(make_cell(), ["diverged"] * 3), {
        Flag.UNCONFIRMED, Flag.DIVERGED}),
    Case("confirm still running", lambda: confirmed(make_cell(), [150, 151, "running"]), {
        Flag.PARTIAL, Flag.FEW_SEEDS}),
    Case("four of five seeds", lambda: confirmed(
        with_protocol(make_cell(), confirm_seeds=(1, 2, 3, 4, 5)), [150, 151, 152, 153, None]), {Flag.PARTIAL}),
    Case("fewer seeds than planned first", lambda: first_planned(101, 102, 103, 104), {Flag.PARTIAL}),
    Case("seeds added later", lambda: first_planned(101, 102), {Flag.ADDED}),
    Case("the seeds that were planned first", lambda: first_planned(103, 102, 101), set()),
    Case("a point that never reaches the constraint", lambda: confirmed(
        make_cell("adam-lawn", frees=(0.0, 1.0, 3.0, 20.0)), [150, 151, 152], best=5), {Flag.NEVER_CONSTRAINED}),
    Case("the border of those that do", lambda: confirmed(
        make_cell("adam-lawn", frees=(0.0, 1.0, 3.0, 20.0)), [150, 151, 152], best=6), {
        Flag.NEVER_CONSTRAINED, Flag.EDGE}),
    Case("a winner that never does", lambda: confirmed(
        make_cell("adam-lawn", frees=(0.0, 1.0, 3.0, 20.0)), [150, 151, 152], best=7), {Flag.NEVER_CONSTRAINED}),
    Case("extended", lambda: confirmed(
        make_cell(decays=(0.0, 0.1)).extended({"weight_decay": (1.0,)}), [150, 151, 152]), {Flag.EXTENDED}),
    Case("a winner that switched by itself", lambda: confirmed(
        make_cell("adam-lawn", frees=(0.0, -4.0, 3.0)), [150, 151, 152], best=4), {Flag.AUTOMATIC}),
    Case("changed code", changed_code, {Flag.CODE}),
    Case("published", lambda: MemorySource([with_protocol(
        make_cell(batch_size=1_000, dataset="movielens-100k"), metric="hr@10")]), {Flag.PAPER, Flag.INCOMPLETE}),
    Case("incomplete", lambda: without_rows(lambda row: row.key == make_cell().search_trials[0].key), {
        Flag.INCOMPLETE}),
    Case("capped", lambda: clean(full_epochs=21), {Flag.CAPPED}),
    Case("micro-batches", lambda: confirmed(changed_task(make_cell(), micro_batch=8), [150, 151, 152]), {
        Flag.MICRO_BATCHES}),
    Case("test selection", lambda: clean(selection="test"), {Flag.TEST_SELECTION}),
    Case("best epoch", lambda: clean(reported="best"), {Flag.BEST_EPOCH}),
    Case("few seeds", lambda: confirmed(with_protocol(make_cell(), confirm_seeds=(1, 2)), [150, 151]), {
        Flag.FEW_SEEDS}),
    Case("failed", failed_search, {Flag.FAILED, Flag.INCOMPLETE}),
    Case("damaged", damaged_search, {Flag.DAMAGED, Flag.INCOMPLETE}),
    Case("failed confirm run", lambda: confirmed(make_cell(), [150, 151, "failed"]), {
        Flag.FAILED, Flag.PARTIAL, Flag.FEW_SEEDS}),
    Case("nothing trained", lambda: MemorySource([make_cell()]), {Flag.INCOMPLETE}),
    Case("all diverged", lambda: MemorySource([make_cell()], search_rows(make_cell(), ["diverged"] * 9)), {
        Flag.DIVERGED}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_flag_is_raised_exactly_where_it_belongs(case: Case) -> None:
    source = case.change()
    (result,) = compared(source).cells
    assert flags_of(result) == case.flags


def test_every_flag_of_a_cell_has_a_case() -> None:
    raised = set().union(*(case.flags for case in CASES))
    assert raised == set(Flag) - OF_PAIRS


@pytest.mark.parametrize(
    ("lawn", "word"),
    [
        (make_cell("adam-lawn"), None),
        (make_cell("adam-lawn", frees=(1.0, 2.0)), "grids"),
        (make_cell("adam-lawn", epochs=30), "budgets"),
        (with_protocol(make_cell("adam-lawn"), search_seeds=(0, 1)), "search seeds"),
        (with_protocol(make_cell("adam-lawn"), confirm_seeds=(101, 102)), "confirm seeds"),
    ],
)
def test_a_pair_with_unequal_budgets_says_in_what(lawn: Cell, word: str | None) -> None:
    (pair,) = compare([make_cell(), lawn], [], {}).pairs
    texts = [note.text for note in pair.notes if note.flag is Flag.UNEQUAL_BUDGET]
    assert len(texts) == (word is not None)
    assert all(str(word) in text for text in texts)


def test_the_edge_says_which_hyperparameter_and_which_side() -> None:
    (result,) = compared(confirmed(make_cell(), [1, 2, 3], best=6)).cells
    texts = [note.text for note in result.notes if note.flag is Flag.EDGE]
    assert len(texts) == 2
    assert "peak_lr = 0.01 is the highest of its 3 levels; widen it there" in texts[0]
    assert "weight_decay = 0 is the lowest of its 3 levels; it has no value below" in texts[1]


def test_a_row_of_another_budget_is_not_mistaken_for_a_result() -> None:
    full, capped = make_cell(), make_cell(epochs=5)
    comparison = compare([full], [*searched(capped), make_row(capped, capped.search_trials[0], {})], {})
    assert comparison.empty
