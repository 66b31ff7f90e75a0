"""Invariants of a cell's numbers: no point is lost or invented, and the winner is that of the comparison."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.figures.base import plain
from dashboards.figures.best_so_far import best_so_far_figure, best_so_far_info
from dashboards.figures.free_phase import free_phase_figure, free_phase_info
from dashboards.figures.heat_map import MAX_WRITTEN, heat_map_figure, heat_map_info
from dashboards.figures.panels import labeled, log_ticks, mark, round_ticks, sampled, shown, spread, within
from dashboards.figures.parallel_coordinates import parallel_figure, parallel_info
from dashboards.figures.sensitivity import explained, sensitivity_figure, sensitivity_info, span
from dashboards.style import template
from dashboards.widening import suggested
from lawn_tune.cells import Cell
from lawn_tune.comparison.compare import compare, compare_space
from lawn_tune.comparison.comparison import CellResult
from lawn_tune.planning import widening
from lawn_tune.planning.widening import Widening
from lawn_tune.results import Outcome, TrialRow
from tests.helpers.memory_source import demo_source, make_cell, search_rows, with_protocol
from trainables.catalogue.rows import Direction

STATES: list[float | Outcome] = [50.0, 60.0, 70.0, "diverged", "failed", "running", 55.0, 65.0, 90.0]


def widenings(result: CellResult, shortest: int | None = None) -> tuple[Widening, ...]:
    return widening.widenings(result.cell, result.winner, shortest)


def result_of(cell: Cell, rows: list[TrialRow]) -> CellResult:
    return compare([cell], rows, {}).cells[0]


@pytest.fixture
def mixed() -> tuple[CellResult, list[TrialRow]]:
    """A cell with points in every state; the best is at the highest learning rate and the highest weight decay."""
    cell = make_cell()
    rows = search_rows(cell, STATES)
    return result_of(cell, rows), rows


# --- sensitivity -----------------------------------------------------------------------------------------------------


def test_every_axis_holds_every_point_once(mixed: tuple[CellResult, list[TrialRow]]) -> None:
    result, _ = mixed
    info = sensitivity_info(result)
    assert {axis.name for axis in info.axes} == {"peak_lr", "weight_decay"}  # the warm-up has one level only
    for axis in info.axes:
        values = sorted(value for level in axis.levels for value in level.values)
        assert values == [50, 55, 60, 65, 70, 90]
        assert sum(level.diverged for level in axis.levels) == 1
        assert sum(level.failed for level in axis.levels) == 1
        assert sum(level.open for level in axis.levels) == 1
        assert max(level.best or 0 for level in axis.levels) == result.winner.value  # type: ignore[union-attr]
        assert axis.chosen == result.winner.hyperparameters[axis.name]  # type: ignore[union-attr]
        assert axis.edge == (axis.name in result.winner.edges)  # type: ignore[union-attr]


@given(st.lists(st.lists(st.floats(-9, 9), max_size=4), min_size=1, max_size=4), st.floats(0.5, 3))
def test_what_levels_explain_is_a_share_that_ignores_scale_and_order(groups: list[list[float]], scale: float) -> None:
    share = explained(groups)
    assert 0 <= share <= 1
    values = [value for group in groups for value in group]
    if values and np.var(values) > 1e-3:
        assert explained([[scale * value + 1 for value in group] for group in reversed(groups)]) == pytest.approx(share)
        assert explained([values]) == pytest.approx(0)
        assert explained([[value] for value in values]) == pytest.approx(1)


def test_a_grid_holds_every_point_once_on_any_axes() -> None:
    comparison = compare_space(demo_source(epochs=5), "movielens_100k")
    result = comparison.cells[0]
    won = result.winner
    assert won is not None
    for axes in permutations(result.cell.grid.values, 2):
        info = heat_map_info(comparison, result, axes)
        keys = [key for panel in info.panels for row in panel.keys for point in row for key in point]
        assert sorted(keys) == sorted(key for point in result.points for key in point.keys)
        place = info.winner
        assert place is not None
        assert info.panels[place.panel].values[place.row][place.column] == won.value
        levels = info.x_levels[place.column], info.y_levels[place.row]
        assert levels == tuple(won.hyperparameters[name] for name in axes)


def test_the_hyperparameter_that_matters_most_comes_first() -> None:
    cell = make_cell()
    info = sensitivity_info(result_of(cell, search_rows(cell, [0.0, 0.0, 0.5, 10.0, 10.0, 10.5, 30.0, 30.0, 30.5])))
    assert [axis.name for axis in info.axes] == ["peak_lr", "weight_decay"]
    assert [span(axis) for axis in info.axes] == [30.0, 0.5]


def test_a_grid_of_one_point_has_its_axes() -> None:
    cell = make_cell(lrs=(0.1,), decays=(0.0,))
    assert len(sensitivity_info(result_of(cell, search_rows(cell, [1.0]))).axes) == 3


def test_lesser_is_better_where_the_metric_shows_so() -> None:
    cell = with_protocol(make_cell(), direction="minimize")
    info = sensitivity_info(result_of(cell, search_rows(cell, [float(i) for i in range(9)])))
    assert min(level.best for level in info.axes[0].levels if level.best is not None) == 0


def test_the_figure_carries_the_keys_of_its_points(mixed: tuple[CellResult, list[TrialRow]]) -> None:
    result, rows = mixed
    figure = plain(sensitivity_figure(sensitivity_info(result)))
    labels = [text for name in ("xaxis", "xaxis2") for text in figure["layout"][name]["ticktext"]]
    assert "".join(labels).count("1 ×") == 2  # the diverged point, once on each axis
    keys = {key for trace in figure["data"] for key in trace.get("customdata", ())}
    assert keys == {row.key for row in rows if row.outcome == "complete"}
    json.dumps(figure, allow_nan=False)


# --- parallel --------------------------------------------------------------------------------------------------------


def test_every_finished_trial_is_a_line(mixed: tuple[CellResult, list[TrialRow]]) -> None:
    result, rows = mixed
    info = parallel_info(result.cell, rows)
    assert [axis.name for axis in info.axes] == ["peak_lr", "weight_decay"]
    assert info.values == (50, 60, 70, None, 55, 65, 90)
    finished = [row for row in rows if row.outcome in ("complete", "diverged")]
    for axis in info.axes:
        assert [axis.levels[place] for place in axis.places] == [row.hyperparameters[axis.name] for row in finished]


def test_trials_of_another_grid_are_no_lines() -> None:
    cell, other = make_cell(), make_cell(lrs=(0.5,))
    assert parallel_info(cell, search_rows(other, [1.0] * 3)).values == ()


def test_lines_stay_inside_their_axes(mixed: tuple[CellResult, list[TrialRow]]) -> None:
    result, rows = mixed
    figure = plain(parallel_figure(parallel_info(result.cell, rows)))
    heights = [y for trace in figure["data"] for y in trace["y"] if y is not None]
    low, high = figure["layout"]["yaxis"]["range"]
    assert low < min(heights)
    assert max(heights) < high
    assert next(trace["name"] for trace in figure["data"]) == "diverged (1)"


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_values_beyond_the_axis_are_counted_and_its_labels_are_where_they_show(direction: Direction) -> None:
    cell = with_protocol(make_cell(), direction=direction)
    values: list[float | Outcome] = [61.3, 61.9, 62.0, 62.4, 62.7, 62.8, 62.9, 5.0, 99.0]
    info = parallel_info(cell, search_rows(cell, values))
    low, high = info.ends
    assert info.beyond == sum(not low <= value <= high for value in values if isinstance(value, float)) == 1
    figure = plain(parallel_figure(info))
    notes = [note for note in figure["layout"]["annotations"] if note["x"] == len(info.axes)]
    assert len(notes) >= 2
    for note in notes:
        assert note["y"] == pytest.approx((float(note["text"]) - low) / (high - low))
    assert {note["templateitemname"] for note in notes} == {
        note["name"] for note in template("dark")["layout"]["annotations"]
    }


def test_parallel_lines_of_a_single_trial_draw() -> None:
    cell = make_cell(lrs=(0.1,), decays=(0.0,))
    assert plain(parallel_figure(parallel_info(cell, search_rows(cell, [1.0]))))["data"]


# --- best so far -----------------------------------------------------------------------------------------------------


def ended(row: TrialRow, when: int) -> TrialRow:
    return replace(row, provenance={"ended": f"2026-11-24T05:{when:02d}:00.000+00:00"})


@given(st.permutations(range(9)), st.lists(st.floats(0, 100) | st.just("diverged"), min_size=9, max_size=9))
def test_best_so_far_never_gets_worse_and_ends_at_the_winner(order: list[int], values: list[float | Outcome]) -> None:
    cell = make_cell()
    rows = [ended(row, when) for row, when in zip(search_rows(cell, values), order, strict=True)]
    result = result_of(cell, rows)
    info = best_so_far_info(result, rows)
    best = [step.best for step in info.steps if step.best is not None]
    assert best == sorted(best)
    assert [step.keys[0] for step in info.steps] == [rows[order.index(when)].key for when in range(9)]
    assert info.steps[-1].best == (result.winner.value if result.winner else None)
    hours = [step.hours for step in info.steps]
    assert hours == sorted(hours)
    assert hours[-1] * 3600 == pytest.approx(sum(row.summary["seconds"] or 0 for row in rows))


def test_only_finished_points_are_steps(mixed: tuple[CellResult, list[TrialRow]]) -> None:
    result, rows = mixed
    info = best_so_far_info(result, rows)
    assert (len(info.steps), info.points) == (7, 9)
    for against in ("points", "time"):
        assert plain(best_so_far_figure(info, against))["data"]


def test_a_point_of_two_seeds_is_one_step_that_ends_with_the_later() -> None:
    cell = with_protocol(make_cell(lrs=(0.1,), decays=(0.0, 0.1)), search_seeds=(0, 1))
    rows = [ended(row, when) for row, when in zip(search_rows(cell, [1.0, 2.0, 3.0, 4.0]), (0, 1, 9, 2), strict=True)]
    info = best_so_far_info(result_of(cell, rows), rows)
    assert [step.value for step in info.steps] == [3.0, 2.0]


# --- edges -----------------------------------------------------------------------------------------------------------


def widened(cell: Cell, best: int) -> dict[str, float | None]:
    values: list[float | Outcome] = [1.0] * cell.grid.size
    values[best] = 2.0
    return {w.name: w.add for w in widenings(result_of(cell, search_rows(cell, values)))}


def test_one_more_level_lies_beyond_the_edge() -> None:
    lrs = {"lrs": (0.003, 0.01, 0.03), "decays": (0.1, 0.5, 2.5)}
    assert widened(make_cell(**lrs), 0) == {"peak_lr": 0.0009, "weight_decay": 0.02}  # type: ignore[arg-type]
    assert widened(make_cell(**lrs), 8) == {"peak_lr": 0.09, "weight_decay": 12.0}  # type: ignore[arg-type]
    assert widened(make_cell(), 4) == {}


def test_nothing_lies_below_zero() -> None:
    assert widened(make_cell(decays=(0.0, 0.1, 1.0)), 3) == {"weight_decay": None}
    assert widened(make_cell("adam-lawn", frees=(0.0, 1.0, 3.0)), 3) == {"free_epochs": None}


def test_free_epochs_stay_below_the_budget() -> None:
    assert widened(make_cell("adam-lawn", frees=(0.0, 1.0, 3.0)), 5) == {"free_epochs": 9.0}
    assert widened(make_cell("adam-lawn", frees=(1.0, 15.0), lrs=(1.0, 2.0, 3.0)), 3) == {"free_epochs": 18.0}
    assert widened(make_cell("adam-lawn", frees=(1.0, 3.0, 50.0)), 4) == {"free_epochs": 9.0}  # 50 never constrains


def test_a_warm_up_ends_within_the_shortest_budget_and_shows_so_where_it_cannot() -> None:
    cell = make_cell(warmups=(3.0, 10.0), lrs=(0.1,), decays=(0.1,), epochs=40)
    result = result_of(cell, search_rows(cell, [1.0, 2.0]))
    assert [(w.name, w.add, w.why) for w in widenings(result)] == [("warmup_epochs", 30.0, "")]
    ((name, _, _, add, why),) = widenings(result, shortest=30)
    assert (name, add) == ("warmup_epochs", None)
    assert "30, would not end within the 30 epochs" in why


EPOCHS = st.sets(st.integers(0, 39), min_size=2, max_size=4).map(lambda levels: tuple(map(float, sorted(levels))))


@given(EPOCHS, EPOCHS, st.booleans(), st.integers(30, 60))
def test_whole_epochs_get_whole_levels_that_are_new_and_fit(
    warmups: tuple[float, ...], frees: tuple[float, ...], least: bool, shortest: int
) -> None:
    cell = make_cell("adam-lawn", lrs=(0.1,), warmups=warmups, frees=frees, epochs=40)
    values: list[float | Outcome] = [1.0] * cell.grid.size
    values[0 if least else -1] = 2.0
    found = widenings(result_of(cell, search_rows(cell, values)), shortest)
    assert {each.name for each in found} == {"warmup_epochs", "free_epochs"}
    for each in found:
        added = each.add
        assert (added is None) == bool(each.why or (least and each.value == 0))
        if added is not None:
            assert added.is_integer()
            assert added not in each.levels
            assert 0 <= added < (shortest if each.name == "warmup_epochs" and not least else 40)


def test_fractions_of_an_epoch_are_added_to_fractions_only() -> None:
    cells = [make_cell(warmups=levels, lrs=(0.1,), decays=(0.1,), epochs=40) for levels in ((1.0, 3.0), (0.5, 3.0))]
    assert [widened(cell, 0)["warmup_epochs"] for cell in cells] == [0.0, 0.08]


def test_the_line_to_add_is_toml_in_the_order_of_its_levels() -> None:
    cell = make_cell(decays=(0.1, 0.5, 2.5))
    values: list[float | Outcome] = [1.0] * 9
    values[5] = 2.0
    read = tomllib.loads(suggested([result_of(cell, search_rows(cell, values))]))
    assert read == {"optimizers": {"adam": {"weight_decay": [0.1, 0.5, 2.5, 12]}}}


def test_suggestions_of_several_cells_are_one_table_without_a_conflict() -> None:
    """Every level that a cell of the method needs is there once; a batch size with levels of its own has its table."""
    cells = [make_cell(batch_size=size) for size in (64, 256)]
    cells.append(make_cell(batch_size=1_024, lrs=(0.1, 0.3, 0.9)))
    results = []
    for cell, best in zip(cells, (0, 8, 8), strict=True):
        values: list[float | Outcome] = [1.0] * 9
        values[best] = 2.0
        results.append(result_of(cell, search_rows(cell, values)))
    read = tomllib.loads(suggested(results))["optimizers"]["adam"]
    assert set(read["batch"]) == {"64", "256", "1024"}  # their learning rates differ, so none is the method's own
    needed = {found.add for result in results for found in widenings(result) if found.name == "weight_decay"} - {None}
    assert needed <= set(read["weight_decay"])
    assert tomllib.loads(suggested(results[:2]))["optimizers"]["adam"].keys() == {"peak_lr", "weight_decay"}
    assert suggested(results, method="sgd") == ""


def test_a_cell_without_a_winner_has_no_edge() -> None:
    cell = make_cell()
    assert widenings(result_of(cell, search_rows(cell, ["diverged"] * 9))) == ()


# --- grid ------------------------------------------------------------------------------------------------------------


def test_a_points_keys_lie_where_its_value_does() -> None:
    source = demo_source(epochs=5)
    comparison = compare_space(source, "movielens_100k")
    rows = {row.key: row for row in source.rows}
    for result in comparison.cells:
        info = heat_map_info(comparison, result)
        for panel in info.panels:
            for r, line in enumerate(panel.keys):
                for c, keys in enumerate(line):
                    found = [rows[key] for key in keys if key in rows]
                    assert {row.hyperparameters[info.x] for row in found} <= {info.x_levels[c]}
                    assert {row.hyperparameters[info.y] for row in found} <= {info.y_levels[r]}
                    assert len(keys) == 2


def test_a_wide_grid_is_drawn_without_its_values() -> None:
    for columns in (MAX_WRITTEN, MAX_WRITTEN + 1):
        cell = make_cell(lrs=tuple(float(i + 1) for i in range(columns)))
        comparison = compare([cell], search_rows(cell, [50.0] * 3 * columns), {})
        heat = plain(heat_map_figure(heat_map_info(comparison, comparison.cells[0])))["data"][0]
        assert ("texttemplate" in heat) == (columns == MAX_WRITTEN)
        assert len(heat["customdata"][0]) == columns


# --- panels ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5_000), st.integers(2, 400))
def test_samples_keep_both_ends_and_their_number(n: int, most: int) -> None:
    ranks = sampled(n, most)
    assert len(ranks) == min(n, most)
    assert (ranks[0], ranks[-1]) == (0, n - 1)
    assert ranks == sorted(set(ranks))


@given(st.integers(1, 500))
def test_labels_are_few_and_offsets_stay_at_their_level(n: int) -> None:
    texts = [f"{1 / (i + 1):g}" for i in range(n)]
    written = [texts[i] for i in labeled(texts)]
    assert written[0] == texts[0]
    assert sum(len(text) + 1 for text in written) <= 48 or len(written) <= 2
    assert all(abs(offset) <= 0.25 for offset in spread(n))


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_what_lies_beyond_a_window_is_marked(low: float, high: float, value: float) -> None:
    window = shown(min(low, high), max(low, high))
    assert (within(value, window) == value) == (mark(value, window) == "circle")


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6))
def test_round_ticks_are_few_and_inside(low: float, width: float) -> None:
    ticks = round_ticks(low, low + width)
    assert 2 <= len(ticks) <= 6
    step = ticks[1] - ticks[0]
    assert low - 1e-3 * step <= ticks[0]
    assert ticks[-1] <= low + width + 1e-3 * step
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-6), 3) in (1, 2, 5)


def test_round_ticks_of_percent() -> None:
    assert round_ticks(61.13, 67.87) == [62, 63, 64, 65, 66, 67]
    assert round_ticks(0.62, 0.71) == [0.62, 0.64, 0.66, 0.68, 0.7]


def test_log_ticks_are_ones_twos_and_fives() -> None:
    assert log_ticks(1, 24) == [1, 2, 5, 10, 20]
    assert log_ticks(0.3, 3) == pytest.approx([0.5, 1, 2])


# --- effect of the free phase ----------------------------------------------------------------------------------------


def test_the_free_phase_shows_the_best_point_of_each_level_at_its_epochs() -> None:
    """Levels beyond the training are free to its end; a rule is where its best point's trials switched."""
    cell = make_cell("adam-lawn", frees=(40.0, 0.0, -4.0, 1.0))
    values: list[float | Outcome] = [50.0, 60.0, 70.0, "diverged", 55.0, 65.0, 60.0, "diverged", 51.0, 40.0, 75.0, 80.0]
    rows = [
        replace(row, summary={**row.summary, "last/switch_epoch": 2.5 if i == 10 else 1.0})
        for i, row in enumerate(search_rows(cell, values))
    ]
    info = free_phase_info(result_of(cell, rows), rows)
    assert info is not None
    assert [(found.epochs, found.value) for found in info.numbers] == [(0.0, 65.0), (1.0, 80.0), (20.0, 55.0)]
    assert [(found.level, found.epochs, found.value) for found in info.rules] == [(-4.0, 2.5, 75.0)]
    line, diamonds = plain(free_phase_figure(info))["data"]
    assert line["x"] == pytest.approx([0.0, math.log(2), math.log(21)])
    assert diamonds["customdata"] == [rows[10].key]


@pytest.mark.parametrize("cell", [make_cell(), make_cell("adam-lawn", frees=(1.0,))])
def test_a_grid_that_varies_no_free_phase_has_no_such_figure(cell: Cell) -> None:
    rows = search_rows(cell, [50.0] * cell.grid.size)
    assert free_phase_info(result_of(cell, rows), rows) is None
