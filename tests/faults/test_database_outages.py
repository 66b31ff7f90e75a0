"""A ledger that cannot be reached for a while is waited for; nothing is lost, and nothing trained again."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.drivers import Driver, Results, Study, assert_same, assert_trained_once
from tests.helpers.servers import Server
from tests.helpers.sufferings import slow, slow_and_impatient

StudyAt = Callable[[str], Study]
LEASE, OUTAGE = 2.0, 20.0
"""Seconds: nobody can renew a lease in an outage that is longer."""


@pytest.fixture
def server(postgres_url: str) -> Iterator[Server]:
    server = Server(postgres_url)
    yield server
    if not (server.folder / "postmaster.pid").exists():
        server.start()


@contextmanager
def locked(study: Study) -> Iterator[None]:
    """Another program writes to the SQLite file, and takes its time."""
    connection = sqlite3.connect(Path(study.url.removeprefix("sqlite:///")), timeout=30, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


def said_once(driver: Driver, words: str) -> bool:
    waiting, back = driver.errors.count("waiting for it"), driver.errors.count("the ledger is back")
    return words in driver.errors and waiting == back == 1


def test_a_server_that_restarts_is_waited_for(server: Server, study_at: StudyAt, undisturbed: Results) -> None:
    study = study_at(server.url)
    drivers = [study.start(lease=LEASE, change=slow) for _ in range(2)]
    study.wait_for(lambda: len(study.owners()) == 2)
    server.stop()
    time.sleep(OUTAGE)
    server.start()
    assert [driver.end() for driver in drivers] == [0, 0], [driver.errors for driver in drivers]
    assert all(said_once(driver, "ledger postgresql") for driver in drivers), [driver.errors for driver in drivers]
    assert_same(study, undisturbed)
    assert_trained_once(study)


def test_connections_that_are_cut_again_and_again_cost_nothing(
    server: Server, study_at: StudyAt, undisturbed: Results
) -> None:
    study = study_at(server.url)
    driver = study.start(change=slow)
    study.wait_for(lambda: study.epochs() > 0)
    cut = 0
    while driver.running:
        cut += server.cut()
        time.sleep(0.2)
    assert driver.end() == 0, driver.errors
    assert cut > 10
    assert_same(study, undisturbed)
    assert_trained_once(study)


def test_a_file_that_another_program_locks_is_waited_for(
    sqlite_url: str, study_at: StudyAt, undisturbed: Results
) -> None:
    study = study_at(sqlite_url)
    driver = study.start(lease=LEASE, change=partial(slow_and_impatient, 60.0))
    study.wait_for(lambda: study.epochs() > 0)
    with locked(study):
        time.sleep(2 * LEASE)
    assert driver.end() == 0, driver.errors
    assert said_once(driver, "database is locked"), driver.errors
    assert_same(study, undisturbed)
    assert_trained_once(study)


def test_a_ledger_that_does_not_come_back_ends_the_launch_with_one_error(
    ledger_url: str, server: Server, study_at: StudyAt, undisturbed: Results
) -> None:
    study = study_at(ledger_url)
    driver = study.start(change=partial(slow_and_impatient, 1.0))
    study.wait_for(lambda: study.epochs() > 30)
    if ledger_url == server.url:
        server.stop()
        code = driver.end()
        server.start()
    else:
        with locked(study):
            code = driver.end()
    assert code == 3
    assert driver.errors.count("error: ledger") == 1
    assert driver.errors.count("hint: ") == 1
    assert "the same command continues" in driver.errors
    assert "Traceback" not in driver.errors
    study.launch()
    assert_same(study, undisturbed)
    assert_trained_once(study, but=2)
