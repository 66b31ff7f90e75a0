"""The figures of the page that compares: they draw their numbers, and nothing that a name could inject."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dashboards.figures.base import plain
from dashboards.figures.batch_curves import batch_curves, batch_curves_figure
from dashboards.figures.figure_of_merit import measures
from dashboards.figures.forest import ForestInfo, forest_figure, forest_info, forest_summary
from dashboards.figures.performance_profile import ProfileInfo, ProfileLine, profile_figure
from dashboards.figures.svg import svg
from dashboards.figures.window import Ends, window
from lawn_tune.comparison.compare import compare_space
from lawn_tune.comparison.comparison import Comparison, PairResult, Verdict
from tests.helpers.memory_source import MemorySource, demo_source, make_cell, search_rows

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def source() -> MemorySource:
    return demo_source(epochs=30)


@pytest.fixture(scope="module")
def comparison(source: MemorySource) -> Comparison:
    return compare_space(source, "movielens_100k")


@pytest.fixture(scope="module")
def info(comparison: Comparison) -> ForestInfo:
    return forest_info(comparison.pairs)


def points(figure: dict[str, Any], symbol: str) -> list[tuple[int, float]]:
    """(row, x) of every marker of a symbol, in the order of rows."""
    traces = [trace for trace in figure["data"] if trace["marker"]["symbol"] == symbol]
    return sorted((y, x) for trace in traces for x, y in zip(trace["x"], trace["y"], strict=True))


def test_a_forest_fills_what_is_separable_and_opens_the_rest(info: ForestInfo) -> None:
    figure = plain(forest_figure(info))
    rows = list(enumerate(info.rows))
    settled = [(i, row.mean) for i, row in rows if row.tone in ("better", "worse")]
    assert points(figure, "circle") == settled
    assert points(figure, "circle-open") == [(i, r.mean) for i, r in rows if r.confirmed and (i, r.mean) not in settled]
    assert points(figure, "diamond-open") == [(i, row.mean) for i, row in rows if not row.confirmed]
    assert points(figure, "diamond") == [(i, row.paper) for i, row in rows if row.paper is not None]
    assert settled


def test_intervals_end_where_the_numbers_show(info: ForestInfo) -> None:
    drawn = {}
    for trace in plain(forest_figure(info))["data"]:
        if "error_x" in trace:
            bars = trace["error_x"]["arrayminus"], trace["error_x"]["array"]
            for x, y, minus, plus in zip(trace["x"], trace["y"], *bars, strict=True):
                drawn[y] = (x - minus, x + plus)
    expected = {i: (row.low, row.high) for i, row in enumerate(info.rows) if row.low is not None}
    assert drawn.keys() == expected.keys() != set()
    for i, ends in expected.items():
        assert drawn[i] == pytest.approx(ends)


def test_the_axis_holds_all_that_is_drawn_and_zero(info: ForestInfo) -> None:
    low, high = plain(forest_figure(info))["layout"]["xaxis"]["range"]
    drawn = [x for row in info.rows for x in (row.low, row.high, row.mean, row.paper, 0.0) if x is not None]
    assert low < min(drawn)
    assert high > max(drawn)


def test_a_collapsed_pair_leaves_the_axis_by_an_arrow_and_the_others_stay_readable(info: ForestInfo) -> None:
    row = next(row for row in info.rows if row.confirmed)
    small = [row._replace(mean=mean, low=mean - 1.5, high=mean + 1.5, paper=3.0) for mean in (1.0, -1.0, 1.4)]
    wide = row._replace(mean=-20.17, low=-53.38, high=13.04)
    info = info._replace(rows=(*small, wide, row._replace(mean=60.0, low=59.5, high=60.5)))
    figure = plain(forest_figure(info))
    low, high = figure["layout"]["xaxis"]["range"]
    assert (low, high) == pytest.approx((-2.5 - 0.08 * 5.5, 3.0 + 0.08 * 5.5))
    texts = [note["text"] for note in figure["layout"]["annotations"]]
    assert [text for text in texts if "mean" in text] == ["mean −20.17", "mean +60.00"]
    arrows = {
        (y, symbol)
        for trace in figure["data"]
        if isinstance(trace["marker"]["symbol"], list)
        for x, y, symbol in zip(trace["x"], trace["y"], trace["marker"]["symbol"], strict=True)
        if low < x < high
    }
    assert arrows == {(3, "triangle-left"), (3, "triangle-right"), (4, "triangle-right")}
    for number in ("−53.38 to +13.04", "+59.50 to +60.50"):
        assert number in forest_summary(info)
    assert svg(forest_figure(info), "").count('<path d="M-5 0') == 1


@pytest.mark.parametrize(
    ("spans", "ends"),
    [
        ([], (0, 0)),
        ([(2, 4), (-3, 1)], (-3, 4)),
        ([(0, 0), (5, 5)], (0, 5)),
        ([(59, 61), (60, 62)], (0, 62)),
        ([(100, 101), (-4, 4)], (-4, 101)),
        ([(0.1, 0.3), (-40, 40)], (-0.15, 0.3)),
        ([(-0.8, -0.2), (-40, 40)], (-0.8, 0.4)),
        ([(0.5, 1.5), (0.6, 1.5), (80, 81)], (0, 1.5)),
    ],
)
def test_an_axis_holds_zero_and_most_intervals(spans: list[Ends], ends: Ends) -> None:
    air = 0.1 * (ends[1] - ends[0]) or 1.0
    assert window(spans, [], air=0.1) == pytest.approx((ends[0] - air, ends[1] + air))


def test_an_axis_shows_the_mean_of_an_interval_that_leaves_it_if_it_is_not_farther_than_the_rest() -> None:
    spans = [(0.0, 2.0), (19.0, 28.0), (0.5, 3.0), (-53.0, 13.0), (-90.0, 10.0)]
    assert window(spans, [1.0, 23.0, 1.5, -20.0, -40.0], air=0.25) == (-32.0, 40.0)


def test_each_row_is_labelled_with_its_verdict(info: ForestInfo) -> None:
    labels = plain(forest_figure(info))["layout"]["yaxis"]["ticktext"]
    assert len(labels) == len(info.rows)
    for label, row in zip(labels, info.rows, strict=True):
        assert f"batch {row.batch_size:,}" in label
        assert row.short in label


def test_several_challengers_of_one_baseline_are_told_apart(info: ForestInfo) -> None:
    first = info.rows[0]
    rows = tuple(first._replace(lawn=name) for name in ("adam-lawn", "adam-cpr", "adamp"))
    labels = plain(forest_figure(info._replace(rows=rows)))["layout"]["yaxis"]["ticktext"]
    assert len(set(labels)) == len(rows)


def test_a_pair_without_a_mean_is_shown_in_words(info: ForestInfo) -> None:
    row = info.rows[0]._replace(mean=None, low=None, high=None, verdict=Verdict.NEITHER, tone="none", paper=None)
    figure = plain(forest_figure(info._replace(rows=(row,))))
    assert "both diverged everywhere" in [note["text"] for note in figure["layout"]["annotations"]]
    assert all(not trace["x"] for trace in figure["data"])


def test_where_lower_is_better_the_sides_are_swapped(info: ForestInfo) -> None:
    for maximize, right in ((True, "LAWN →"), (False, "weight decay →")):
        notes = plain(forest_figure(info._replace(maximize=maximize)))["layout"]["annotations"]
        assert right in [note["text"] for note in notes]


def test_spaces_are_named_once_each_and_escaped(info: ForestInfo) -> None:
    other = tuple(row._replace(space=EVIL, sentence=EVIL) for row in info.rows)
    figure = plain(forest_figure(info._replace(rows=(*info.rows, *other))))
    labels = figure["layout"]["yaxis"]["ticktext"]
    assert sum("movielens_100k" in label for label in labels) == 1
    assert sum("&lt;img" in label for label in labels) == 1
    assert "<img" not in str(figure)


def test_curves_draw_ours_and_the_papers(source: MemorySource, comparison: Comparison) -> None:
    rows = {row.key: row for row in source.trials(comparison.space)}
    numbers = batch_curves(comparison.cells, measures([r.cell for r in comparison.cells])[0], "confirm", rows)
    figure = plain(batch_curves_figure(numbers))
    ours = [t for t in figure["data"] if t.get("showlegend") is not False and t["x"] != [None]]
    paper = [t for t in figure["data"] if t.get("showlegend") is False]
    assert [t["name"] for t in ours] == ["Adam", "Adam-LAWN", "LAMB", "LAMB-LAWN"]
    for trace, curve in zip(ours, numbers.curves, strict=True):
        drawn = [i for i, value in enumerate(trace["y"]) if value is not None]
        assert [trace["y"][i] for i in drawn] == [point.value.mean for point in curve.points]
        assert [trace["error_y"]["array"][i] for i in drawn] == [point.value.error or 0 for point in curve.points]
    for trace, curve in zip(paper, numbers.curves, strict=True):
        assert trace["y"] == [value.mean for value in curve.paper]
        assert trace["opacity"] < 1
        assert "paper, Table 4" in trace["hovertext"][0]
    assert {o["line"]["color"] for o in ours} == {p["line"]["color"] for p in paper}
    assert figure["layout"]["xaxis"]["tickvals"] == [1_000, 10_000, 100_000, 400_000]
    without = replace_paper(numbers)
    assert [t["name"] for t in plain(batch_curves_figure(without))["data"]] == [t["name"] for t in ours]


def test_a_forest_s_summary_calls_no_range_of_means_an_interval(info: ForestInfo) -> None:
    text = forest_summary(info)
    assert "Means of LAWN − weight decay: " in text
    assert "neither is better" not in text
    one = info._replace(rows=tuple(row for row in info.rows if row.tone == "open")[:1])
    assert forest_summary(one).startswith("One pair: neither is shown to be better. Mean of LAWN − weight decay: ")


def test_search_values_stand_without_the_papers_test_values(source: MemorySource, comparison: Comparison) -> None:
    rows = {row.key: row for row in source.trials(comparison.space)}
    measure = measures([r.cell for r in comparison.cells])[0]
    searched = batch_curves(comparison.cells, measure, "search", rows)
    assert searched.split == "validation"
    assert (searched.paper, [curve.paper for curve in searched.curves if curve.paper]) == ("", [])
    assert all("error_y" not in trace for trace in plain(batch_curves_figure(searched))["data"])
    alone = [row for row in forest_info(search_only(source)).rows if row.mean is not None]
    assert alone
    assert {row.paper for row in alone} == {None}


def search_only(source: MemorySource) -> tuple[PairResult, ...]:
    found = [row for row in source.rows if row.phase == "search"]
    return compare_space(MemorySource(planned=source.planned, rows=found, series=source.series), "movielens_100k").pairs


def replace_paper(numbers: Any) -> Any:
    return numbers._replace(curves=tuple(curve._replace(paper=()) for curve in numbers.curves))


@pytest.mark.parametrize(
    ("sizes", "ticks"),
    [((64, 1_000, 400_000, 1_000_000), ["64", "1k", "400k", "1M"]), ((256, 1_024, 10_000), ["256", "1,024", "10,000"])],
)
def test_batch_sizes_are_written_in_one_way(sizes: tuple[int, ...], ticks: list[str]) -> None:
    source = MemorySource()
    for size in sizes:
        cell = make_cell("adam", size)
        source.planned.append(cell)
        source.rows += search_rows(cell, [50.0] * 9)
    found = compare_space(source, "digits")
    rows = {row.key: row for row in source.rows}
    numbers = batch_curves(found.cells, measures(source.planned)[0], "confirm", rows)
    axis = plain(batch_curves_figure(numbers))["layout"]["xaxis"]
    assert (axis["tickvals"], axis["ticktext"]) == (list(sizes), ticks)


def test_a_profile_is_drawn_as_steps_from_zero_to_the_end() -> None:
    lines = (ProfileLine("adam", (0.5, 2.0), (0.25, 0.75), 4), ProfileLine("adam-lawn", (0.0,), (1.0,), 4))
    figure = plain(profile_figure(ProfileInfo(lines, 4, 0)))
    last = figure["layout"]["xaxis"]["range"][1]
    assert last > 2.0
    for trace, (x, y) in zip(
        figure["data"], (([0, 0.5, 2, last], [0, 0.25, 0.75, 0.75]), ([0, 0, last], [1, 1, 1])), strict=True
    ):
        assert (trace["x"], trace["y"], trace["line"]["shape"]) == (x, y, "hv")


def test_names_of_a_comparison_never_become_tags(comparison: Comparison) -> None:
    cells = [replace(result.cell, name=replace(result.cell.name, optimizer=EVIL)) for result in comparison.cells[:1]]
    hostile = replace(comparison.cells[0], cell=cells[0])
    numbers = batch_curves([hostile], measures(cells)[0], "confirm", {})
    lines = (ProfileLine(EVIL, (0.0,), (1.0,), 3),)
    for figure in (batch_curves_figure(numbers), profile_figure(ProfileInfo(lines, 3, 0))):
        assert "<img" not in str(plain(figure))
