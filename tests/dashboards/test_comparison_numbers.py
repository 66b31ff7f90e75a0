"""The numbers of the page that compares: differences, profiles, curves, tables, and the part that is selected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.figures.base import plain
from dashboards.figures.batch_curves import batch_curves
from dashboards.figures.caveats import cell_caveats
from dashboards.figures.figure_of_merit import measured, measures
from dashboards.figures.forest import forest_figure, forest_info, forest_summary
from dashboards.figures.pair_outcome import TONES, searched
from dashboards.figures.performance_profile import ProfileInfo, profile_info
from dashboards.web.comparison_part import main_cell, main_first, selected
from dashboards.web.side_table import SideEntry, paper_table, space_table
from lawn_tune.comparison.compare import compare, compare_space
from lawn_tune.comparison.comparison import CellResult, Comparison, Verdict
from lawn_tune.comparison.inference import mean_and_error
from lawn_tune.comparison.published import lookup, paper_tables, printed_difference
from lawn_tune.comparison.tables import table
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import find_space
from lawn_tune.results import Outcome, TrialRow
from tests.helpers.memory_source import (
    MemorySource,
    confirm_rows,
    demo_source,
    make_cell,
    search_rows,
    with_protocol,
)
from trainables.catalogue.datasets import DATASETS

SPACE = "movielens_100k"


@pytest.fixture(scope="module")
def source() -> MemorySource:
    return demo_source(epochs=30)


@pytest.fixture(scope="module")
def comparison(source: MemorySource) -> Comparison:
    return compare_space(source, SPACE)


@pytest.fixture(scope="module")
def rows(source: MemorySource) -> dict[str, TrialRow]:
    return {row.key: row for row in source.trials(SPACE)}


Value = float | str | None
"""A confirmed mean, "diverged" for a method that trains nowhere, None for a search without confirm runs."""


def filled(
    values: Mapping[tuple[str, int], Value], *, space: str = "digits", direction: str = "maximize"
) -> Comparison:
    """A space whose cells have these confirmed means."""
    source = MemorySource()
    for (optimizer, batch_size), value in values.items():
        cell = with_protocol(make_cell(optimizer, batch_size, space=space), direction=direction)
        source.planned.append(cell)
        if value == "diverged":
            source.rows += search_rows(cell, ["diverged"] * 9)
            continue
        best = 51.0 if direction == "maximize" else 49.0
        source.rows += search_rows(cell, [best, *[50.0] * 8])
        if isinstance(value, float):
            source.rows += confirm_rows(cell, cell.grid.point(0), [value] * 3)
    return compare_space(source, space)


@pytest.mark.parametrize("space", ["table2_movielens_1m", "table4_movielens_1m", "table6_cifar10"])
def test_pages_open_on_lawn_against_weight_decay(space: str) -> None:
    cells = plan(find_space(space))
    comparison = compare(cells, [], {})
    first, *others = main_first(comparison)
    assert (first.challenger.cell.side, first.baseline.cell.side) == ("LAWN", "weight decay")
    assert main_cell(cells) == first.challenger.cell
    assert {id(pair) for pair in (first, *others)} == {id(pair) for pair in comparison.pairs}
    assert len(others) == len(comparison.pairs) - 1
    assert main_cell(cells[:1]) == cells[0]


# --- forest ----------------------------------------------------------------------------------------------------------


def test_a_forest_shows_every_pair_as_it_was_compared(comparison: Comparison) -> None:
    info = forest_info(comparison.pairs)
    assert len(info.rows) == len(comparison.pairs)
    by_place = {(pair.baseline.cell.name.optimizer, pair.batch_size): pair for pair in comparison.pairs}
    for row in info.rows:
        pair = by_place[row.base, row.batch_size]
        assert row.verdict is pair.verdict
        assert row.lawn == f"{row.base}-lawn"
        if pair.difference is not None and pair.difference.interval is not None:
            ends = pair.difference.interval
            assert (row.mean, row.low, row.high) == (pair.difference.mean, ends.low, ends.high)
            assert row.confirmed


def test_a_filled_row_is_one_whose_interval_leaves_zero_out(comparison: Comparison) -> None:
    for row in forest_info(comparison.pairs).rows:
        separable = row.low is not None and row.high is not None and (row.low > 0 or row.high < 0)
        assert (row.tone in ("better", "worse")) == separable


def test_every_verdict_has_a_tone_and_only_settled_ones_a_side() -> None:
    assert {verdict for verdict in Verdict if TONES.get(verdict) == "better"} == {
        Verdict.BETTER,
        Verdict.ONLY_CHALLENGER,
    }
    assert {verdict for verdict in Verdict if TONES.get(verdict) == "worse"} == {Verdict.WORSE, Verdict.ONLY_BASELINE}
    assert TONES.get(Verdict.PENDING, "none") == "none"


def test_an_unconfirmed_pair_shows_the_difference_of_its_searches_as_such(comparison: Comparison) -> None:
    (row,) = [row for row in forest_info(comparison.pairs).rows if not row.confirmed]
    pair = next(pair for pair in comparison.pairs if pair.difference is None)
    assert (row.base, row.batch_size, row.verdict) == ("lamb", 100_000, Verdict.PENDING)
    assert pair.challenger.winner is not None
    assert pair.baseline.winner is not None
    assert row.mean == searched(pair) == pair.challenger.winner.value - pair.baseline.winner.value
    assert (row.low, row.high, row.tone, row.short) == (None, None, "none", "not confirmed")


def test_rows_are_sorted_by_space_base_and_batch_size_whatever_the_order_of_pairs(comparison: Comparison) -> None:
    adam = [pair for pair in comparison.pairs if pair.baseline.cell.name.optimizer == "adam"]
    for pairs in permutations(adam):
        assert [row.batch_size for row in forest_info(pairs).rows] == [1_000, 10_000, 100_000]
    other = filled({("adam", 64): 90.0, ("adam-lawn", 64): 91.0})
    both = forest_info([*comparison.pairs, *other.pairs])
    assert both.several
    assert [row.space for row in both.rows] == [SPACE] * 6 + ["digits"]
    assert [row.base for row in both.rows] == ["adam"] * 3 + ["lamb"] * 3 + ["adam"]


def test_the_papers_difference_is_of_its_own_two_values(comparison: Comparison) -> None:
    found = {
        (pair.baseline.cell.name.optimizer, pair.batch_size): printed_difference(*(side.cell for side in pair.cells))
        for pair in comparison.pairs
    }
    assert found["adam", 100_000] == pytest.approx(66.24 - 63.20)
    assert found["lamb", 1_000] == pytest.approx(66.56 - 65.45)
    other = filled({("adam", 64): 90.0, ("adam-lawn", 64): 91.0}).pairs[0]
    assert printed_difference(*(side.cell for side in other.cells)) is None


def test_where_lower_is_better_the_axis_shows_so_and_other_metrics_stay_out() -> None:
    lower = filled({("adam", 64): 2.0, ("adam-lawn", 64): 1.0}, space="lower", direction="minimize")
    higher = filled({("adam", 64): 2.0, ("adam-lawn", 64): 1.0}, space="higher")
    assert not forest_info(lower.pairs).maximize
    mixed = forest_info([*higher.pairs, *lower.pairs])
    assert mixed.maximize
    assert [row.space for row in mixed.rows] == ["higher"]
    assert forest_info([]).rows == ()


def test_a_difference_is_in_points_of_percentages_only() -> None:
    (share,) = filled({("adam", 64): 2.0, ("adam-lawn", 64): 1.0}).pairs
    bits = replace(share, baseline=replace(share.baseline, cell=with_protocol(share.baseline.cell, metric="bits")))
    for pair, title, end in ((share, "Difference (points)", "−1.00 points."), (bits, "Difference", "−1.00.")):
        info = forest_info([pair])
        assert plain(forest_figure(info))["layout"]["xaxis"]["title"]["text"] == title
        assert forest_summary(info).endswith(end)
    assert len(forest_info([share, bits]).rows) == 1


# --- caveats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("best", "name"), [(0, "never constrained in 3 of 9 grid points"), (2, "winner never constrained")]
)
def test_points_that_never_are_constrained_are_distinguished_from_such_a_winner(best: int, name: str) -> None:
    cell = with_protocol(make_cell("adam-lawn", frees=(0.0, 1.0, 50.0)), full_epochs=99)
    values: list[float | Outcome] = [1.0] * 9
    values[best] = 2.0
    (result,) = compare([cell], search_rows(cell, values), {}).cells
    first, second, *_ = cell_caveats(result)
    assert (first, second) == ("capped epochs", name)
    assert len(cell_caveats(result)) == len({note.flag for note in result.notes})


# --- profile ---------------------------------------------------------------------------------------------------------

METHODS = ("adam", "adam-lawn", "lamb")
MEANS = st.lists(
    st.tuples(*[st.one_of(st.just("diverged"), st.floats(20, 99).map(lambda x: round(x, 1))) for _ in METHODS]),
    min_size=1,
    max_size=5,
)


def results_of(tasks: list[tuple[Value, ...]]) -> tuple[CellResult, ...]:
    values = {(name, 2**i): value for i, task in enumerate(tasks) for name, value in zip(METHODS, task, strict=True)}
    return filled(values).cells


@settings(max_examples=25, deadline=None)
@given(MEANS, st.floats(0, 50))
def test_a_profile_is_the_share_of_tasks_within_tau_percent(tasks: list[tuple[Value, ...]], tau: float) -> None:
    info = profile_info(results_of(tasks))
    settled = [task for task in tasks if any(isinstance(value, float) for value in task)]
    assert (info.tasks, info.unsettled) == (len(settled), 0)
    for i, name in enumerate(METHODS):
        if not settled:
            assert info.lines == ()
            continue
        line = next(line for line in info.lines if line.optimizer == name)
        near = [task for task in settled if _gap(task, i) <= tau]
        assert line.n == len(settled)
        assert line.within(tau) == pytest.approx(len(near) / len(settled))


def _gap(task: tuple[Value, ...], i: int) -> float:
    value, best = task[i], max(value for value in task if isinstance(value, float))
    return 100 * (best - value) / best if isinstance(value, float) else math.inf


@settings(max_examples=15, deadline=None)
@given(MEANS)
def test_shares_rise_and_somebody_is_best(tasks: list[tuple[Value, ...]]) -> None:
    info = profile_info(results_of(tasks))
    for line in info.lines:
        assert list(line.gaps) == sorted(set(line.gaps))
        assert list(line.shares) == sorted(line.shares)
        assert all(0 < share <= 1 for share in line.shares)
    if info.lines:
        assert sum(line.within(0.0) for line in info.lines) >= 1 - 1e-9


def test_tasks_that_are_not_confirmed_are_counted_and_left_out() -> None:
    values: dict[tuple[str, int], Value] = {("adam", 1): 90.0, ("adam-lawn", 1): 91.0}
    values |= {("adam", 2): 90.0, ("adam-lawn", 2): None}
    info = profile_info(filled(values).cells)
    assert (info.tasks, info.unsettled) == (1, 1)


def test_a_task_of_one_method_is_none_and_spaces_are_kept_apart() -> None:
    one, other = filled({("adam", 1): 90.0}, space="one"), filled({("adam-lawn", 1): 80.0}, space="other")
    assert profile_info([*one.cells, *other.cells]) == ProfileInfo((), 0, 0)


def test_a_lower_metric_has_its_least_value_as_the_best() -> None:
    info = profile_info(filled({("adam", 1): 2.0, ("adam-lawn", 1): 1.0}, direction="minimize").cells)
    assert {line.optimizer: line.gaps for line in info.lines} == {"adam": (100.0,), "adam-lawn": (0.0,)}


# --- measures and curves ---------------------------------------------------------------------------------------------


def test_the_protocols_measure_stands_first_and_others_are_offered_once(comparison: Comparison) -> None:
    found = measures([result.cell for result in comparison.cells])
    assert found[0].chosen
    assert [measure.chosen for measure in found[1:]] == [False] * (len(found) - 1)
    keys = [measure.key for measure in found]
    names = [f"{epoch}/{name}" for name in DATASETS["movielens-100k"].metrics for epoch in ("last", "best")]
    assert keys == [*names, "last/train_loss"]
    classes = make_cell()
    assert "ece" in [measure.key for measure in measures([classes])]
    focal = replace(classes, task=replace(classes.task, loss="focal-2"))
    assert "ece" in [measure.key for measure in measures([focal])]


def test_curves_are_the_estimates_and_open_where_unconfirmed(comparison: Comparison, rows: dict[str, TrialRow]) -> None:
    measure = measures([result.cell for result in comparison.cells])[0]
    info = batch_curves(comparison.cells, measure, "confirm", rows)
    assert [curve.optimizer for curve in info.curves] == list(comparison.optimizers)
    unsure = []
    for curve in info.curves:
        for point in curve.points:
            result = comparison.cell(curve.optimizer, point.batch_size)
            assert result is not None
            assert result.estimate is not None
            assert point.value.mean == pytest.approx(result.estimate.mean)
            assert (point.value.error, point.value.n) == (result.estimate.error, result.estimate.n)
            if point.value.phase == "search":
                unsure.append((curve.optimizer, point.batch_size))
    assert unsure == [("lamb", 100_000)]


def test_other_measures_are_of_the_same_runs(comparison: Comparison, rows: dict[str, TrialRow]) -> None:
    best = next(m for m in measures([r.cell for r in comparison.cells]) if m.key == "best/hr@10")
    for result in comparison.cells:
        value = measured(result, best, "confirm", rows)
        if result.confirmed is not None:
            keys = result.confirmed.keys.values()
            mean, error = mean_and_error([rows[key].summary["best/test/hr@10"] or 0.0 for key in keys])
            assert value is not None
            assert (value.mean, value.error, value.n) == (mean, error, result.confirmed.n)


def test_search_values_are_the_winners_without_an_error(comparison: Comparison, rows: dict[str, TrialRow]) -> None:
    measure = measures([result.cell for result in comparison.cells])[0]
    info = batch_curves(comparison.cells, measure, "search", rows)
    assert info.split == "validation"
    for curve in info.curves:
        for point in curve.points:
            result = comparison.cell(curve.optimizer, point.batch_size)
            assert result is not None
            assert result.winner is not None
            assert point.value.mean == pytest.approx(result.winner.value)
            assert point.value.error is None


def test_the_papers_curve_stands_behind_the_protocols_metric_only(
    comparison: Comparison, rows: dict[str, TrialRow]
) -> None:
    chosen, best, *_ = measures([result.cell for result in comparison.cells])
    info = batch_curves(comparison.cells, chosen, "confirm", rows)
    lawn = next(curve for curve in info.curves if curve.optimizer == "adam-lawn")
    assert [(v.batch_size, v.mean) for v in lawn.paper] == [
        (1_000, 66.81), (10_000, 66.91), (100_000, 66.24), (400_000, 66.14)
    ]  # fmt: skip
    assert "Paper: 300 or 500 epochs" in info.paper
    assert "Here: 30 epochs" in info.paper
    other = batch_curves(comparison.cells, best, "confirm", rows)
    assert other.paper == ""
    assert not any(curve.paper for curve in other.curves)


def test_a_measure_that_no_trial_carries_gives_no_curve(comparison: Comparison) -> None:
    loss = measures([result.cell for result in comparison.cells])[-1]
    assert batch_curves(comparison.cells, loss, "confirm", {}).curves == ()


# --- tables ----------------------------------------------------------------------------------------------------------


def entries_of(rows: tuple[tuple[str, str, tuple[SideEntry | None, ...]], ...]) -> list[SideEntry]:
    return [entry for _, _, entries in rows for entry in entries if entry is not None]


def test_a_spaces_table_is_compares_with_the_papers_values_beside(comparison: Comparison) -> None:
    known, side = table(comparison), space_table(comparison)
    assert [name for _, name, _ in side.rows] == list(known.optimizers)
    for _, name, entries in side.rows:
        for size, entry in zip(known.batch_sizes, entries, strict=True):
            expected = known.entries[name, size]
            assert entry is not None
            assert (entry.measured, entry.best, entry.marks) == (expected.text, expected.best, expected.marks)
            value = lookup("movielens-100k", name, size, metric="hr@10", loss="bce")
            assert value is not None
            assert (entry.paper, entry.bold) == (value.text, False)  # bold is a decided difference here
    assert side.footnotes == known.footnotes


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
def test_a_paper_table_has_every_printed_value_once(comparison: Comparison, number: int) -> None:
    printed = paper_tables()[number - 1]
    side = paper_table(printed, comparison.cells)
    assert len(entries_of(side.rows)) == len(printed.values)
    assert sum(entry.bold for entry in entries_of(side.rows)) == sum(value.bold for value in printed.values)
    assert len(side.columns) == sum(n for _, n in side.groups)
    assert all(len(entries) == len(side.columns) for _, _, entries in side.rows)


def test_ours_stands_beside_the_papers_value_of_the_same_task_only(comparison: Comparison) -> None:
    side = paper_table(paper_tables()[3], comparison.cells)
    ours = [entry for entry in entries_of(side.rows) if entry.measured]
    assert len(ours) == len(comparison.cells) == 12
    assert {entry.cell for entry in ours} == {str(result.cell.name) for result in comparison.cells}
    for label, name, entries in side.rows:
        assert label != "SGD" or not any(entry and entry.measured for entry in entries)
        assert all(entry is None or not entry.cell or f"/{name}/" in entry.cell for entry in entries)
    assert not any(entry.measured for entry in entries_of(paper_table(paper_tables()[4], comparison.cells).rows))


def test_a_grid_without_decay_and_one_of_fewer_epochs_are_not_next_to_tuned_decay() -> None:
    """Table 4 prints tuned weight decay in 300 epochs at batch 10,000."""
    cells = [
        with_protocol(
            make_cell("adam", 10_000, space=space, dataset="movielens-100k", epochs=epochs, decays=decays),
            metric="hr@10",
        )
        for space, epochs, decays in (("plain", 300, (0.0,)), ("short", 40, (0.1,)), ("same", 300, (0.1,)))
    ]
    for count, shown in ((1, set()), (2, {"short/adam/bs10000"}), (3, {"same/adam/bs10000"})):
        results = [result for cell in cells[:count] for result in compare([cell], [], {}).cells]
        assert {entry.cell for entry in entries_of(paper_table(paper_tables()[3], results).rows) if entry.cell} == shown


def test_standard_errors_of_single_values_are_shown() -> None:
    (entry,) = [entry for entry in entries_of(paper_table(paper_tables()[0], []).rows) if entry.paper == "76.18 ± 0.03"]
    assert entry.bold


# --- selection -------------------------------------------------------------------------------------------------------


def test_a_selection_keeps_pairs_whole_and_recomputes_no_statistic(comparison: Comparison) -> None:
    part = selected(comparison, lambda base, size: base == "adam" and size >= 10_000)
    assert [(r.cell.name.optimizer, r.cell.name.batch_size) for r in part.cells] == [
        (name, size) for name in ("adam", "adam-lawn") for size in (10_000, 100_000)
    ]
    kept = [p for p in comparison.pairs if p.baseline.cell.name.optimizer == "adam" and p.batch_size >= 10_000]
    assert part.pairs == tuple(kept)
    assert selected(comparison, lambda base, size: True) == comparison
    assert selected(comparison, lambda base, size: False).cells == ()


@pytest.mark.parametrize("base", ["adam", "sgd"])
def test_a_pair_of_two_bases_is_kept_whole_by_either(base: str) -> None:
    adam, lawn, sgd = (make_cell(name) for name in ("adam", "adam-lawn", "sgd"))
    lawn = replace(lawn, baselines=("adam", "sgd"))
    cells = [adam, lawn, sgd]
    source = MemorySource(cells, [row for cell in cells for row in search_rows(cell, [0.5] * cell.grid.size)])
    part = selected(compare_space(source, "digits"), lambda name, size: name == base)
    names = [pair.baseline.cell.name.optimizer for pair in part.pairs]
    assert names == {"adam": ["adam", "sgd"], "sgd": ["sgd"]}[base]
    shown = {result.cell.name for result in part.cells}
    assert all(result.cell.name in shown for pair in part.pairs for result in pair.cells)
