"""Laws of figures as SVG: numbers at their places, well-formed and inert whatever is drawn, the same bytes again."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import plotly.graph_objects as go
import pytest

from dashboards import cli
from dashboards.figures.base import blank
from dashboards.figures.batch_size import batch_size_figure, batch_size_info
from dashboards.figures.forest import forest_figure, forest_info
from dashboards.figures.learning_curves import curve_keys
from dashboards.figures.main_figures import main_figures
from dashboards.figures.svg import WIDTH, svg
from dashboards.report import illustrated
from lawn_tune.comparison.compare import compare_space
from lawn_tune.errors import UsageError
from tests.helpers.memory_source import MemorySource, demo_source

SPACE = "movielens_100k"
TAG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def source() -> MemorySource:
    return demo_source(epochs=300)


@pytest.fixture(scope="module")
def drawn(source: MemorySource) -> dict[str, str]:
    comparison = compare_space(source, SPACE)
    curves = source.curves(curve_keys(comparison))
    return {found.name: svg(found.figure, found.alt) for found in main_figures(comparison, curves, 75)}


def places(text: str) -> list[tuple[float, float]]:
    """Returns where the markers of a figure are, in the order of its traces."""
    return [(float(x), float(y)) for x, y in re.findall(r'translate\(([-\d.]+) ([-\d.]+)\)" fill="[^"]*" stroke', text)]


def test_every_main_figure_is_drawn_well_formed_and_the_same_again(source: MemorySource, drawn: dict[str, str]) -> None:
    assert list(drawn) == ["differences", "sizes", "curve-1000", "curve-10000", "curve-100000"]
    for text in drawn.values():
        root = ElementTree.fromstring(text)
        assert root.get("width") == str(WIDTH)
        assert {node.tag.removeprefix(TAG) for node in root.iter()} <= {
            "svg", "title", "rect", "clipPath", "g", "path", "circle", "text", "tspan"
        }  # fmt: skip
        assert "href" not in text
        assert "nan" not in text
    _, again = illustrated(source, compare_space(source, SPACE), "figures")
    assert again == {f"{name}.svg": text for name, text in drawn.items()}


def test_differences_and_their_intervals_are_drawn_to_scale(source: MemorySource, drawn: dict[str, str]) -> None:
    info = forest_info(compare_space(source, SPACE).pairs)
    figure = forest_figure(info)
    means = [mean for trace in figure.data for mean in trace.x]
    found = places(drawn["differences"])
    assert len(found) == len(means) == len(info.rows) + sum(row.paper is not None for row in info.rows)
    low, high = min(range(len(means)), key=means.__getitem__), max(range(len(means)), key=means.__getitem__)
    scale = (found[high][0] - found[low][0]) / (means[high] - means[low])
    for mean, (x, _) in zip(means, found, strict=True):
        assert x - found[low][0] == pytest.approx(scale * (mean - means[low]), abs=0.11)
    whiskers = re.findall(r"M([\d.]+) [\d.]+V[\d.]+M([\d.]+) ", drawn["differences"])
    widths = sorted(float(right) - float(left) for left, right in whiskers)
    assert widths == pytest.approx(
        sorted(scale * (row.high - row.low) for row in info.rows if row.high is not None and row.low is not None),
        abs=0.3,
    )


def test_sizes_are_apart_by_their_ratio_and_no_line_joins_a_search_value(source: MemorySource) -> None:
    info = batch_size_info(compare_space(source, SPACE))
    text = svg(batch_size_figure(info), "")
    adam = places(text)[:3]
    steps = [right[0] - left[0] for left, right in pairwise(adam)]
    assert steps[0] == pytest.approx(steps[1], abs=0.2)
    lines = re.findall(r'<path d="(M[^"]*)" fill="none" stroke="#\w+" stroke-width="2"', text)
    assert sum(line.count("L") for line in lines) == 2 + 2 + 1 + 2, "LAMB is unconfirmed at its third size"


def test_no_text_becomes_markup() -> None:
    figure = blank(height=200)
    figure.add_trace(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", name="&lt;script&gt;", line={"color": "#000"}))
    figure.data[0].line.update(width=1, dash="solid")
    figure.update_xaxes(title_text="x")
    figure.update_yaxes(title_text="y")
    root = ElementTree.fromstring(svg(figure, "</title><script>"))
    assert [node.text for node in root.iter(f"{TAG}title")] == ["</title><script>"]
    assert any(node.text == "<script>" for node in root.iter(f"{TAG}text"))
    figure.data[0].name = "<script>alert(1)</script>"
    with pytest.raises(KeyError):
        svg(figure, "")


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="got heatmap"):
        svg(go.Figure(go.Heatmap(z=[[1]]), layout={"height": 100}), "")


def test_a_report_as_markdown_shows_its_figures(
    source: MemorySource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text, figures = illustrated(source, compare_space(source, SPACE), "a folder")
    links = re.findall(r"!\[.*\]\(a%20folder/(.*)\)", text)
    assert links == list(figures)


def test_figures_are_those_of_markdown() -> None:
    with pytest.raises(UsageError, match="--figures"):
        cli.report(SPACE, figures=Path("figures"))
