"""Packs and their sizes are recorded once for a plan; a pack that is too large is split."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update

from lawn_tune.cells import Cell
from lawn_tune.errors import LedgerError
from lawn_tune.ledger import Ledger, pack_id
from lawn_tune.ledger.definitions import cells
from tests.helpers.ledger_contract import PROVENANCE, begun, make_cell, outcomes, packing, records, train


def test_packs_are_recorded_once_in_order(ledger: Ledger, cell: Cell) -> None:
    trials = cell.search_trials
    first = ledger.record_packs(cell.name, "search", [trials[2:4], trials[:2]])
    assert [pack.keys for pack in first] == [tuple(t.key for t in part) for part in (trials[2:4], trials[:2])]
    assert [pack.id for pack in first] == [pack_id(pack.keys) for pack in first]
    assert all(re.fullmatch("[0-9a-f]{12}", pack.id) for pack in first)
    assert {(pack.cell, pack.phase, pack.state, pack.attempts) for pack in first} == {
        (cell.name, "search", "waiting", 0)
    }
    assert ledger.record_packs(cell.name, "search", [trials[2:4], trials[:2]]) == first
    assert ledger.packs(cell.name, "search") == first
    assert ledger.packs(cell.name, "confirm") == ()


def test_a_new_plan_packs_only_what_no_pack_holds(ledger: Ledger, cell: Cell) -> None:
    trials = cell.search_trials
    first = ledger.record_packs(cell.name, "search", [trials[:2]])
    second = ledger.record_packs(cell.name, "search", [trials[1:4], trials[4:]])
    assert second[:1] == first
    assert [pack.keys for pack in second[1:]] == [tuple(t.key for t in part) for part in (trials[2:4], trials[4:])]


def test_sizes_of_packs_are_recorded_once_for_a_plan(ledger: Ledger, cell: Cell) -> None:
    other = make_cell(batch_size=128)
    ledger.register([cell, other])
    assert ledger.packings([cell, other]) == {}
    assert ledger.record_packings([cell.packed(packing(cell))]) == {cell.name: packing(cell)}
    assert ledger.record_packings([cell.packed(packing(cell, 6, 1)), other.packed(packing(other))]) == {
        cell.name: packing(cell),
        other.name: packing(other),
    }
    ledger.register([cell, other])
    assert ledger.packings([cell, other]) == {cell.name: packing(cell), other.name: packing(other)}
    assert [found.packing for found in ledger.cells("demo")] == [packing(cell), packing(other)]
    given = packing(cell, 6, None)
    assert ledger.record_packings([cell.packed(given)], replacing=True) == {cell.name: given}
    assert ledger.packings([cell]) == {cell.name: given}


def test_the_confirm_seeds_that_the_first_launch_planned_stay_with_its_task(ledger: Ledger, cell: Cell) -> None:
    def planned(seeds: tuple[int, ...], epochs: int = cell.task.epochs) -> Cell:
        task, protocol = replace(cell.task, epochs=epochs), replace(cell.protocol, confirm_seeds=seeds)
        ledger.register([replace(cell, task=task, protocol=protocol)])
        ledger.record_packings([cell.packed(packing(cell))])
        (found,) = ledger.cells("demo")
        return found

    first = cell.protocol.confirm_seeds
    assert planned((*first, 777)).first_seeds == first
    assert planned((*first, 777)).added_seeds == (777,)
    assert planned(first[:1]).dropped_seeds == first[1:]
    assert planned((5, 6), epochs=cell.task.epochs + 1).first_seeds == (5, 6)
    ledger.register([make_cell(lrs=(0.1, 0.2, 0.4, 0.8), epochs=cell.task.epochs + 1)])
    assert ledger.cells("demo")[0].first_grid == cell.grid.values


def test_what_a_space_says_of_itself_is_that_of_its_last_launch(ledger: Ledger, cell: Cell) -> None:
    assert ledger.cells("demo")[0].about == ()
    for about in (("Digits", "A note."), ("Digits, again",)):
        ledger.register([replace(cell, about=about)])
        ledger.record_packings([cell.packed(packing(cell))])
        assert ledger.cells("demo")[0].about == about
    with pytest.raises(ValueError, match="list of texts"):
        Cell.from_dict(cell.to_dict() | {"about": "Digits"})


def test_sizes_of_packs_are_those_of_one_plan(ledger: Ledger, cell: Cell) -> None:
    grown = make_cell(lrs=(0.1, 0.2, 0.4, 0.8))
    ledger.record_packings([cell.packed(packing(cell))])
    assert ledger.packings([grown]) == {}
    ledger.register([grown])
    assert ledger.packings([grown]) == {}
    assert ledger.record_packings([grown.packed(packing(grown, 8))]) == {grown.name: packing(grown, 8)}
    assert ledger.packings([cell]) == {}


@pytest.mark.parametrize(
    "damage",
    [{"search": 0}, {"confirm": "2"}, {"workers": 0}, {"plan": 3}, {"more": 1}, {"search": True}],
    ids=lambda damage: next(iter(damage)),
)
def test_damaged_sizes_of_packs_are_none_until_a_launch_chooses_again(
    ledger: Ledger, cell: Cell, damage: dict[str, Any]
) -> None:
    ledger.record_packings([cell.packed(packing(cell))])
    with ledger._database.writing() as connection:
        definition = json.loads(connection.execute(select(cells.c.definition)).scalar_one())
        definition["packing"] |= damage
        connection.execute(update(cells).values(definition=json.dumps(definition)))
    assert ledger.packings([cell]) == {}
    with pytest.raises(LedgerError):
        ledger.cells("demo")
    ledger.register([cell])
    assert ledger.cells("demo") == (cell,)
    assert ledger.record_packings([cell.packed(packing(cell))]) == {cell.name: packing(cell)}


@pytest.mark.parametrize("size", [2, 3, 6])
def test_a_split_pack_is_replaced_by_its_halves(ledger: Ledger, cell: Cell, size: int) -> None:
    trials = cell.search_trials[:size]
    pack = begun(ledger, cell, trials)
    ledger.progress(pack, records(pack, [1, 2]))
    halves = ledger.split_pack(pack)
    assert halves[0].keys + halves[1].keys == pack.keys
    assert abs(len(halves[0].keys) - len(halves[1].keys)) <= 1
    assert {half.state for half in halves} == {"waiting"}
    assert ledger.split_pack(pack) == halves
    assert [p.state for p in ledger.packs(cell.name, "search")] == ["split", "waiting", "waiting"]
    assert len(ledger.record_packs(cell.name, "search", [trials])) == 3
    assert ledger.outcomes(pack.keys) == {}
    for half in halves:
        train(ledger, cell, [trial for trial in trials if trial.key in half.keys])
    assert set(ledger.outcomes(pack.keys).values()) == {"complete"}


def test_a_pack_of_one_cannot_be_split(ledger: Ledger, cell: Cell) -> None:
    with pytest.raises(ValueError, match="holds one trial"):
        ledger.split_pack(begun(ledger, cell, cell.search_trials[:1]))


def test_a_pack_takes_only_its_own_trials(ledger: Ledger, cell: Cell) -> None:
    pack = begun(ledger, cell, cell.search_trials[:2])
    with pytest.raises(ValueError, match=pack.id):
        ledger.begin(pack, cell.search_trials[1:3])
    with pytest.raises(ValueError, match=pack.id):
        ledger.finish(pack, [replace(outcomes(pack)[0], key="0" * 16)], PROVENANCE)
