"""Invariants of packs: a partition of the trials, one seed a search pack, siblings together, sizes nearly equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawn_tune.cells import Cell
from lawn_tune.planning.packing import MAX_SIZE, coarse_to_fine, make_packs, pack_size
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


def test_nothing_makes_no_packs() -> None:
    cell = CELLS[0]
    assert make_packs(cell, "search", []) == make_packs(cell, "confirm", []) == []


@pytest.mark.parametrize("size", [0, -1])
def test_a_pack_holds_at_least_one(size: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1 trial, got a size of {size}"):
        make_packs(CELLS[0], "search", CELLS[0].search_trials, size)
