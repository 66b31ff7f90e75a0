"""Extending grids: rivals grow together, towards their winners, and never beyond the limit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawn_tune.cells import Cell, CellName
from lawn_tune.planning.extending import MOST, edited, extended, resumed, state
from lawn_tune.planning.selection import Winner, winner
from lawn_tune.planning.widening import beyond
from search_spaces.space import Grid
from tests.helpers.memory_source import make_cell, search_rows

Optimum = Mapping[str, float]
LR = st.sampled_from([1e-6, 1e-4, 0.003, 0.1, 10.0])
DECAY = st.sampled_from([1e-4, 0.1, 0.3, 30.0])
FREE = st.sampled_from([0.0, 1.0, 5.0, 15.0])


def searched(cell: Cell, optimum: Optimum) -> Winner | None:
    """The winner of a grid whose value falls with the distance from an optimum, in logarithms."""
    values = [-sum(abs(math.log((point[n] + 1e-9) / (best + 1e-9))) for n, best in optimum.items() if n in point)
              for point in map(cell.grid.point, range(cell.grid.size))]  # fmt: skip
    return winner(cell, search_rows(cell, values))


def rounds(cells: tuple[Cell, ...], optima: Mapping[CellName, Optimum]) -> tuple[Cell, ...]:
    """Extends until nothing changes, as a launch does, which takes no more rounds than there are levels to add."""
    for _ in range(3 * MOST + 1):
        grown = extended(cells, {cell.name: searched(cell, optima[cell.name]) for cell in cells})
        if not grown:
            return cells
        assert all(new.grid.size > old.grid.size for new in grown for old in cells if new.name == old.name)
        cells = resumed(cells, grown)
    raise AssertionError("it does not end")


@settings(deadline=None, max_examples=25)
@given(LR, DECAY, LR, FREE)
def test_rivals_grow_by_as_many_levels_until_winners_are_inside_or_the_limit_is_reached(
    lr: float, decay: float, other_lr: float, free: float
) -> None:
    cells = (make_cell("adam"), make_cell("adam-lawn"))
    names = [cell.name for cell in cells]
    optima = {names[0]: {"peak_lr": lr, "weight_decay": decay}, names[1]: {"peak_lr": other_lr, "free_epochs": free}}
    adam, lawn = rounds(cells, optima)
    assert adam.grid.size == lawn.grid.size
    assert adam.grid.values["peak_lr"] == lawn.grid.values["peak_lr"]
    for cell, before in zip((adam, lawn), cells, strict=True):
        won = searched(cell, optima[cell.name])
        assert won is not None
        for name, levels in cell.grid.values.items():
            assert levels[: len(before.grid.values[name])] == before.grid.values[name], "the file's levels stay"
            assert cell.added.get(name, ()) == levels[len(before.grid.values[name]) :]
        for name in won.edges:
            assert len(cell.added.get(name, ())) >= MOST or won.hyperparameters[name] == 0 or name == "free_epochs"


def test_a_level_is_added_by_the_ratio_of_its_neighbors_and_to_each_rival() -> None:
    adam, lawn = make_cell("adam"), make_cell("adam-lawn", frees=(1.0, 3.0, 9.0))
    best: dict[CellName, Winner | None] = {
        adam.name: searched(adam, {"peak_lr": 0.003, "weight_decay": 99.0}),
        lawn.name: searched(lawn, {"peak_lr": 0.003, "free_epochs": 1.0}),
    }
    assert [cell.added for cell in extended((adam, lawn), best)] == [{"weight_decay": (10.0,)}, {"free_epochs": (0.0,)}]


def test_rivals_get_as_many_levels_of_their_own_whatever_number_each_wants() -> None:
    lawn = make_cell("adam-lawn")
    betas = {"beta1": (0.7, 0.8, 0.9), "beta2": (0.97, 0.98, 0.99)}
    adam, lawn = (replace(cell, grid=Grid({**cell.grid.values, **betas})) for cell in (make_cell("adam"), lawn))
    inside = {"peak_lr": 0.003, "weight_decay": 0.1, "free_epochs": 1.0, "beta1": 0.8, "beta2": 0.98}
    assert not searched(adam, inside).edges  # type: ignore[union-attr]
    for ends in ({}, {"beta2": 0.99}, {"weight_decay": 0.3}, {"beta1": 0.7, "beta2": 0.99}):
        for others in ({"beta1": 0.9}, {"beta1": 0.7, "beta2": 0.97}):
            best = {adam.name: searched(adam, inside | ends), lawn.name: searched(lawn, inside | others)}
            counts = {sum(map(len, cell.added.values())) for cell in extended((adam, lawn), best)}
            assert counts == {max(len(ends), len(others))}, (ends, others)


def test_what_has_one_level_is_fixed_and_does_not_grow_with_a_rival() -> None:
    adam = make_cell("adam")
    lawn = make_cell("adam-lawn", frees=(1.0,))
    lawn = replace(lawn, grid=Grid({**lawn.grid.values, "beta2": (0.99,), "eps": (1e-8, 1e-7, 1e-6)}))
    best = {
        adam.name: searched(adam, {"peak_lr": 0.003, "weight_decay": 99.0}),
        lawn.name: searched(lawn, {"peak_lr": 0.003, "eps": 1e-7}),
    }
    grown = {cell.name: cell.added.keys() for cell in extended((adam, lawn), best)}
    assert grown == {adam.name: {"weight_decay"}, lawn.name: {"eps"}}


def test_what_has_no_rival_in_the_launch_or_no_winner_on_an_edge_does_not_grow() -> None:
    adam, lawn = make_cell("adam"), make_cell("adam-lawn")
    edge, inside = searched(adam, {"peak_lr": 99.0}), searched(lawn, {"peak_lr": 0.003, "free_epochs": 1.0})
    assert extended((adam,), {adam.name: edge}) == ()
    other = replace(lawn, name=replace(lawn.name, batch_size=512))
    assert extended((adam, other), {adam.name: edge, other.name: inside}) == ()
    middle = searched(adam, {"peak_lr": 0.003, "weight_decay": 0.1})
    assert extended((adam, lawn), {adam.name: middle, lawn.name: inside}) == ()
    assert extended((adam, lawn), {adam.name: None, lawn.name: None}) == ()


def test_rivals_of_a_common_baseline_grow_together() -> None:
    cells = tuple(make_cell(name) for name in ("adam-lawn", "adam", "adam-l2"))
    best = {cell.name: searched(cell, {"peak_lr": 0.01, "free_epochs": 1.0, "weight_decay": 0.1}) for cell in cells}
    grown = extended(cells, best)
    assert [cell.name.optimizer for cell in grown] == [cell.name.optimizer for cell in cells]
    assert {cell.added["peak_lr"] for cell in grown} == {(0.03,)}


@pytest.mark.parametrize("epochs", [20, 7])
def test_added_levels_are_kept_by_the_ledgers_cell_of_the_same_task(epochs: int) -> None:
    cell = make_cell()
    stored = Cell.from_dict(cell.extended({"peak_lr": (0.03,)}).to_dict())
    (found,) = resumed([replace(cell, task=replace(cell.task, epochs=epochs))], [stored])
    assert ("peak_lr" in found.added) == (epochs == cell.task.epochs)
    assert found.grid.size == (12 if epochs == cell.task.epochs else 9)
    assert {trial.key for trial in cell.search_trials} <= {trial.key for trial in stored.search_trials}


def test_a_level_that_the_edited_file_has_is_not_an_added_one() -> None:
    cell = make_cell()
    stored = cell.extended({"peak_lr": (0.03, 0.1), "weight_decay": (10.0,)})
    (same,) = resumed([cell], [stored])
    assert (same.added, edited([same], [stored])) == (stored.added, ())
    mine = replace(cell, grid=Grid({**cell.grid.values, "peak_lr": (0.01, 0.03), "weight_decay": (1.0, 10.0)}))
    (found,) = resumed([mine], [stored])
    assert found.added == {"peak_lr": (0.1,)}
    assert found.grid.values["peak_lr"] == (0.01, 0.03, 0.1)
    assert edited([found], [stored]) == (found,)
    assert resumed([found], [stored]) == (found,), "as the rounds of a launch do"
    assert edited(resumed([found], [found]), [found]) == (), "the next launch finds the file as it is"


@given(st.lists(st.floats(0.001, 0.9999).map(lambda x: float(f"{x:.4g}")), min_size=1, max_size=4, unique=True))
def test_what_must_stay_below_one_is_extended_to_a_level_below_one(levels: list[float]) -> None:
    cell = make_cell()
    cell = replace(cell, grid=Grid({**cell.grid.values, "beta2": tuple(sorted(levels))}))
    added, _ = beyond(cell, "beta2", max(levels), cell.task.epochs)
    assert added is not None
    assert max(levels) < added < 1


def test_added_levels_are_shown_in_the_order_of_the_grid_from_the_lowest() -> None:
    cell = make_cell().extended({"weight_decay": (3.0, 0.01), "peak_lr": (0.003,)})
    assert state(cell, None).startswith("launch --extend added peak_lr 0.003; weight_decay 0.01, 3 to the grid;")
