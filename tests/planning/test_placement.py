"""Sizes of packs for a number of workers: nobody idles where a pack could be split, and no launch gets longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, fsum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawn_tune.cells import PHASES, Cell, Packing, Phase
from lawn_tune.planning.makespan import makespan
from lawn_tune.planning.packing import largest_packs, largest_size, make_packs, pack_size
from lawn_tune.planning.placement import BOUNDS, PackCost, Placement, _within, place
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import find_space
from lawn_tune.planning.speed import Speeds
from search_spaces.space import Grid
from trainables.tasks import Trial, model_config

QUICK = plan(find_space("quickstart"))
SPEEDS = Speeds()


def points(count: int, batch_size: int) -> Cell:
    """Returns a cell with this number of points and one confirm seed."""
    base = QUICK[0]
    return replace(
        base,
        name=replace(base.name, batch_size=batch_size),
        task=replace(base.task, batch_size=batch_size),
        grid=Grid(
            {"peak_lr": tuple(0.01 * (i + 1) for i in range(count)), "warmup_epochs": (1.0,), "weight_decay": (0.1,)}
        ),
        protocol=replace(base.protocol, confirm_seeds=(9,)),
    )


def search_packs(cell: Cell) -> list[int]:
    return [len(pack) for pack in make_packs(cell, "search", cell.search_trials)]


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize(
    ("count", "batch_size", "workers", "expected"),
    [
        (4, 1000, 2, [2, 2]),  # one pack would leave one of two cores idle
        (24, 1000, 8, [3] * 8),  # two packs would leave six of eight GPUs idle
        (24, 64, 1, [12, 12]),
        (24, 64, 2, [12, 12]),
        (24, 64, 24, [1] * 24),
        (24, 64, 512, [1] * 24),
        (24, 10_000, 8, [1] * 24),
    ],
)
def test_a_grid_is_split_among_the_workers(
    table: bool, count: int, batch_size: int, workers: int, expected: list[int]
) -> None:
    cell = points(count, batch_size)
    (placed,) = place([cell], Speeds(table=table).costs([cell]), workers).cells
    assert search_packs(placed) == expected
    assert placed == cell
    assert placed.packing is not None
    assert (placed.packing.workers, placed.packing.plan) == (workers, cell.plan_id)


@pytest.mark.parametrize(
    ("factors", "batch_size", "expected"), [(8, 1000, 16), (16, 1000, 16), (64, 64, 16), (64, 1000, 1), (64, 4096, 1)]
)
def test_models_that_fill_a_core_are_not_stacked(factors: int, batch_size: int, expected: int) -> None:
    """Where speeds were measured. A GPU, whose speed is unknown, gets the largest packs."""
    cell = points(16, batch_size)
    cell = replace(cell, task=replace(cell.task, dataset="movielens-100k", model=model_config("ncf", factors=factors)))
    assert max(search_packs(place([cell], SPEEDS.costs([cell]), workers=1).cells[0])) == expected
    unknown = Speeds(table=False).costs([cell])
    assert max(search_packs(place([cell], unknown, workers=1).cells[0])) == largest_size(cell, "search")


def bounds(cells: Sequence[Cell], cost: PackCost, size: int | None = None) -> tuple[float, float]:
    """Returns the time of all packs, and of the longest chain of a search pack and a confirm pack."""
    times = [
        [
            [cost(cell, phase, pack) for pack in make_packs(cell, phase, cell.planned_trials(phase), size)]
            for cell in cells
        ]
        for phase in PHASES
    ]
    total = fsum(time for phase in times for packs in phase for time in packs)
    return total, max(max(search) + max(confirm) for search, confirm in zip(*times, strict=True))


def shortest(cells: Sequence[Cell], cost: PackCost, workers: int) -> float:
    """Returns what no packing can beat: the smallest total work, shared evenly, or a chain of packs of one trial."""
    work = fsum(min(work_of(cell, phase, cost, size) for size in (None, 1)) for cell in cells for phase in PHASES)
    return max(work / workers, bounds(cells, cost, size=1)[1])


def work_of(cell: Cell, phase: Phase, cost: PackCost, size: int | None = None) -> float:
    return fsum(cost(cell, phase, pack) for pack in make_packs(cell, phase, cell.planned_trials(phase), size))


def check(cells: Sequence[Cell], cost: PackCost, workers: int, on_gpu: bool = False) -> Placement:
    """Checks what holds for every placement."""
    placement = place(cells, cost, workers, on_gpu=on_gpu)
    assert sorted(str(cell.name) for cell in placement.cells) == sorted(str(cell.name) for cell in cells)
    for cell in placement.cells:
        for phase in PHASES:
            assert 1 <= pack_size(cell, phase) <= largest_size(cell, phase, on_gpu)
            assert work_of(cell, phase, cost) <= work_of(cell, phase, cost, size=1) * (1 + 1e-9)
    plain = [largest_packs(cell, on_gpu) for cell in cells]
    before, total, longest = makespan(plain, cost, workers), *bounds(placement.cells, cost)
    assert before is not None
    assert placement.span == makespan(placement.cells, cost, workers)
    assert placement.span <= before, "never later than the plan's own rule"
    assert max(total / workers, longest) <= placement.span * (1 + 1e-9)
    assert placement.span <= (total / workers + (1 - 1 / workers) * longest) * (1 + 1e-9), "no worker waits in vain"
    assert placement.work == pytest.approx(total)
    assert placement.busy == pytest.approx(total / (workers * placement.span))
    assert 0 < placement.busy <= 1 + 1e-9
    return placement


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from([32, 512, 4096, 20_000])), min_size=1, max_size=4),
    st.integers(1, 512),
    st.floats(0, 3),
)
def test_no_placement_is_later_than_the_rule_or_waits_in_vain(
    grids: list[tuple[int, int]], workers: int, call: float
) -> None:
    def cost(cell: Cell, phase: Phase, pack: Sequence[Trial]) -> float:
        return call + sum(1 + int(trial.key, 16) % 7 for trial in pack) * cell.task.batch_size / 1000

    cells = [replace(c, name=replace(c.name, space=f"s{i}")) for i, c in enumerate(points(*grid) for grid in grids)]
    assert check(cells, cost, workers).cells == place(cells, cost, workers).cells


@pytest.mark.parametrize("workers", [1, 2, 8, 64, 512])
def test_a_launch_on_gpus_chooses_from_larger_packs(workers: int) -> None:
    cells = plan(find_space("table4_movielens_100k"), cells=["sgd/*", "adam-lawn/*"])
    cost = Speeds(on_gpu=True).costs(cells)
    packed, small = (check(cells, cost, workers, on_gpu) for on_gpu in (True, False))
    if workers <= 8:
        assert packed.span < small.span
        assert packed.work < small.work
    if workers == 1:
        assert packed.cells == cells
        chosen = [[pack_size(cell, phase) for phase in PHASES] for cell in packed.cells]
        assert chosen == [[largest_size(cell, phase, on_gpu=True) for phase in PHASES] for cell in cells]
    kept = place(packed.cells, cost, 3, on_gpu=False)
    assert {cell.name: cell.packing for cell in kept.cells} == {cell.name: cell.packing for cell in packed.cells}


@pytest.mark.parametrize("workers", [*range(1, 20), 31, 32, 33, 48, 64, 100, 128, 200, 256, 511, 512])
def test_a_small_study_ends_near_the_shortest_possible_time(workers: int) -> None:
    cost = SPEEDS.costs(QUICK)
    least = shortest(QUICK, cost, workers)
    assert least * (1 - 1e-9) <= check(QUICK, cost, workers).span <= 1.6 * least


@pytest.mark.parametrize("name", ["digits", "fashion_mnist", "movielens_100k"])
@pytest.mark.parametrize("workers", [2, 64, 512])
def test_a_large_study_ends_near_the_shortest_possible_time(name: str, workers: int) -> None:
    cells = plan(find_space(name))
    cost = SPEEDS.costs(cells)
    least = shortest(cells, cost, workers)
    assert least * (1 - 1e-9) <= check(cells, cost, workers).span <= 1.75 * least


def test_one_worker_trains_the_largest_packs_in_plan_order() -> None:
    placement = place(QUICK, SPEEDS.costs(QUICK), 1)
    assert placement.cells == QUICK
    for cell in placement.cells:
        assert [pack_size(cell, phase) for phase in PHASES] == [largest_size(cell, phase) for phase in PHASES]


def test_cells_with_long_packs_come_first_where_that_is_shorter() -> None:
    cells = [points(16, 20_000), points(1, 20_000)]
    cells[1] = replace(cells[1], name=replace(cells[1].name, space="long"))

    def cost(cell: Cell, phase: Phase, pack: Sequence[Trial]) -> float:
        return 1.0 if len(cell.search_trials) > 1 else 8.0

    placement = check(cells, cost, 4)
    assert placement.cells == (cells[1], cells[0])
    assert placement.span == 16.0


@pytest.mark.parametrize(("share", "packs"), [(0.97, [2, 2]), (0.98, [4])])
def test_an_earlier_end_is_worth_a_twentieth_of_it_in_work_on_every_worker(share: float, packs: list[int]) -> None:
    """Of two workers each does half of one pack, or one of two packs that take `share` of its time: 41/42 is equal."""
    cell = points(4, 1000)

    def cost(cell: Cell, phase: Phase, pack: Sequence[Trial]) -> float:
        return 0.0 if phase == "confirm" else share if len(pack) == 2 else 1.0

    assert search_packs(place([cell], cost, 2).cells[0]) == packs


def test_bounds_on_the_time_of_a_pack_go_from_the_shortest_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    costs, tried = set[float](), set[float]()

    def noted(options: Any, bound: float) -> Any:
        tried.add(bound)
        return _within(options, bound)

    def cost(cell: Cell, phase: Phase, pack: Sequence[Trial]) -> float:
        costs.add(found := len(pack) * cell.task.batch_size + 1.0)
        return found

    monkeypatch.setattr("lawn_tune.planning.placement._within", noted)
    place([points(24, size) for size in (64, 100, 512, 4096)], cost, workers=8)
    assert len(costs) > BOUNDS == len(tried)
    assert (min(tried), max(tried)) == (min(costs), max(costs))


def test_a_packing_is_kept_and_taken_into_account() -> None:
    kept = replace(points(24, 64), packing=Packing(search=12, confirm=1, workers=2, plan="x"))
    other = replace(points(24, 64), name=replace(kept.name, space="other"))
    placement = place([kept, other], SPEEDS.costs([kept, other]), 26)
    packed = {cell.name: cell for cell in placement.cells}
    assert packed[kept.name].packing == kept.packing
    assert search_packs(packed[other.name]) == [12, 12], "the launch would end no earlier with smaller ones"
    assert search_packs(place([other], SPEEDS.costs([other]), 26).cells[0]) == [1] * 24


@given(st.integers(0, 24), st.integers(1, 30))
@settings(deadline=None, max_examples=10)
def test_only_what_is_missing_is_shared_out(left: int, workers: int) -> None:
    cell = points(24, 64)
    missing = cell.search_trials[:left]
    (placed,) = place([cell], SPEEDS.costs([cell]), workers, {cell.name: missing}).cells
    packs = make_packs(placed, "search", missing)
    assert len(packs) >= min(left, workers) / 2
    assert len(packs) == ceil(left / pack_size(placed, "search"))


def test_nothing_is_placed_at_once() -> None:
    assert place([], SPEEDS.costs([]), 4) == Placement((), 0.0, 0.0, 4)
    assert Placement((), 0.0, 0.0, 4).busy == 1.0
