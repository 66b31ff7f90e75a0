"""Each flag is raised exactly where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from lawn_tune.cells import Cell, Kept
from lawn_tune.comparison.compare import compare
from lawn_tune.comparison.flags import Flag
from lawn_tune.results import DAMAGED, Outcome, TrialRow
from tests.helpers.comparing import changed_task, compared, flags_of
from tests.helpers.memory_source import MemorySource, confirm_rows, make_cell, make_row, search_rows, with_protocol
from tests.helpers.pair_source import MIDDLE, confirmed, searched


@dataclass
class Case:
    """A change of a clean, confirmed cell, the flags that it must raise, all of them, and words of a note."""

    name: str
    change: Callable[[], MemorySource]
    flags: set[Flag]
    words: str = ""


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


def losses(*values: float) -> MemorySource:
    cell = with_protocol(make_cell(), direction="minimize")
    rows = searched(cell, value=20.0) + confirm_rows(cell, cell.grid.point(MIDDLE), values)
    return MemorySource([cell], rows)


AROUND = [50.0] * MIDDLE

OF_PAIRS = {*(Flag.UNEQUAL_BUDGET, Flag.SEEDS_ONLY, Flag.DIFFERENT_TASKS, Flag.UNPAIRED, Flag.SHARED, Flag.CONTAINED)}

CASES = [
    Case("clean", clean, set()),
    Case("edge", lambda: confirmed(make_cell(), [150, 151, 152], best=0), {Flag.EDGE}),
    Case("edge that was widened before", lambda: widened(8, (0.1, 0.5)), {Flag.EDGE, Flag.WIDENED},
        "weight_decay = 1 is on the edge again, although the grid was widened beyond its first 0.1 to 0.5"),
    Case("edge of the first grid", lambda: widened(6, (0.0, 0.1)), {Flag.EDGE}),
    Case("edge within the first grid", lambda: widened(8, (0.0, 1.0)), {Flag.EDGE}),
    Case("tied", lambda: lost_points([60.0, *AROUND[1:], 80.0, 80.0, *AROUND[1:]]), {Flag.TIED},
        "1 other point of the grid did as well as the winner, which is the farthest inside"),
    Case("tied on the border", lambda: lost_points([80.0, *AROUND[1:], 50.0, *AROUND[1:], 80.0]), {
        Flag.TIED, Flag.EDGE, Flag.UNCONFIRMED},
        "1 other point of the grid did as well as the winner, which is the first of those farthest inside"),
    Case("tied with two", lambda: lost_points([80.0, *AROUND[1:], 80.0, 80.0, *AROUND[1:]]), {Flag.TIED},
        "2 other points of the grid did as well as the winner"),
    Case("several search seeds", lambda: clean(search_seeds=(0, 1)), {Flag.RESAMPLED},
        "100 % of resamples of the 2 search seeds keep this winner; the interval does not include"),
    Case("a single level is no edge", lambda: confirmed(make_cell(lrs=(0.1,)), [150, 151, 152], best=1), set()),
    Case("diverged", lambda: lost_points(["diverged", *AROUND[1:], 80.0, *AROUND]), {Flag.DIVERGED},
        "1 of 9 points of the grid diverged (11 %)"),
    Case("diverged confirm run", lambda: confirmed(make_cell(), [150, 151, "diverged"]), {
        Flag.DIVERGED, Flag.FEW_SEEDS}, "1 of 3 confirm runs diverged; the mean is over the others"),
    Case("collapsed confirm runs", lambda: confirmed(make_cell(), [150, 79, 0]), {Flag.COLLAPSED},
        "2 of 3 confirm runs end with less than half of the search's 80.00 %: 0.00 %, 39.50 %; the mean is over all"),
    Case("a confirm run of half the value", lambda: confirmed(make_cell(), [150, 151, 80]), set()),
    Case("collapsed losses", lambda: losses(15.0, 40.0, 40.1), {Flag.COLLAPSED},
        "1 of 3 confirm runs end with more than twice the search's 20.00 %: 40.10 %"),
    Case("unconfirmed", lambda: confirmed(make_cell(), [None, None, None]), {Flag.UNCONFIRMED}),
    Case("all confirm runs diverged", lambda: confirmed(make_cell(), ["diverged"] * 3), {
        Flag.UNCONFIRMED, Flag.DIVERGED}, "3 of 3 confirm runs diverged; none is left to report"),
    Case("confirm still running", lambda: confirmed(make_cell(), [150, None, "running"]), {
        Flag.PARTIAL, Flag.FEW_SEEDS}, "2 of 3 confirm runs are still to come"),
    Case("four of five seeds", lambda: confirmed(
        with_protocol(make_cell(), confirm_seeds=(1, 2, 3, 4, 5)), [150, 151, 152, 153, None]), {Flag.PARTIAL}),
    Case("fewer seeds than planned first", lambda: first_planned(101, 102, 103, 104), {Flag.PARTIAL},
        "the first launch planned 4 confirm seeds; 1 of them are not planned any more"),
    Case("seeds added later", lambda: first_planned(102), {Flag.ADDED},
        "2 of 3 confirm seeds were added after the first launch"),
    Case("the seeds that were planned first", lambda: first_planned(103, 102, 101), set()),
    Case("points that never reach the constraint", lambda: confirmed(
        make_cell("adam-lawn", frees=(0.0, 1.0, 3.0, 20.0)), [150, 151, 152], best=5), {Flag.NEVER_CONSTRAINED},
        "3 of 12 points have free_epochs >= 20 epochs and never reach the constraint: they are plain Adam"),
    Case("a point that never reaches the constraint", lambda: confirmed(
        make_cell("adam-lawn", lrs=(0.1,), frees=(0.0, 1.0, 3.0, 20.0)), [150, 151, 152], best=1), {
        Flag.NEVER_CONSTRAINED},
        "1 of 4 points has free_epochs >= 20 epochs and never reaches the constraint: it is plain Adam"),
    Case("the border of those that do", lambda: confirmed(
        make_cell("adam-lawn", frees=(0.0, 1.0, 3.0, 20.0)), [150, 151, 152], best=6), {
        Flag.NEVER_CONSTRAINED, Flag.EDGE},
        "free_epochs = 3 is the highest of the 3 levels below 20 epochs; try values between it and the budget"),
    Case("the other border of those that do", lambda: confirmed(
        make_cell("adam-lawn", frees=(0.5, 1.0, 3.0, 20.0)), [150, 151, 152], best=4), {
        Flag.NEVER_CONSTRAINED, Flag.EDGE},
        "free_epochs = 0.5 is the lowest of the 3 levels below 20 epochs; widen it there"),
    Case("the only one of those that do", lambda: confirmed(
        make_cell("adam-lawn", frees=(3.0, 20.0)), [150, 151, 152], best=2), {Flag.NEVER_CONSTRAINED, Flag.EDGE},
        "free_epochs = 3 is the highest of the 1 level below 20 epochs; try values between it and the budget"),
    Case("the border of a switch that all levels reach", lambda: confirmed(
        make_cell("adam-lawn", frees=(0.0, 1.0, 3.0)), [150, 151, 152], best=5), {Flag.EDGE},
        "free_epochs = 3 is the highest of its 3 levels; widen it there"),
    Case("a winner that never does", lambda: confirmed(
        make_cell("adam-lawn", frees=(0.0, 1.0, 3.0, 20.0)), [150, 151, 152], best=7), {Flag.NEVER_CONSTRAINED},
        "free_epochs = 20 of 20 epochs; it is plain Adam without weight decay, not LAWN"),
    Case("extended", lambda: confirmed(
        make_cell(decays=(0.0, 0.1)).extended({"weight_decay": (1.0,)}), [150, 151, 152]), {Flag.EXTENDED}),
    Case("a rate of another batch size", lambda: confirmed(
        replace(make_cell(lrs=(0.01,)), kept={"peak_lr": Kept(batch_size=32, levels=(0.01, 0.02))}),
        [150, 151, 152], best=1), {Flag.KEPT}),
    Case("a winner that switched by itself", lambda: confirmed(
        make_cell("adam-lawn", frees=(0.0, -4.0, 3.0)), [150, 151, 152], best=4), {Flag.AUTOMATIC}),
    Case("changed code", changed_code, {Flag.CODE}, "1 of 12 trials ran changed code"),
    Case("published", lambda: MemorySource([with_protocol(
        make_cell(batch_size=1_000, dataset="movielens-100k"), metric="hr@10")]), {Flag.PAPER, Flag.INCOMPLETE}),
    Case("incomplete", lambda: without_rows(lambda row: row.key == make_cell().search_trials[0].key), {
        Flag.INCOMPLETE}, "8 of 9 points of the grid are trained"),
    Case("capped", lambda: clean(full_epochs=21), {Flag.CAPPED}, "trained for 20 of the 21 epochs"),
    Case("micro-batches", lambda: confirmed(changed_task(make_cell(), micro_batch=8), [150, 151, 152]), {
        Flag.MICRO_BATCHES}),
    Case("test selection", lambda: clean(selection="test"), {Flag.TEST_SELECTION}),
    Case("best epoch", lambda: clean(reported="best"), {Flag.BEST_EPOCH}),
    Case("few seeds", lambda: confirmed(with_protocol(make_cell(), confirm_seeds=(1, 2)), [150, 151]), {
        Flag.FEW_SEEDS}, "n = 2: fewer than 3 confirm runs"),
    Case("one seed", lambda: confirmed(with_protocol(make_cell(), confirm_seeds=(1,)), [150]), {
        Flag.FEW_SEEDS}, "n = 1: fewer than 3 confirm runs"),
    Case("failed", failed_search, {Flag.FAILED, Flag.INCOMPLETE}),
    Case("damaged", damaged_search, {Flag.DAMAGED, Flag.INCOMPLETE}),
    Case("failed confirm run", lambda: confirmed(make_cell(), [150, 151, "failed"]), {
        Flag.FAILED, Flag.PARTIAL, Flag.FEW_SEEDS}),
    Case("nothing trained", lambda: MemorySource([make_cell()]), {Flag.INCOMPLETE}),
    Case("all diverged", lambda: MemorySource([make_cell()], search_rows(make_cell(), ["diverged"] * 9)), {
        Flag.DIVERGED}, "every point of the grid diverged (9 of 9)"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_flag_is_raised_exactly_where_it_belongs(case: Case) -> None:
    source = case.change()
    (result,) = compared(source).cells
    assert flags_of(result) == case.flags
    assert case.words in "; ".join(note.text for note in result.notes)


def test_every_flag_of_a_cell_has_a_case() -> None:
    raised = set().union(*(case.flags for case in CASES))
    assert raised == set(Flag) - OF_PAIRS


@pytest.mark.parametrize(
    ("lawn", "text"),
    [
        (make_cell("adam-lawn"), None),
        (make_cell("adam-lawn", frees=(1.0, 2.0)), "grids differ: weight decay 9 points, LAWN 6 points"),
        (make_cell("adam-lawn", epochs=30), "budgets differ: weight decay 20 epochs, LAWN 30 epochs"),
        (with_protocol(make_cell("adam-lawn"), search_seeds=(0, 1)), "search seeds differ: weight decay 0, LAWN 0, 1"),
        (
            with_protocol(make_cell("adam-lawn"), confirm_seeds=()),
            "confirm seeds differ: weight decay 101, 102, 103, LAWN none",
        ),
    ],
)
def test_a_pair_with_unequal_budgets_says_in_what(lawn: Cell, text: str | None) -> None:
    (pair,) = compare([make_cell(), lawn], [], {}).pairs
    texts = [note.text for note in pair.notes if note.flag is Flag.UNEQUAL_BUDGET]
    assert texts == ([f"the pair's {text}"] if text else [])


@pytest.mark.parametrize(
    ("search", "confirm"), [("", ""), ("f", ""), ("", "f"), ("ff", "f"), ("fd", "df"), ("ddd", "f"), ("d", "ddd")]
)
def test_trials_that_failed_and_rows_that_cannot_be_read_are_counted_apart(search: str, confirm: str) -> None:
    source = clean()
    fates = dict(zip(range(9), search, strict=False)) | dict(zip(range(9, 12), confirm, strict=False))
    errors = {i: "boom" if fate == "f" else f"{DAMAGED}row {i}" for i, fate in fates.items()}
    source.rows = [
        replace(row, outcome="failed", error=errors[i]) if i in errors else row for i, row in enumerate(source.rows)
    ]
    (result,) = compared(source).cells
    texts = {note.flag: note.text for note in result.notes}
    failed, damaged = (search + confirm).count("f"), [i for i in errors if fates[i] == "d"]
    trials = {0: None, 1: "1 trial failed"}.get(failed, f"{failed} trials failed")
    assert texts.get(Flag.FAILED) == (trials and f"{trials} and would be retried by another launch")
    named = "; ".join(f"row {i}" for i in damaged[:3]) + (" and 1 more. " if len(damaged) == 4 else ". ")
    assert (Flag.DAMAGED in texts) == bool(damaged)
    assert f"cannot be read: {named}" in texts.get(Flag.DAMAGED, f"cannot be read: {named}")


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
