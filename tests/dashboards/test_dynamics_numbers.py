"""Invariants of the dynamics: names distinguish trials, curves stay as recorded, bins give back the ECE."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import style
from dashboards.figures.base import plain
from dashboards.figures.chosen_trials import chosen, tint
from dashboards.figures.dynamics import dynamics_figure, dynamics_info, margin_figure
from dashboards.figures.reliability import ReliabilityInfo, ranks, reliability_figure, reliability_info
from dashboards.figures.seed_mean import HIGHEST, LOWEST, mean_curve, mean_row
from dashboards.figures.series import CURVE_POINTS
from lawn_tune.results import TrialRow
from tests.helpers.contrast import contrast
from tests.helpers.memory_source import confirm_rows, make_cell, make_row, search_rows
from trainables.catalogue.losses import ECE_BINS

CELLS = (make_cell("adam"), make_cell("adam-lawn"), make_cell("adam-lawn", 512))


def rows() -> list[TrialRow]:
    """Every search trial of three cells, and a confirm trial of the last."""
    found = [row for cell in CELLS for row in search_rows(cell, [50.0] * 9)]
    return found + confirm_rows(CELLS[2], CELLS[2].grid.point(4), [60.0, 61.0, None])


@given(st.lists(st.sampled_from(rows()), min_size=1, max_size=8, unique_by=lambda row: row.key))
def test_names_distinguish_trials(picked: list[TrialRow]) -> None:
    trials = chosen(CELLS, picked)
    assert [trial.key for trial in trials] == [row.key for row in picked]
    assert len({trial.name for trial in trials}) == len(trials)
    assert [trial.letter for trial in trials] == list("ABCDEFGH"[: len(trials)])


def test_names_leave_out_what_all_share() -> None:
    pair = [search_rows(CELLS[1], [50.0] * 9)[i] for i in (0, 4)]
    assert [trial.name for trial in chosen(CELLS, pair)] == [
        "Adam-LAWN, peak_lr 0.001, free_epochs 0",
        "Adam-LAWN, peak_lr 0.003, free_epochs 1",
    ]
    (alone,) = chosen(CELLS, pair[:1])
    assert alone.name == "Adam-LAWN, batch 64, peak_lr 0.001, free_epochs 0, seed 0"


def test_only_a_constraint_that_is_reached_is_a_switch() -> None:
    late = make_cell("adam-lawn", frees=(3.0, 20.0))
    trials = chosen((late, CELLS[0]), [*search_rows(late, [50.0] * 6)[:2], search_rows(CELLS[0], [50.0] * 9)[0]])
    assert [trial.switch for trial in trials] == [3.0, None, None]


def test_a_trial_that_switches_by_itself_is_marked_where_it_did() -> None:
    cell = make_cell("adam-lawn", frees=(-4.0,), lrs=(0.1, 0.2))
    rows = [
        replace(row, summary={**row.summary, "last/switch_epoch": epoch})
        for row, epoch in zip(search_rows(cell, [50.0, 50.0]), (2.3, None), strict=True)
    ]
    assert [trial.switch for trial in chosen((cell,), rows)] == [2.3, None]


@given(st.lists(st.floats(-1e3, 1e3) | st.just(math.nan), min_size=1, max_size=40))
def test_a_series_is_as_recorded_and_gaps_stay_gaps(values: list[float]) -> None:
    (trial,) = chosen(CELLS, rows()[:1])
    info = dynamics_info([trial], {trial.key: {"train_loss": np.array(values)}}, [("train_loss",)])
    if all(math.isnan(value) for value in values):
        assert info.panels == ((),)
        return
    ((series,),) = info.panels
    assert series.epochs == tuple(range(1, len(values) + 1))
    assert [math.nan if v is None else v for v in series.values] == pytest.approx(values, nan_ok=True)
    json.dumps(plain(dynamics_figure(info, ["Train loss"])), allow_nan=False)


def test_long_series_are_thinned_and_keep_their_ends() -> None:
    (trial,) = chosen(CELLS, rows()[:1])
    info = dynamics_info([trial], {trial.key: {"x": np.arange(5_000.0)}}, [("x",)])
    ((series,),) = info.panels
    assert len(series.epochs) <= CURVE_POINTS
    assert (series.epochs[0], series.epochs[-1], info.last) == (1, 5_000, 5_000)


def test_trials_without_a_curve_have_no_line() -> None:
    trials = chosen(CELLS, rows()[:2])
    info = dynamics_info(trials, {trials[1].key: {"x": np.ones(3)}}, [("x",), ("y",)])
    assert [[series.trial.key for series in panel] for panel in info.panels] == [[trials[1].key], []]


def test_figures_share_their_epochs_and_mark_the_switch_in_every_panel() -> None:
    row = search_rows(CELLS[1], [50.0] * 9)[5]  # free_epochs 3
    trials = chosen(CELLS, [row, rows()[0]])
    names = ("weight_norm", "last_layer_norm", "train_loss", "margin_p10", "margin_p50", "margin_p90")
    curves = {trial.key: {name: np.linspace(1, 2, 20) for name in names} for trial in trials}
    norms = plain(
        dynamics_figure(dynamics_info(trials, curves, [(name,) for name in names[:2]]), ["a", "b"], switches=True)
    )
    margins = plain(margin_figure(dynamics_info(trials, curves, [names[3:]]), "m"))
    assert norms["layout"]["xaxis"]["range"] == margins["layout"]["xaxis"]["range"] == [0, 1.01 * 20]
    diamonds = [t for t in norms["data"] if t.get("marker", {}).get("symbol") == "diamond"]
    assert [(t["yaxis"], t["x"]) for t in diamonds] == [("y", [3]), ("y2", [3])]
    assert [shape["x0"] for shape in norms["layout"]["shapes"]] == [3]
    assert [t.get("fill") for t in margins["data"]].count("toself") == 2
    logs = plain(dynamics_figure(dynamics_info(trials, curves, [("train_loss",)]), ["l"], log=True))
    assert logs["layout"]["yaxis"]["type"] == "log"


def test_trials_keep_their_methods_color_and_further_ones_are_seen_on_both_pages() -> None:
    cells = [make_cell(name) for name in ("adam", "adam-lawn", "lamb-lawn")]
    trials = chosen(cells, [row for cell in cells for row in search_rows(cell, [50.0] * 9)[:8]])
    assert [tint(t) for t in trials[::8]] == [style.color(cell.name.optimizer) for cell in cells]
    looks = {(tint(trial), style.dash(trial.optimizer)) for trial in trials}
    assert len(looks) == len(trials)
    for color, _ in looks:
        assert contrast(color, "#ffffff") >= 2.9  # equal luminance, but for rounding
        assert contrast(color, "#15181d") >= 2.9


# --- means over seeds ------------------------------------------------------------------------------------------------

RUNS = st.lists(st.lists(st.floats(-5, 5) | st.just(math.nan), min_size=1, max_size=6), min_size=1, max_size=4)


@given(RUNS)
def test_a_mean_over_seeds_is_of_what_was_measured_and_within_its_band(runs: list[list[float]]) -> None:
    found = mean_curve([{"loss": np.array(run)} for run in runs])
    for epoch in range(max(map(len, runs))):
        known = [run[epoch] for run in runs if epoch < len(run) and not math.isnan(run[epoch])]
        mean, low, high = (found[f"{prefix}loss"][epoch] for prefix in ("", LOWEST, HIGHEST))
        if not known:
            assert np.isnan([mean, low, high]).all()
        else:
            assert (low, high) == (min(known), max(known))
            assert mean == pytest.approx(sum(known) / len(known))


def test_a_mean_row_pools_predictions_and_averages_values() -> None:
    rows = [with_bins({3: 4, 5: 2}), with_bins({3: 12})]
    rows = [replace(row, summary={**row.summary, "ece": value}) for row, value in zip(rows, (0.1, 0.3), strict=True)]
    mean = mean_row(rows)
    assert mean.key == rows[0].cell
    assert mean.summary["ece"] == pytest.approx(0.2)
    assert {b.place: b.examples for b in mean.calibration} == {3: 16, 5: 2}


# --- reliability -----------------------------------------------------------------------------------------------------


def reliability_of(rows: list[TrialRow]) -> ReliabilityInfo:
    return reliability_info(chosen(CELLS, rows), rows)


def with_bins(counts: dict[int, int]) -> TrialRow:
    cell = CELLS[0]
    summary: dict[str, float | None] = {}
    for place, count in counts.items():
        summary |= {
            f"calibration/examples/{place:02d}": float(count),
            f"calibration/confidence/{place:02d}": (place + 0.5) / ECE_BINS,
            f"calibration/accuracy/{place:02d}": place / ECE_BINS,
        }
    return make_row(cell, cell.search_trials[0], summary)


@given(st.dictionaries(st.integers(0, ECE_BINS - 1), st.integers(1, 500), min_size=1))
def test_a_diagram_counts_every_prediction_and_gives_back_its_error(counts: dict[int, int]) -> None:
    info = reliability_of([with_bins(counts)])
    (line,) = info.lines
    assert line.examples == sum(counts.values())
    assert line.ece == pytest.approx(0.5 / ECE_BINS)
    figure = plain(reliability_figure(info))
    shares = figure["data"][2]
    assert sum(shares["y"][:-1]) == pytest.approx(100)
    assert (shares["x"][0], shares["x"][-1], len(shares["x"])) == (0, 100, ECE_BINS + 1)


def test_trials_that_recorded_nothing_are_named() -> None:
    info = reliability_of([with_bins({3: 4}), search_rows(CELLS[1], [50.0] * 9)[0]])
    assert len(info.lines) == 1
    assert [trial.optimizer for trial in info.without] == ["adam-lawn"]


def test_ranking_has_nothing_to_calibrate() -> None:
    assert ranks(make_cell(dataset="movielens-100k"))
    assert not ranks(make_cell())
