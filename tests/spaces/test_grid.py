"""Grids: size, the bijection between numbers and points, and edges."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.space import Grid

LEVELS = st.lists(st.floats(0, 100) | st.sampled_from([-2.0, -1e9]), min_size=1, max_size=5, unique=True).map(tuple)
"""Numbers, and words, which are below 0."""
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
def test_edges_are_the_lowest_and_highest_of_several_numbers(grid: Grid, data: st.DataObject) -> None:
    point = grid.point(data.draw(st.integers(0, grid.size - 1)))
    for name, levels in grid.values.items():
        numbers = sorted(level for level in levels if level >= 0)
        assert (name in grid.edges(point)) == (len(numbers) > 1 and point[name] in (numbers[0], numbers[-1]))
