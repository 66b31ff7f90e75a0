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
from tests.helpers.memory_source import MemorySource, make_cell, make_row, search_rows, with_protocol
from tests.helpers.pair_source import MIDDLE, confirmed, searched


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
    Case("a rate of another batch size", lambda: confirmed(
        replace(make_cell(lrs=(0.01,)), kept={"peak_lr": Kept(batch_size=32, levels=(0.01, 0.02))}),
        [150, 151, 152], best=1), {Flag.KEPT}),
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
