"""The numbers behind the figures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dashboards.figures.batch_size import batch_size_info
from dashboards.figures.heat_map import heat_map_infos
from dashboards.figures.learning_curves import curve_infos, curve_keys
from dashboards.figures.series import CURVE_POINTS
from lawn_tune.comparison.compare import compare, compare_space
from lawn_tune.comparison.comparison import Comparison
from tests.helpers.memory_source import MemorySource, confirm_rows, demo_source, make_cell, search_rows, with_protocol
from tests.helpers.pair_source import confirmed


@pytest.fixture(scope="module")
def source() -> MemorySource:
    return demo_source(epochs=30)


@pytest.fixture(scope="module")
def comparison(source: MemorySource) -> Comparison:
    return compare_space(source, "movielens_100k")


def test_lines_over_batch_sizes_are_the_estimates(comparison: Comparison) -> None:
    info = batch_size_info(comparison)
    assert [line.optimizer for line in info.lines] == ["adam", "adam-lawn", "lamb", "lamb-lawn"]
    assert (info.metric, info.unit) == ("HR@10", "%")
    for line in info.lines:
        assert line.batch_sizes == (1_000, 10_000, 100_000)
        for i, size in enumerate(line.batch_sizes):
            result = comparison.cell(line.optimizer, size)
            assert result is not None
            assert result.estimate is not None
            estimate = result.estimate
            assert (line.means[i], line.errors[i], line.counts[i], line.phases[i]) == (
                estimate.mean,
                estimate.error,
                estimate.n,
                estimate.phase,
            )


def test_a_cell_without_a_value_has_no_point_and_a_method_without_values_no_line() -> None:
    adam, lawn = make_cell("adam", 16), make_cell("adam-lawn", 64)
    info = batch_size_info(compare([adam, lawn], search_rows(adam, [1.0] * 9), {}))
    assert [(line.optimizer, line.batch_sizes) for line in info.lines] == [("adam", (16,))]


def test_a_grid_holds_every_point_once_in_its_place() -> None:
    """Levels are drawn from low to high, in whatever order the file or `--extend` has them."""
    cell = make_cell(warmups=(2.0, 1.0), lrs=(0.01, 0.1, 1.0, 0.001))
    values = [float(i) for i in range(cell.grid.size)]
    (info,) = heat_map_infos(compare([cell], search_rows(cell, values), {}))
    assert (info.x, info.y) == ("peak_lr", "weight_decay")
    assert [panel.label for panel in info.panels] == ["warm-up epochs 1", "warm-up epochs 2"]
    assert info.x_levels == (0.001, 0.01, 0.1, 1.0)
    for i in range(cell.grid.size):
        point = cell.grid.point(i)
        panel = info.panels[(1.0, 2.0).index(point["warmup_epochs"])]
        row, column = info.y_levels.index(point["weight_decay"]), info.x_levels.index(point["peak_lr"])
        assert panel.values[row][column] == values[i]
    assert info.winner is not None
    assert info.panels[info.winner.panel].values[info.winner.row][info.winner.column] == max(values)
    assert info.edges == ("peak_lr", "warmup_epochs", "weight_decay")


def test_a_grid_distinguishes_diverged_from_untrained_and_has_no_winner_without_values() -> None:
    cell = make_cell("adam-lawn")
    (info,) = heat_map_infos(compare([cell], search_rows(cell, ["diverged"] * 9)[:4], {}))
    statuses = [status for row in info.panels[0].statuses for status in row]
    assert (statuses.count("diverged"), statuses.count("missing"), info.winner) == (4, 5, None)
    assert info.y == "free_epochs"
    assert info.low < info.high


def test_all_cells_of_a_batch_size_share_their_colors(comparison: Comparison) -> None:
    infos = heat_map_infos(comparison)
    assert len(infos) == 12
    for size in comparison.batch_sizes:
        ranges = {(info.low, info.high) for info in infos if info.batch_size == size}
        assert len(ranges) == 1
        best = max(
            v for info in infos if info.batch_size == size for p in info.panels for r in p.values for v in r if v
        )
        assert ranges.pop()[1] == best


def test_curves_are_mean_lowest_and_highest_of_the_winners_runs(source: MemorySource, comparison: Comparison) -> None:
    infos = curve_infos(comparison, source.curves(curve_keys(comparison)))
    assert [info.batch_size for info in infos] == [1_000, 10_000, 100_000]
    result = comparison.cell("adam-lawn", 1_000)
    assert result is not None
    assert result.estimate is not None
    runs = np.stack([source.series[key]["test/hr@10"] for key in result.estimate.keys.values()])
    curve = next(curve for curve in infos[0].curves if curve.optimizer == "adam-lawn")
    assert (curve.n, curve.phase, curve.switch) == (10, "confirm", 5.0)
    assert curve.epochs == tuple(range(1, 31))
    assert curve.metric == pytest.approx(runs.mean(axis=0))
    assert curve.lowest == pytest.approx(runs.min(axis=0))
    assert curve.highest == pytest.approx(runs.max(axis=0))
    assert next(curve for curve in infos[0].curves if curve.optimizer == "adam").switch is None


@pytest.mark.parametrize(("epochs", "expected"), [((2.0, 4.0), 3.0), ((2.0, math.nan), None)])
def test_a_winner_that_switches_by_itself_is_marked_at_the_mean_of_its_runs(
    epochs: tuple[float, ...], expected: float | None
) -> None:
    cell = with_protocol(make_cell("adam-lawn", frees=(-4.0, 1.0, 2.0)), confirm_seeds=(1, 2))
    source = confirmed(cell, [150, 151], best=0)
    comparison = compare_space(source, cell.name.space)
    keys = curve_keys(comparison)
    curves = {
        key: {
            "test/accuracy": np.ones(20),
            "train_loss": np.full(20, i),
            "switch_epoch": np.array([math.nan] * 4 + [epoch] * 16),
        }
        for i, (key, epoch) in enumerate(zip(keys, epochs, strict=True))
    }
    (info,) = curve_infos(comparison, curves)
    assert [curve.switch for curve in info.curves] == [expected]
    assert info.curves[0].loss == (0.5,) * 20


def test_an_unconfirmed_winner_shows_its_search_curves(source: MemorySource, comparison: Comparison) -> None:
    infos = curve_infos(comparison, source.curves(curve_keys(comparison)))
    curve = next(curve for curve in infos[-1].curves if curve.optimizer == "lamb")
    assert (curve.phase, curve.n) == ("search", 2)


def small(curve: list[float], epochs: int) -> tuple[Comparison, dict[str, dict[str, np.ndarray]]]:
    cell = with_protocol(make_cell(epochs=epochs), full_epochs=epochs)
    rows = search_rows(cell, [2.0, *[1.0] * 8]) + confirm_rows(cell, cell.grid.point(0), [1.0, 2.0, None])
    comparison = compare([cell], rows, {})
    return comparison, {key: {"test/accuracy": np.array(curve)} for key in curve_keys(comparison)}


def test_gaps_stay_gaps_and_missing_margins_are_none() -> None:
    comparison, curves = small([1.0, float("nan"), 3.0], 3)
    (info,) = curve_infos(comparison, curves)
    assert info.curves[0].metric == (1.0, None, 3.0)
    assert info.curves[0].margin == (None, None, None)


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    comparison, curves = small([float(i) for i in range(5_000)], 5_000)
    (info,) = curve_infos(comparison, curves)
    epochs = info.curves[0].epochs
    assert len(epochs) <= CURVE_POINTS
    assert (epochs[0], epochs[-1]) == (1, 5_000)
    assert info.curves[0].metric == tuple(float(epoch - 1) for epoch in epochs)


def test_runs_of_different_length_are_compared_over_the_shortest() -> None:
    comparison, curves = small([1.0, 2.0, 3.0], 3)
    first = next(iter(curves))
    curves[first] = {"test/accuracy": np.array([5.0, 6.0])}
    (info,) = curve_infos(comparison, curves)
    assert info.curves[0].metric == (3.0, 4.0)


def test_without_curves_there_is_no_figure(comparison: Comparison) -> None:
    assert curve_infos(comparison, {}) == ()
