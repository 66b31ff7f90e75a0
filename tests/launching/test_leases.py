"""Leases that are lost, robbed or out of reach: a launch never waits for itself, and trains each key once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawn_tune.cells import Cell, CellName
from lawn_tune.errors import LedgerError
from lawn_tune.executors.base import Event, Failed, Job, Nothing, Progress
from lawn_tune.launching.launch import Launch
from lawn_tune.launching.leases import LEASE_SECONDS, Heartbeat, HeldLeases
from lawn_tune.ledger import Owner
from tests.helpers.fakes import Recorder, succeed
from tests.helpers.lease_ledger import LeaseLedger
from tests.helpers.tiny import TWO_CELLS, TWO_CELLS_TRIALS, tiny_cells

pytestmark = pytest.mark.timeout(60)  # what waits forever is ended, and fails
OWNER, OTHER = Owner.current(), Owner.current()


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cell, ...]:
    return tiny_cells(tmp_path_factory.mktemp("space"), TWO_CELLS)


def beat(agenda: Launch) -> None:
    """What the heartbeat does once."""
    with suppress(LedgerError):
        agenda.leases.renew()


def launch(cells: tuple[Cell, ...], ledger: LeaseLedger, owner: Owner = OWNER) -> Launch:
    ledger.cells = cells
    store: Any = ledger
    return Launch(cells, store, owner, Recorder(), pack_size=1, clock=ledger.clock)


def rob(ledger: LeaseLedger, cell: Cell) -> None:
    """Another launch takes a cell, as it may once the lease has expired."""
    ledger.ends[cell.name] = (OTHER.token, ledger.clock() + LEASE_SECONDS)


def next_job(agenda: Launch) -> Job:
    job = agenda.next_job()
    assert isinstance(job, Job), job
    return job


def test_while_a_lost_cells_job_still_runs_the_next_cell_has_its_turn(cells: tuple[Cell, ...]) -> None:
    ledger = LeaseLedger()
    agenda = launch(cells, ledger)
    first = next_job(agenda)
    rob(ledger, cells[0])
    agenda.leases.renew()
    assert not agenda.wanted(first)
    for _ in range(3):
        assert next_job(agenda).config.task.optimizer == cells[1].name.optimizer
    assert agenda.next_job() is Nothing.NOW
    agenda.handle(Failed(first, "stopped", "no longer wanted"))
    assert agenda.next_job() is Nothing.NOW, "the other launch has the cell"


def test_a_lost_cell_is_taken_up_again_once_it_is_given_back(cells: tuple[Cell, ...]) -> None:
    ledger = LeaseLedger()
    agenda = launch(cells[:1], ledger)
    first = next_job(agenda)
    rob(ledger, cells[0])
    agenda.handle(Progress(first, []))  # the ledger refuses it
    assert not agenda.wanted(first)
    agenda.handle(Failed(first, "stopped", "no longer wanted"))
    assert agenda.next_job() is Nothing.NOW
    ledger.release(cells[0].name, OTHER)
    ledger.clock.now += 1.0
    assert next_job(agenda).pack == first.pack


def test_after_an_outage_who_worked_on_a_cell_has_time_to_renew(cells: tuple[Cell, ...]) -> None:
    """However long it was: half a lease from its end on, not from when it was noticed."""
    ledger = LeaseLedger()
    agenda = launch(cells[:1], ledger)
    rob(ledger, cells[0])
    assert agenda.next_job() is Nothing.NOW
    end = ledger.clock() + 1.3 * LEASE_SECONDS
    ledger.down = [(ledger.clock(), end)]
    while agenda.next_job() is Nothing.NOW:
        ledger.clock.now += 1.0
    assert ledger.clock() >= end + LEASE_SECONDS / 2


@dataclass
class Workers:
    """Runs several jobs at once, one event of one of them after another."""

    agenda: Launch
    count: int
    running: dict[str, tuple[Job, Iterator[Event]]] = field(default_factory=dict)

    def fill(self) -> bool:
        """Begins what may be begun; False once there is nothing to do any more."""
        while len(self.running) < self.count:
            job = self.agenda.next_job()
            if isinstance(job, Nothing):
                return job is Nothing.NOW or bool(self.running)
            self.running[job.pack] = (job, iter(succeed(job)))
        return True

    def step(self, which: int) -> None:
        if self.running:
            job, events = list(self.running.values())[which % len(self.running)]
            event = next(events) if self.agenda.wanted(job) else Failed(job, "stopped", "no longer wanted")
            if not isinstance(event, Progress):
                del self.running[job.pack]
            self.agenda.handle(event)


STOPS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 60), st.integers(1, 60)), max_size=5)
"""Launch, step, and the steps that it is stopped for."""
OUTAGES = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 100)), max_size=2)
"""Beginning and length, s."""


@settings(deadline=None, max_examples=150)
@given(stops=STOPS, outages=OUTAGES, counts=st.tuples(st.integers(1, 4), st.integers(1, 4)), pause=st.floats(0.1, 3.0))
def test_two_launches_that_are_stopped_and_cut_off_end_with_each_key_stored_once(
    stops: list[tuple[int, int, int]],
    outages: list[tuple[int, int]],
    counts: tuple[int, int],
    pause: float,
    cells: tuple[Cell, ...],
) -> None:
    ledger = LeaseLedger()
    ledger.down = [(ledger.clock() + start, ledger.clock() + start + length) for start, length in outages]
    drivers = [Workers(launch(cells, ledger, owner), n) for owner, n in zip((OWNER, OTHER), counts, strict=True)]
    open_drivers, step = list(drivers), 0
    while open_drivers:
        assert step < 3000, "a launch waits forever"
        for number, workers in enumerate(drivers):
            stopped = any(at <= step < at + length for which, at, length in stops if which == number)
            if workers not in open_drivers or stopped:
                continue
            beat(workers.agenda)
            if workers.fill():
                workers.step(step)
            else:
                workers.agenda.close()
                open_drivers.remove(workers)
        ledger.clock.now += pause
        step += 1
    assert not ledger.ends
    assert len(ledger.finished) == TWO_CELLS_TRIALS
    assert set(ledger.finished.values()) == {1}


# --- renewing --------------------------------------------------------------------------------------------------------

CELL = CellName("tiny", "adam", 64)


def held(ledger: LeaseLedger) -> HeldLeases:
    store: Any = ledger
    leases = HeldLeases(store, OWNER)
    assert leases.take(CELL)
    return leases


def left_at_renewals(ledger: LeaseLedger, seconds: float) -> list[float]:
    """Lets a heartbeat run for a time; returns how long the lease had left each time before it was renewed, s."""
    leases, left, end = held(ledger), [], ledger.clock() + seconds

    def wait(pause: float) -> bool:
        ledger.clock.now += pause
        left.append(ledger.ends[CELL][1] - ledger.clock())
        return ledger.clock() >= end

    with Heartbeat(leases, wait) as heartbeat:
        heartbeat._thread.join()
    assert leases.holds(CELL)
    return left


def test_a_lease_is_renewed_so_early_that_it_outlasts_two_renewals_that_fail() -> None:
    pause = LEASE_SECONDS - min(left_at_renewals(LeaseLedger(), 20 * LEASE_SECONDS))
    assert 0 < 3 * pause < LEASE_SECONDS


def test_after_an_outage_leases_are_renewed_within_seconds() -> None:
    ledger = LeaseLedger()
    back = ledger.clock() + 7 * LEASE_SECONDS
    ledger.down = [(ledger.clock() + LEASE_SECONDS, back)]
    left_at_renewals(ledger, 7 * LEASE_SECONDS + 2.5)
    assert back + LEASE_SECONDS <= ledger.ends[CELL][1]


def test_a_renewal_that_took_long_takes_no_newer_lease_for_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = LeaseLedger()
    leases, renew = held(ledger), ledger.renew

    def slow(owner: Owner, seconds: float) -> frozenset[CellName]:
        leases.give_back(CELL)
        kept = renew(owner, seconds)
        leases.take(CELL)
        return kept

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "renew", slow)
        leases.renew()
    assert leases.holds(CELL)
    ledger.ends.clear()
    leases.renew()
    assert not leases.holds(CELL)
