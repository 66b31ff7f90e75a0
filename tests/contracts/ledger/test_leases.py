"""A cell has one driver at a time; a lease ends with its time or its owner."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from lawn_tune.cells import Cell, CellName
from lawn_tune.ledger import LeaseLost, Ledger, Owner
from tests.helpers.ledger_contract import PROVENANCE, SECONDS, begun, make_cell, outcomes, records


def elsewhere() -> Owner:
    """A driver on another machine, of which nothing is known."""
    return replace(Owner.current(), host="elsewhere", pid=1)


def dead() -> Owner:
    """A driver of this machine whose process ended: the ID is taken by a later one."""
    return replace(Owner.current(), started="1")


@pytest.mark.parametrize(("holder", "granted"), [(elsewhere, False), (Owner.current, False), (dead, True)])
def test_a_leased_cell_is_granted_to_another_only_if_its_owner_is_dead(
    ledger: Ledger, cell: Cell, holder: Callable[[], Owner], granted: bool
) -> None:
    first, second = holder(), Owner.current()
    assert ledger.lease(cell.name, first, SECONDS)
    assert ledger.lease(cell.name, first, SECONDS)
    assert ledger.lease(cell.name, second, SECONDS) is granted
    winner = second if granted else first
    assert ledger.leases()[cell.name].owner == str(winner)
    assert ledger.renew(winner, SECONDS) == {cell.name}
    assert ledger.renew(first if granted else second, SECONDS) == frozenset()


@pytest.mark.parametrize(
    ("holder", "seconds", "granted"), [(elsewhere, SECONDS, False), (elsewhere, 0.0, True), (dead, SECONDS, True)]
)
def test_trials_that_cells_share_are_leased_with_either(
    ledger: Ledger, cell: Cell, holder: Callable[[], Owner], seconds: float, granted: bool
) -> None:
    twin, apart = make_cell(space="twin"), make_cell(space="twin", batch_size=8)
    ledger.register([twin, apart])
    first, second = holder(), Owner.current()
    assert ledger.lease(cell.name, first, seconds)
    assert ledger.lease(apart.name, second, SECONDS)
    assert ledger.lease(twin.name, second, SECONDS) is granted
    assert ledger.renew(first, SECONDS) == (frozenset() if granted else {cell.name})
    assert not ledger.lease(cell.name if granted else twin.name, Owner.current(), SECONDS)
    ledger.release(twin.name, second)
    ledger.release(cell.name, first)
    assert ledger.lease(cell.name, Owner.current(), SECONDS)


def test_a_lease_that_is_given_back_is_free(ledger: Ledger, cell: Cell) -> None:
    first, second = elsewhere(), Owner.current()
    assert ledger.lease(cell.name, first, SECONDS)
    ledger.release(cell.name, second)
    assert not ledger.lease(cell.name, second, SECONDS)
    ledger.release(cell.name, first)
    ledger.release(cell.name, first)
    assert ledger.leases() == {}
    assert ledger.lease(cell.name, second, SECONDS)


def test_a_lease_ends_unless_it_is_renewed(ledger: Ledger, cell: Cell) -> None:
    other = make_cell(batch_size=8)
    ledger.register([cell, other])
    first, second = elsewhere(), Owner.current()
    assert ledger.lease(cell.name, first, 0.3)
    assert ledger.lease(other.name, first, 0.3)
    assert ledger.renew(first, SECONDS) == {cell.name, other.name}
    ledger.release(other.name, first)
    assert ledger.lease(other.name, first, 0.3)
    time.sleep(0.4)
    assert not ledger.lease(cell.name, second, SECONDS)
    assert not ledger.leases()[other.name].active
    assert ledger.lease(other.name, second, SECONDS)
    assert ledger.leases()[other.name].active
    assert ledger.renew(first, SECONDS) == {cell.name}


def test_an_expired_lease_that_nobody_took_is_still_its_owners(ledger: Ledger, cell: Cell) -> None:
    first = elsewhere()
    assert ledger.lease(cell.name, first, 0.0)
    assert ledger.renew(first, SECONDS) == {cell.name}
    assert not ledger.lease(cell.name, Owner.current(), SECONDS)


def test_a_lease_ends_when_its_text_says(ledger: Ledger, cell: Cell) -> None:
    assert ledger.lease(cell.name, elsewhere(), 3600.0)
    expires: Mapping[CellName, Any] = ledger.leases()
    expected = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 3600))
    assert expires[cell.name].expires[:16] in {
        expected,
        time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 3540)),
    }


def test_a_pack_is_written_by_who_leases_its_cell_and_nobody_else(ledger: Ledger, cell: Cell) -> None:
    other = make_cell(batch_size=8)
    ledger.register([cell, other])
    first, second = Owner.current(), Owner.current()
    packs = []
    for leased, owner in ((cell, first), (other, second)):
        assert ledger.lease(leased.name, owner, SECONDS)
        (pack,) = ledger.record_packs(leased.name, "search", [leased.search_trials])
        packs.append(ledger.begin(pack, leased.search_trials, owner))
    for pack in packs:
        ledger.progress(pack, records(pack, [1]))
    ledger.release(cell.name, first)
    assert ledger.lease(cell.name, second, SECONDS)
    lost, held = packs
    for write in (
        lambda: ledger.progress(lost, records(lost, [2])),
        lambda: ledger.finish(lost, outcomes(lost), PROVENANCE),
        lambda: ledger.fail(lost, "late"),
        lambda: ledger.split_pack(lost),
    ):
        with pytest.raises(LeaseLost, match=str(cell.name)):
            write()
    ledger.finish(held, outcomes(held), PROVENANCE)
    assert ledger.outcomes([*lost.keys, *held.keys]) == {
        **dict.fromkeys(lost.keys, "running"),
        **dict.fromkeys(held.keys, "complete"),
    }


def test_leases_are_renewed_from_a_thread_while_another_writes(ledger: Ledger, cell: Cell) -> None:
    owner = Owner.current()
    assert ledger.lease(cell.name, owner, SECONDS)
    pack = begun(ledger, cell, cell.search_trials[:2])
    with ThreadPoolExecutor(1) as thread:
        renewed = [thread.submit(ledger.renew, owner, SECONDS) for _ in range(30)]
        for epoch in range(1, 31):
            ledger.progress(pack, records(pack, [epoch]))
        assert [future.result() for future in renewed] == [{cell.name}] * 30
    assert [row.epochs for row in ledger.trials("demo")] == [30, 30]
