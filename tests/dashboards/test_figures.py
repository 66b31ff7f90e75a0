"""Figures draw without complaint, in the style of the house, and escape what they print."""

from __future__ import annotations

import json
import math
from itertools import combinations
from typing import Any

import pytest
from plotly.offline import get_plotlyjs_version

from dashboards import style
from dashboards.figures.base import plain, plotly_js
from dashboards.figures.batch_curves import batch_curves, batch_curves_figure
from dashboards.figures.batch_size import BatchSizeInfo, batch_size_figure, batch_size_info
from dashboards.figures.figure_of_merit import measures
from dashboards.figures.forest import forest_figure, forest_info
from dashboards.figures.heat_map import heat_map_figure, heat_map_infos
from dashboards.figures.learning_curves import curve_figure, curve_infos, curve_keys
from dashboards.figures.panels import log_range
from lawn_tune.comparison.compare import compare, compare_space
from tests.helpers.contrast import contrast
from tests.helpers.memory_source import demo_source, make_cell, search_rows
from trainables.catalogue.methods import METHODS, RULES


@pytest.fixture(scope="module")
def figures() -> dict[str, dict[str, Any]]:
    """Every kind of figure of the demo, as JSON values."""
    source = demo_source(epochs=30)
    comparison = compare_space(source, "movielens_100k")
    curves = source.curves(curve_keys(comparison))
    return {
        "sizes": plain(batch_size_figure(batch_size_info(comparison))),
        "differences": plain(forest_figure(forest_info(comparison.pairs))),
        "grid": plain(heat_map_figure(heat_map_infos(comparison)[-4])),
        "curves": plain(curve_figure(curve_infos(comparison, curves)[0])),
    }


def test_every_figure_has_traces_titles_and_a_height(figures: dict[str, dict[str, Any]]) -> None:
    for name, figure in figures.items():
        assert figure["data"], name
        assert figure["layout"]["height"] > 100, name
        assert any(
            axis.get("title", {}).get("text")
            for key, axis in figure["layout"].items()
            if key.startswith(("xaxis", "yaxis"))
        ), name
        json.dumps(figure, allow_nan=False)


def test_the_drawing_library_is_of_the_version_that_figures_are_written_for() -> None:
    assert f"v{get_plotlyjs_version()}\n" in plotly_js()[:200], "replace dashboards/assets/plotly-cartesian-*.min.js"


def test_hover_texts_carry_the_n(figures: dict[str, dict[str, Any]]) -> None:
    for trace in figures["sizes"]["data"]:
        assert all("n = " in text for text in trace["hovertext"] if text)


def test_unconfirmed_values_have_open_markers_and_no_bar(figures: dict[str, dict[str, Any]]) -> None:
    lamb = next(trace for trace in figures["sizes"]["data"] if trace["name"] == "LAMB")
    assert lamb["marker"]["symbol"] == ["square", "square", "square", "square-open"]
    assert [error > 0 for error in lamb["error_y"]["array"]] == [True, True, False, False]


def test_no_line_joins_a_search_value_to_a_test_value(figures: dict[str, dict[str, Any]]) -> None:
    source = demo_source(epochs=5)
    comparison = compare_space(source, "movielens_100k")
    rows, measure = {row.key: row for row in source.rows}, measures(source.planned)[0]
    curves = plain(batch_curves_figure(batch_curves(comparison.cells, measure, "confirm", rows)))
    for figure in (figures["sizes"], curves):
        lamb = next(trace for trace in figure["data"] if trace.get("name") == "LAMB")
        assert [value is None for value in lamb["y"]] == [False, False, True, False], "a gap before the search value"
        assert lamb["marker"]["symbol"][-1].endswith("-open")
        assert len(lamb["x"]) == len(lamb["hovertext"]) == len(lamb["error_y"]["array"]) == 4


def test_diverged_points_are_crossed_and_the_winner_is_framed(figures: dict[str, dict[str, Any]]) -> None:
    signs = [text for trace in figures["grid"]["data"] for text in trace.get("text", []) if isinstance(text, str)]
    assert signs.count("×") == 3
    assert [shape["line"]["dash"] for shape in figures["grid"]["layout"]["shapes"]] == ["4px,3px"]
    assert "peak_lr" in figures["grid"]["layout"]["title"]["subtitle"]["text"]


def test_the_switch_is_marked_on_all_panels_of_lawn_only(figures: dict[str, dict[str, Any]]) -> None:
    diamonds = [t for t in figures["curves"]["data"] if t.get("marker", {}).get("symbol") == "diamond"]
    assert sorted((t["legendgroup"], t["yaxis"]) for t in diamonds) == [
        (name, axis) for name in ("adam-lawn", "lamb-lawn") for axis in ("y", "y2", "y3")
    ]


def test_names_cannot_bring_tags_into_a_figure() -> None:
    evil = "<b onmouseover=x>"
    line = batch_size_info(compare_space(demo_source(epochs=5), "movielens_100k")).lines[0]
    figure = batch_size_figure(BatchSizeInfo(evil, evil, 2, (line._replace(optimizer=evil),)))
    assert "<b onmouse" not in json.dumps(plain(figure)).lower()


def test_a_single_batch_size_has_half_a_decade_on_each_side() -> None:
    cells = [make_cell(name, 256) for name in ("adam", "adam-lawn")]
    rows = [row for cell in cells for row in search_rows(cell, [50.0] * 9)]
    figure = plain(batch_size_figure(batch_size_info(compare(cells, rows, {}))))
    low, high = figure["layout"]["xaxis"]["range"]
    assert (10**low, 10**high) == pytest.approx((256 / 10**0.5, 256 * 10**0.5))
    drawn = [math.log10(x) for trace in figure["data"] for x in trace["x"]]
    assert len(drawn) == len(set(drawn)) == 2
    assert all(low + 0.4 < x < high - 0.4 for x in drawn)
    assert log_range([10, 1_000]) == pytest.approx([0.84, 3.16])


def test_empty_and_single_figures_draw() -> None:
    batch_size_figure(BatchSizeInfo("accuracy", "%", 2, ()))
    cell = make_cell()
    comparison = compare([cell], search_rows(cell, ["diverged"] * 9), {})
    heat_map_figure(heat_map_infos(comparison)[0])
    one = compare([cell], search_rows(cell, [50.0] * 9), {})
    assert len(plain(batch_size_figure(batch_size_info(one)))["data"]) == 1


# --- style -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", METHODS)
def test_every_method_is_seen_on_both_pages(optimizer: str) -> None:
    assert contrast(style.color(optimizer), "#ffffff") >= 3
    assert contrast(style.color(optimizer), "#15181d") >= 3


def test_ink_is_read_on_every_color_of_the_heat_map() -> None:
    for theme, scale in style.SCALE.items():
        assert all(contrast(style.ON_SCALE[theme], color) >= 4.5 for _, color in scale)


PAIRS = [(row.baseline, row.name) for row in METHODS.values() if row.baseline and not row.color]


@pytest.mark.parametrize(("base", "lawn"), PAIRS)
def test_a_pair_shares_its_color_and_differs_in_line_and_marker(base: str, lawn: str) -> None:
    assert style.color(base) == style.color(lawn)
    assert (style.dash(base), style.dash(lawn)) == ("6px,4px", "solid")
    assert style.symbol(base, confirmed=True) != style.symbol(lawn, confirmed=True)


def test_methods_have_different_looks() -> None:
    looks = [(style.color(name), style.dash(name), style.symbol(name, confirmed=True)) for name in METHODS]
    assert len(set(looks)) == len(METHODS)
    assert all(style.color(one) != style.color(other) for one, other in combinations(RULES, 2))


def test_nothing_offers_to_upload_a_figure() -> None:
    assert style.CONFIG["showSendToCloud"] is False
    assert style.CONFIG["displaylogo"] is False
