"""Grids: size, the bijection between numbers and points, and edges."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.space import Grid

LEVELS = st.lists(st.floats(0, 100), min_size=1, max_size=5, unique=True).map(tuple)
GRIDS = st.dictionaries(st.sampled_from("abcde"), LEVELS, min_size=1, max_size=4).map(Grid)


@given(GRIDS)
def test_points_are_the_product_in_order(grid: Grid) -> None:
    expected = [dict(zip(grid.values, values, strict=True)) for values in product(*grid.values.values())]
    assert [grid.point(i) for i in range(grid.size)] == expected
    assert [list(grid.point(i)) for i in range(grid.size)] == [list(grid.values)] * grid.size


@given(GRIDS)
def test_size_is_the_number_of_distinct_points(grid: Grid) -> None:
    assert len({tuple(grid.point(i).values()) for i in range(grid.size)}) == grid.size


@given(GRIDS, st.integers())
def test_an_index_outside_the_grid_is_an_error(grid: Grid, i: int) -> None:
    if 0 <= i < grid.size:
        assert grid.point(i).keys() == grid.values.keys()
    else:
        with pytest.raises(IndexError, match=f"point {i} of a grid of {grid.size}"):
            grid.point(i)


@given(GRIDS, st.data())
def test_edges_are_the_lowest_and_highest_of_several_levels(grid: Grid, data: st.DataObject) -> None:
    point = grid.point(data.draw(st.integers(0, grid.size - 1)))
    for name, levels in grid.values.items():
        inside = sorted(levels)[1:-1]
        assert (name in grid.edges(point)) == (len(levels) > 1 and point[name] not in inside)
