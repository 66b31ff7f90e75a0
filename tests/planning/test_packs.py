"""Invariants of packs: a partition of the trials, one seed a search pack, siblings together, sizes nearly equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from random import Random
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawn_tune.cells import PHASES, Cell, Phase
from lawn_tune.planning.packing import (
    EXAMPLES,
    GPU_MAX_SIZE,
    GPU_OUTPUTS,
    MAX_SIZE,
    coarse_to_fine,
    largest_packs,
    largest_size,
    make_packs,
    pack_size,
)
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import builtin_spaces, find_space
from search_spaces.space import Grid
from trainables.tasks import Trial

QUICK = find_space("quickstart")
CELLS = [cell for name in builtin_spaces() for cell in plan(find_space(name))]


@st.composite
def cells(draw: st.DrawFn, optimizers: tuple[str, ...] = ("adam", "adam-lawn")) -> Cell:
    optimizer = draw(st.sampled_from(optimizers))
    third = "free_epochs" if optimizer.endswith("lawn") else "weight_decay"
    names = draw(st.permutations(["peak_lr", "warmup_epochs", third]))
    levels = st.integers(1, 4).map(lambda n: tuple(float(i + 1) for i in range(n)))
    base = next(cell for cell in plan(QUICK) if cell.name.optimizer == optimizer)
    seeds = tuple(range(draw(st.integers(1, 3))))
    protocol = replace(
        base.protocol, search_seeds=seeds, confirm_seeds=tuple(range(100, 100 + draw(st.integers(1, 9))))
    )
    return replace(base, grid=Grid({name: draw(levels) for name in names}), protocol=protocol)


SIZES = st.none() | st.integers(1, 16)


def some(trials: tuple[Trial, ...], data: st.DataObject) -> list[Trial]:
    """Any part of the trials, in any order."""
    kept = [trial for trial in trials if data.draw(st.booleans())] if data.draw(st.booleans()) else list(trials)
    Random(data.draw(st.integers(0, 9))).shuffle(kept)
    return kept


@settings(deadline=None)
@given(cells(), SIZES, st.data())
def test_search_packs_are_a_partition_with_one_seed_each(cell: Cell, size: int | None, data: st.DataObject) -> None:
    trials = some(cell.search_trials, data)
    packs = make_packs(cell, "search", trials, size)
    assert Counter(trial.key for pack in packs for trial in pack) == Counter(trial.key for trial in trials)
    limit = size or pack_size(cell, "search")
    for pack in packs:
        assert 1 <= len(pack) <= limit
        assert len({trial.seed for trial in pack}) == 1
    assert packs == make_packs(cell, "search", trials, size)


def levels_of(packs: Sequence[tuple[Trial, ...]]) -> set[tuple[str, float]]:
    return {item for pack in packs for trial in pack for item in trial.hyperparameters.items()}


@settings(deadline=None, max_examples=40)
@given(cells(), SIZES, st.data())
def test_a_search_runs_from_coarse_to_fine(cell: Cell, size: int | None, data: st.DataObject) -> None:
    """Seed by seed; each pack has levels that none before it has, until all were seen: at once, as packs are few."""
    trials = some(cell.search_trials, data)
    packs = make_packs(cell, "search", trials, size)
    done = packs[: data.draw(st.integers(0, len(packs)))]
    left = packs[len(done) :]
    order = coarse_to_fine(left, [trial for pack in done for trial in pack])
    assert sorted(order) == list(range(len(left)))
    for seed in dict.fromkeys(pack[0].seed for pack in left):
        seen = levels_of([pack for pack in done if pack[0].seed == seed])
        of_seed = [levels_of([left[i]]) for i in order if left[i][0].seed == seed]
        whole = seen.union(*of_seed)
        for levels in of_seed:
            assert seen == whole or levels - seen
            seen |= levels
    assert [left[i][0].seed for i in order] == [pack[0].seed for pack in left]


def test_a_grid_of_single_trials_has_seen_every_level_after_as_many_packs_as_levels() -> None:
    for cell in CELLS:
        seed = cell.protocol.search_seeds[0]
        packs = [(trial,) for trial in cell.search_trials if trial.seed == seed]
        most = max(len(levels) for levels in cell.grid.values.values())
        first = [packs[i][0].hyperparameters for i in coarse_to_fine(packs)[:most]]
        assert all({point[name] for point in first} == set(levels) for name, levels in cell.grid.values.items())


@settings(deadline=None)
@given(cells(("adam-lawn",)), SIZES, st.data())
def test_siblings_sit_side_by_side_in_as_few_packs_as_hold_them(
    cell: Cell, size: int | None, data: st.DataObject
) -> None:
    trials = some(cell.search_trials, data)
    packs = make_packs(cell, "search", trials, size)
    limit = size or pack_size(cell, "search")
    for seed in cell.protocol.search_seeds:
        groups = Counter(cell.siblings_key(trial) for trial in trials if trial.seed == seed)
        of_seed = [pack for pack in packs if pack[0].seed == seed]
        line = [cell.siblings_key(trial) for pack in of_seed for trial in pack]
        runs = [key for i, key in enumerate(line) if i == 0 or line[i - 1] != key]
        assert len(runs) == len(groups)
        for key, count in groups.items():
            holders = [pack for pack in of_seed if key in map(cell.siblings_key, pack)]
            assert len(holders) == ceil(count / limit)


@settings(deadline=None)
@given(cells(("adam",)), SIZES)
def test_without_siblings_packs_are_the_fewest_and_differ_by_one_at_most(cell: Cell, size: int | None) -> None:
    packs = make_packs(cell, "search", cell.search_trials, size)
    limit = size or pack_size(cell, "search")
    lengths = [len(pack) for pack in packs]
    assert len(packs) == len(cell.protocol.search_seeds) * ceil(cell.grid.size / limit)
    assert max(lengths) - min(lengths) <= 1
    assert [trial for pack in packs for trial in pack] == list(cell.search_trials)


@settings(deadline=None)
@given(cells(), SIZES)
def test_confirm_packs_hold_several_seeds_of_the_winner(cell: Cell, size: int | None) -> None:
    trials = cell.confirm_trials(cell.grid.point(0))
    packs = make_packs(cell, "confirm", trials, size)
    limit = size or pack_size(cell, "confirm")
    assert [trial for pack in packs for trial in pack] == list(trials)
    assert len(packs) == ceil(len(trials) / limit)
    assert max(map(len, packs)) - min(map(len, packs)) <= 1


@pytest.mark.parametrize(
    ("levels", "size", "expected"),
    [
        ((2, 3), 8, [6]),  # two groups of three free phases fit one pack
        ((2, 3), 5, [3, 3]),  # they stay whole
        ((2, 3), 2, [2, 1, 2, 1]),  # a group too large for a pack is cut
        ((4, 3), 7, [6, 6]),
        ((5, 3), 8, [6, 6, 3]),
        ((7, 1), 4, [4, 3]),
        ((10, 1), 4, [4, 3, 3]),
        ((3, 5), 4, [3, 2, 3, 2, 3, 2]),
    ],
)
def test_by_hand(levels: tuple[int, int], size: int, expected: list[int]) -> None:
    rates, frees = (tuple(float(i + 1) for i in range(n)) for n in levels)
    base = next(cell for cell in plan(QUICK) if cell.name.optimizer == "adam-lawn")
    cell = replace(base, grid=Grid({"peak_lr": rates, "warmup_epochs": (1.0,), "free_epochs": frees}))
    lengths = [len(pack) for pack in make_packs(cell, "search", cell.search_trials, size)]
    assert sorted(lengths) == sorted(expected)
    assert len(lengths) == len(expected)


def test_pack_size_follows_the_batch_and_never_exceeds_the_trials() -> None:
    for cell in CELLS:
        for phase, trials in (("search", cell.grid.size), ("confirm", len(cell.protocol.confirm_seeds))):
            size = pack_size(cell, "search" if phase == "search" else "confirm")
            assert 1 <= size <= min(trials, MAX_SIZE) <= 16, cell.name
            assert size == 1 or size * cell.task.batch_size <= 16_384, cell.name
            assert size == 1 or cell.task.batch_size < 10_000, cell.name


@settings(deadline=None)
@given(st.sampled_from(CELLS), st.sampled_from(PHASES), st.integers(1, 2**21), st.integers(1, 300), st.integers(1, 100))
def test_a_pack_for_a_gpu_is_the_largest_that_every_bound_allows(
    cell: Cell, phase: Phase, batch: int, confirmed: int, most: int
) -> None:
    model = replace(cell.task.model_row, largest_pack=most)
    task = replace(cell.task, batch_size=batch, micro_batch=0)
    cell = replace(cell, task=task, protocol=replace(cell.protocol, confirm_seeds=tuple(range(confirmed))))
    with mock.patch.object(type(task), "model_row", model):
        size, on_cpu = (largest_size(cell, phase, on_gpu) for on_gpu in (True, False))
        assert largest_size(cell, phase) == on_cpu <= size
    trials = confirmed if phase == "confirm" else cell.grid.size

    def fits(size: int) -> bool:
        assert cell.task.footprint is not None
        outputs = size * batch * cell.task.footprint.floats
        has_room = size == 1 or size * batch <= EXAMPLES or outputs <= GPU_OUTPUTS
        return has_room and size <= min(trials, most, GPU_MAX_SIZE)

    assert fits(size)
    assert not fits(size + 1)


def test_packs_for_a_gpu_hold_as_many_examples_as_were_measured_to_fill_one() -> None:
    found = {
        cell.task.batch_size: largest_size(cell, "search", on_gpu=True)
        for cell in CELLS
        if cell.name.space in ("table4_movielens_100k", "table4_movielens_1m")
    }
    assert found == {1000: 32, 10_000: 32, 100_000: 10, 400_000: 2, 1_000_000: 1}
    alone = [cell for cell in CELLS if cell.task.model.name in ("vgg-19", "resnet-50")]
    assert {largest_size(cell, "search", on_gpu=True) for cell in alone} == {1}


def test_a_model_of_unknown_size_is_packed_for_a_gpu_as_for_a_cpu() -> None:
    for cell in CELLS:
        unknown = replace(cell.task.model_row, footprint=None)
        with mock.patch.object(type(cell.task), "model_row", unknown):
            assert largest_size(cell, "search", on_gpu=True) == largest_size(cell, "search")
        with mock.patch.object(type(cell.task), "alone", True):
            assert largest_size(cell, "search", on_gpu=True) == 1


@pytest.mark.parametrize("on_gpu", [False, True])
def test_the_largest_packs_are_those_of_the_rule_unless_sizes_were_chosen(on_gpu: bool) -> None:
    for cell in CELLS[::7]:
        packed = largest_packs(cell, on_gpu)
        for phase in PHASES:
            packs = make_packs(packed, phase, cell.planned_trials(phase))
            assert packs == make_packs(cell, phase, cell.planned_trials(phase), largest_size(cell, phase, on_gpu))
        assert largest_packs(packed, not on_gpu).packing == packed.packing


def test_nothing_makes_no_packs() -> None:
    cell = CELLS[0]
    assert make_packs(cell, "search", []) == make_packs(cell, "confirm", []) == []


@pytest.mark.parametrize("size", [0, -1])
def test_a_pack_holds_at_least_one(size: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1 trial, got a size of {size}"):
        make_packs(CELLS[0], "search", CELLS[0].search_trials, size)
