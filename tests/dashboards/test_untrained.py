"""What needs no training, in figures and report: a line among the methods' values, or a note that moves no axis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import pytest

from dashboards.figures.base import blank, plain
from dashboards.figures.batch_curves import batch_curves, batch_curves_figure
from dashboards.figures.batch_size import batch_size_figure, batch_size_info
from dashboards.figures.figure_of_merit import measures
from dashboards.figures.untrained import draw_levels
from dashboards.report import report
from dashboards.web.side_table import space_table
from lawn_tune.comparison.compare import compare_space
from tests.helpers.memory_source import MemorySource
from tests.helpers.reference_space import SPACE, reference_space


def of_report(source: MemorySource, key: str) -> dict[str, Any]:
    return plain(batch_size_figure(batch_size_info(compare_space(source, SPACE))))


def of_page(source: MemorySource, key: str) -> dict[str, Any]:
    comparison, rows = compare_space(source, SPACE), {row.key: row for row in source.rows}
    measure = next(m for m in measures(source.planned) if m.key == key)
    return plain(batch_curves_figure(batch_curves(comparison.cells, measure, "confirm", rows, comparison.references)))


@pytest.mark.parametrize("figure", [of_report, of_page])
@pytest.mark.parametrize(("value", "sign"), [(50.0, ""), (45.3146, " ↓"), (80.0, " ↑")])
def test_a_value_is_a_line_or_a_note_and_never_a_point(figure: Any, value: float, sign: str) -> None:
    without, found = (figure(reference_space([values]), "last/hr@10") for values in ({}, {"hr@10": value}))
    layout = found["layout"]
    assert [note["text"] for note in layout["annotations"]] == [f"ItemPop {value:.2f}{sign}"]
    assert [shape["y0"] for shape in layout.get("shapes", [])] == ([] if sign else [value])
    assert "annotations" not in without["layout"]
    assert len(found["data"]) == len(without["data"])


def test_a_label_covers_no_point_and_no_error_bar() -> None:
    figure = blank(height=420)
    figure.update_xaxes(type="log", range=[3.9, 5.1])
    figure.add_trace(go.Scatter(x=[1e4, 1e5], y=[62.0, 44.0], error_y={"array": [0.2, 10.0]}))
    figure.add_trace(go.Scatter(x=[1e4, 1e5], y=[39.6, 38.6]))
    for free, level in (("left", 40.62), ("right", 60.0)):
        figure.layout.annotations = ()
        draw_levels(figure, [("ItemPop", level)], [62.0, 44.0, 39.6, 38.6], 2)
        (note,) = figure.layout.annotations
        assert (note.xanchor, note.y) == (free, level)
    assert note.yanchor == "top"


def test_another_measure_shows_its_own_value() -> None:
    source = reference_space([{"hr@10": 45.0, "ndcg@10": 25.0}])
    source.rows = [replace(row, summary=dict(row.summary) | {"last/validation/ndcg@10": 40.0}) for row in source.rows]
    notes = of_page(source, "last/ndcg@10")["layout"].get("annotations", [])
    assert [note["text"] for note in notes] == ["ItemPop 25.00 ↓"]


def test_the_report_and_the_table_of_the_page_say_it() -> None:
    source = reference_space([{"hr@10": 45.3146}])
    comparison = compare_space(source, SPACE)
    html = report(source, comparison)
    assert html.count('<th scope="row">ItemPop</th>') == 1
    assert any(fact.startswith("ItemPop: ") and "45.31" in fact for fact in space_table(comparison).facts)
