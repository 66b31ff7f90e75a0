"""How long a plan takes: never less than any worker or any cell needs, and exactly so where there is no choice."""

from __future__ import annotations

from itertools import chain as joined

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lawn_tune.planning.makespan import makespan, schedule
from lawn_tune.planning.packing import make_packs
from tests.helpers.memory_source import make_cell

Chain = list[list[float]]
PHASE = st.lists(st.integers(1, 9).map(float), max_size=4)
CHAINS = st.lists(st.lists(PHASE, min_size=1, max_size=3), max_size=4)


def total(chains: list[Chain]) -> float:
    return sum(sum(phase) for chain in chains for phase in chain)


def longest(chains: list[Chain]) -> float:
    """Phases follow one another; the packs of one may run at once."""
    return max((sum(max(phase, default=0.0) for phase in chain) for chain in chains), default=0.0)


@given(CHAINS, st.integers(1, 5))
def test_it_is_no_less_than_the_work_and_the_longest_cell_ask_for(chains: list[Chain], workers: int) -> None:
    found = schedule(chains, workers)
    assert max(total(chains) / workers, longest(chains)) <= found <= total(chains)
    if workers == 1:
        assert found == total(chains)
    packs = sum(map(len, joined.from_iterable(chains)))
    assert schedule(chains, packs + 1) == longest(chains)


@given(CHAINS, st.integers(1, 5), st.data())
def test_an_empty_phase_takes_no_time(chains: list[Chain], workers: int, data: st.DataObject) -> None:
    padded = [list(chain) for chain in chains]
    for chain in padded:
        chain.insert(data.draw(st.integers(0, len(chain))), [])
    every = sum(map(len, joined.from_iterable(chains))) + 1
    assert schedule(padded, every) == schedule(chains, every)
    for alone, with_empty in zip(chains, padded, strict=True):
        assert schedule([with_empty], workers) == schedule([alone], workers)
    least = max(total(chains) / workers, longest(chains))  # cells may have their turns in another order
    assert least <= schedule(padded, workers) <= total(chains) / workers + longest(chains)


@pytest.mark.parametrize(
    ("chains", "workers", "expected"),
    [
        ([[[4, 1], [2]], [[5]]], 2, 6),  # the second cell opens at 1, when the first has no pack to begin
        ([[[4, 1], [2]], [[3], [3]]], 2, 7),  # 1-4 and 4-7 on one worker, 4-6 on the other
        ([[[2], [9]], [[2], [1]]], 2, 11),
        ([[[1], [1]], [[9]]], 1, 11),
        ([[[3, 3, 3]], [[1]]], 2, 6),  # a cell's packs come before those of the next
    ],
)
def test_by_hand(chains: list[Chain], workers: int, expected: float) -> None:
    assert schedule(chains, workers) == expected


def test_the_time_of_cells_is_that_of_their_packs() -> None:
    cells = [make_cell("adam"), make_cell("adam-lawn")]
    chains = [
        [
            [float(len(pack)) for pack in make_packs(cell, phase, cell.planned_trials(phase), 2)]
            for phase in ("search", "confirm")
        ]
        for cell in cells
    ]
    assert makespan(cells, lambda cell, phase, pack: float(len(pack)), 2, 2) == schedule(chains, 2)
    unknown = {"confirm": None, "search": 1.0}
    assert makespan(cells, lambda cell, phase, pack: unknown[phase], 2, 2) is None
