"""A report stays small however large the study is: what is left out is stated, and the best is always there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.figures.base import plotly_js
from dashboards.figures.heat_map import HeatMapInfo, heat_map_info
from dashboards.figures.heat_map_part import fewer
from dashboards.report import report
from dashboards.report.html_page import limits_of, packed
from lawn_tune.comparison.compare import compare_space
from tests.helpers.memory_source import MemorySource, make_cell, search_rows

MAX_BYTES = 1_000_000
LIBRARY = packed(plotly_js())
LEVELS = st.integers(1, 12)


def study(*sides: int) -> MemorySource:
    """Two rivals with a grid of the given number of learning rates, warm-ups and third levels, all trained."""
    lrs, warmups, thirds = (tuple(float(i + 1) for i in range(side)) for side in sides)
    source = MemorySource()
    for optimizer in ("adam", "adam-lawn"):
        cell = make_cell(optimizer, lrs=lrs, warmups=warmups, decays=thirds, frees=thirds, epochs=100)
        values = np.random.default_rng(len(optimizer)).uniform(50, 99, cell.grid.size)
        source.planned.append(cell)
        source.rows += search_rows(cell, values.tolist())
    return source


def size(source: MemorySource) -> int:
    """Returns the bytes of a report without the drawing library."""
    return len(report(source, compare_space(source, "digits")).encode()) - len(LIBRARY)


@pytest.mark.long
def test_doubling_a_large_grid_adds_less_than_a_tenth() -> None:
    half, whole = size(study(30, 10, 25)), size(study(30, 20, 25))  # 15,000 and 30,000 trials
    assert whole < 1.1 * half
    assert whole < MAX_BYTES - len(LIBRARY)


@pytest.mark.parametrize("cells", [1, 2, 6, 12, 36, 80])
def test_shares_of_the_limits_sum_to_what_a_file_may_hold(cells: int) -> None:
    limits = limits_of(cells)
    assert cells * limits.grid <= max(12_000, 64 * cells)
    assert cells * limits.epochs <= max(4_000, 30 * cells)
    assert 6 <= limits.marks <= 12


def shown(info: HeatMapInfo) -> int:
    return len(info.panels) * len(info.x_levels) * len(info.y_levels)


@settings(max_examples=60)
@given(st.tuples(LEVELS, LEVELS, LEVELS), st.integers(4, 300))
def test_a_grid_is_cut_around_its_best(sides: Sequence[int], limit: int) -> None:
    source = study(*sides)
    comparison = compare_space(source, "digits")
    whole = heat_map_info(comparison, comparison.cells[0])
    cut = fewer(whole, limit)
    assert shown(cut) + cut.hidden == shown(whole)
    assert cut.hidden == 0 or shown(cut) <= limit
    if shown(whole) <= limit:
        assert cut == whole
    assert whole.winner is not None
    assert cut.winner is not None
    for info in (whole, cut):
        assert info.winner is not None
        panel = info.panels[info.winner.panel]
        values = [value for row in panel.values for value in row if value is not None]
        assert panel.values[info.winner.row][info.winner.column] == max(values)
    assert cut.panels[cut.winner.panel].label == whole.panels[whole.winner.panel].label
    assert cut.x_levels[cut.winner.column] == whole.x_levels[whole.winner.column]
    assert cut.y_levels[cut.winner.row] == whole.y_levels[whole.winner.row]
