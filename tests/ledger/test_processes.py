"""Invariants of a ledger that several processes use, and that may be killed at any moment."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from sqlalchemy import Engine, event

from lawn_tune.cells import Cell
from lawn_tune.ledger import Ledger, Owner, PackRow, open_ledger
from lawn_tune.ledger.database import Database
from tests.helpers.ledger_contract import make_cell
from trainables.outcomes import EpochRecord, TrialOutcome

pytestmark = pytest.mark.long

EPOCHS = 3
SECONDS = 60.0

Queue = Any
"""A queue of a multiprocessing context; its type is not generic at run time."""


def cell_of(batch_size: int = 64, points: int = 4) -> Cell:
    lrs = [i / 1000 for i in range(1, points + 1)]
    return make_cell(batch_size=batch_size, lrs=lrs, epochs=EPOCHS, weight_decay=(0.0,))


def value(key: str, epoch: int) -> float:
    return int(key[:4], 16) + epoch / 8


def work(ledger: Ledger, cell: Cell, owner: Owner) -> None:
    """What a driver does with a cell: whatever the ledger lacks, two trials a pack."""
    assert ledger.lease(cell.name, owner, SECONDS)
    ledger.reconcile(cell.name)
    trials = cell.search_trials
    planned = [trials[i : i + 2] for i in range(0, len(trials), 2)]
    by_key = {trial.key: trial for trial in trials}
    for pack in ledger.record_packs(cell.name, "search", planned):
        if set(ledger.outcomes(pack.keys).values()) != {"complete"}:
            begun = ledger.begin(pack, [by_key[key] for key in pack.keys])
            for epoch in range(1, EPOCHS + 1):
                ledger.progress(begun, [record(begun, epoch)])
            ledger.finish(begun, [outcome(key) for key in begun.keys], {"device": "cpu"})
    ledger.release(cell.name, owner)


def record(pack: PackRow, epoch: int) -> EpochRecord:
    return EpochRecord(epoch=epoch, series={"validation/accuracy": [value(key, epoch) for key in pack.keys]})


def outcome(key: str) -> TrialOutcome:
    summary = {"last/validation/accuracy": value(key, EPOCHS)}
    return TrialOutcome(key=key, outcome="complete", epochs=EPOCHS, summary=summary, examples=b"\xa0", example_count=4)


def assert_whole(url: str, cell: Cell, failed: Sequence[str] = ()) -> None:
    """Each key once in our table and once in its study, with its whole curve and its examples.

    Args:
        url, cell: of which every search trial is finished.
        failed: keys that had failed before, which the study still shows.
    """
    keys = [trial.key for trial in cell.search_trials]
    with open_ledger(url, create=False) as ledger:
        rows = [row for row in ledger.trials("demo") if row.cell == str(cell.name)]
        curves, examples = ledger.curves(keys), ledger.examples(keys)
    assert [row.key for row in rows] == keys
    assert {row.outcome for row in rows} == {"complete"}
    assert [row.summary["last/validation/accuracy"] for row in rows] == [value(key, EPOCHS) for key in keys]
    for key in keys:
        expected = [value(key, epoch) for epoch in range(1, EPOCHS + 1)]
        np.testing.assert_array_equal(curves[key]["validation/accuracy"], expected)
        assert examples[key].tolist() == [True, False, True, False]
    shown = [(key, "COMPLETE") for key in keys] + [(key, "FAIL") for key in failed]
    assert studied(url, str(cell.name)) == Counter(shown)


def studied(url: str, name: str) -> Counter[tuple[str, str]]:
    storage = optuna.storages.RDBStorage(Database(url).url.render_as_string(hide_password=False))
    trials = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    storage.remove_session()
    storage.engine.dispose()
    return Counter((trial.user_attrs["key"], trial.state.name) for trial in trials)


# --- several processes at once -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lawn_tune.ledger"])
    return context


@contextmanager
def started(
    processes: ForkServerContext, target: Any, *arguments: tuple[Any, ...]
) -> Iterator[list[ForkServerProcess]]:
    """One process for each tuple of arguments; none survives the block."""
    running = [processes.Process(target=target, args=some) for some in arguments]
    for process in running:
        process.start()
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.join()


def race_for_cells(url: str, cells: list[Cell], barrier: Barrier, won: Queue) -> None:
    barrier.wait(30)
    with open_ledger(url) as ledger:
        ledger.register(cells)
        owner = Owner.current()
        barrier.wait(30)
        won.put([cell.name for cell in cells if ledger.lease(cell.name, owner, SECONDS)])
        barrier.wait(30)  # a process that ended is dead, and others may take what it leased


def test_of_processes_that_open_and_lease_at_once_each_cell_has_one_winner(
    ledger_url: str, processes: ForkServerContext
) -> None:
    cells = [cell_of(size) for size in range(1, 13)]
    count = 4
    barrier, won = processes.Barrier(count), processes.Queue()
    with started(processes, race_for_cells, *[(ledger_url, cells, barrier, won)] * count):
        winners = Counter(name for _ in range(count) for name in won.get(timeout=60))
    assert winners == Counter({cell.name: 1 for cell in cells})


def take_over(url: str, cell: Cell, barrier: Barrier, won: Queue) -> None:
    with open_ledger(url) as ledger:
        barrier.wait(30)
        won.put(ledger.lease(cell.name, Owner.current(), SECONDS))
        barrier.wait(30)


def test_one_of_several_processes_takes_over_from_a_dead_one(ledger_url: str, processes: ForkServerContext) -> None:
    cell = cell_of()
    with open_ledger(ledger_url) as ledger:
        ledger.register([cell])
    barrier, won = processes.Barrier(2), processes.Queue()
    with started(processes, take_over, (ledger_url, cell, barrier, won)):
        barrier.wait(30)
        assert won.get(timeout=30)
    count = 3
    barrier, won = processes.Barrier(count), processes.Queue()  # the killed one may have held the lock of its queue
    with started(processes, take_over, *[(ledger_url, cell, barrier, won)] * count):
        assert sorted(won.get(timeout=30) for _ in range(count)) == [False, False, True]


def drive(url: str, cell: Cell, done: Queue | None = None) -> None:
    with open_ledger(url) as ledger:
        ledger.register([cell])
        work(ledger, cell, Owner.current())
    if done is not None:
        done.put(str(cell.name))


def test_drivers_of_different_cells_write_at_once(ledger_url: str, processes: ForkServerContext) -> None:
    cells = [cell_of(size, points=6) for size in (1, 2)]
    done = processes.Queue()
    with started(processes, drive, *[(ledger_url, cell, done) for cell in cells]):
        assert sorted(done.get(timeout=90) for _ in cells) == [str(cell.name) for cell in cells]
    for cell in cells:
        assert_whole(ledger_url, cell)


# --- death ---------------------------------------------------------------------------------------------------------


def test_whatever_moment_drivers_are_killed_at_nothing_is_lost_or_doubled(
    ledger_url: str, processes: ForkServerContext
) -> None:
    cell = cell_of(points=40)
    with open_ledger(ledger_url) as ledger:
        ledger.register([cell])
    moments = random.Random(0)
    finished: set[str] = set()
    for _ in range(6):
        with started(processes, drive, (ledger_url, cell)):
            time.sleep(moments.uniform(0.3, 1.0))
        with open_ledger(ledger_url, create=False) as ledger:
            found = {row.key for row in ledger.trials("demo") if row.outcome == "complete"}
        assert found >= finished
        finished = found
    drive(ledger_url, cell)
    assert_whole(ledger_url, cell)


class Death(BaseException):
    """Stands for the end of the process: nothing after it runs, and what was not committed is gone."""


@contextmanager
def dying_at(moment: int) -> Iterator[list[int]]:
    """Dies before statement or commit number `moment` of any engine, Optuna's included; yields what it counted."""
    seen = [0]

    def step(*_: object) -> None:
        seen[0] += 1
        if seen[0] == moment:
            raise Death

    event.listen(Engine, "before_cursor_execute", step)
    event.listen(Engine, "commit", step)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", step)
        event.remove(Engine, "commit", step)


def test_every_moment_of_a_launch_may_be_the_last(tmp_path: Path) -> None:
    cell = cell_of(points=4)
    half = cell.search_trials[:2]
    with open_ledger(f"sqlite:///{tmp_path}/before.db") as ledger:
        ledger.register([cell])
        ledger.reconcile(cell.name)
        (pack,) = ledger.record_packs(cell.name, "search", [half])
        ledger.begin(pack, half)
        ledger.fail(pack, "out of luck")
    owner, deaths = Owner.current(), 0
    for moment in range(1, 10_000, 17):
        url = f"sqlite:///{tmp_path}/{moment}.db"
        shutil.copy(tmp_path / "before.db", tmp_path / f"{moment}.db")
        with open_ledger(url) as ledger, dying_at(moment) as seen:
            try:
                work(ledger, cell, owner)
            except Death:
                deaths += 1
        with open_ledger(url) as ledger:
            work(ledger, cell, owner)
        assert_whole(url, cell, failed=[trial.key for trial in half])
        if seen[0] < moment:
            break
    assert deaths > 10
