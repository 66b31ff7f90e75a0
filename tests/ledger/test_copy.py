"""Copies of a ledger: whatever can be read is the same, and one that was killed is no ledger until it is completed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from sqlalchemy import inspect, text
from typer.testing import CliRunner

from benchmarks import big_ledger
from lawn_tune.cli.main import app
from lawn_tune.errors import LedgerError, UsageError
from lawn_tune.ledger import Owner, open_ledger
from lawn_tune.ledger.copying import Copy, copy_ledger
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.definitions import UNFINISHED, VERSION_TABLE
from lawn_tune.results import FINISHED
from tests.helpers.ledger_answers import comparison, jobs, read, studies
from trainables.outcomes import TrialOutcome


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Finished, diverged, failed and running trials, two spaces, and one trial that failed before it finished."""
    url = f"sqlite:///{tmp_path_factory.mktemp('source')}/ledger.db"
    big_ledger.write(url, trials=48, epochs=6, spaces=2, optuna=True)
    with open_ledger(url) as ledger:
        cell = ledger.cells("big")[-1]
        trials = {trial.key: trial for trial in cell.search_trials}
        failed = next(pack for pack in ledger.packs(cell.name, "search") if pack.state == "failed")
        begun = ledger.begin(failed, [trials[key] for key in failed.keys])
        ledger.finish(begun, [_outcome(key) for key in begun.keys], {"device": "cpu", "host": "größe\0"})
    return url


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ledger whose studies were never written."""
    url = f"sqlite:///{tmp_path_factory.mktemp('bare')}/ledger.db"
    big_ledger.write(url, trials=48, epochs=6)
    return url


def _outcome(key: str) -> TrialOutcome:
    summary = {"last/validation/accuracy": 12.5, "ece": float("nan"), "seconds": 1.0}
    return TrialOutcome(key=key, outcome="complete", epochs=6, summary=summary, examples=b"\xb0", example_count=4)


def copied(source: str, target: str) -> Copy:
    return copy_ledger(source, target, lambda what, done, total: None)


# --- what can be read is the same ------------------------------------------------------------------------------------


@pytest.mark.long
def test_there_and_back_nothing_is_lost(source: str, postgres_url: str, tmp_path: Path) -> None:
    back = f"sqlite:///{tmp_path}/back.db"
    there = copied(source, postgres_url)
    again = copied(postgres_url, back)
    assert (there.rows, there.studies, there.digest) == (again.rows, again.studies, again.digest)
    assert there.rows["lawn_progress"] > 0
    assert there.rows["lawn_examples"] > 0
    expected, shown = read(source), studies(source)
    assert read(postgres_url) == expected
    assert read(back) == expected
    assert studies(postgres_url) == shown
    assert studies(back) == shown
    assert any(len(trials) > 3 for trials in shown.values())
    for space in expected["spaces"]:
        assert comparison(back, space) == comparison(postgres_url, space) == comparison(source, space)


def test_a_study_keeps_what_its_trials_went_through(source: str) -> None:
    """The trial that failed first has both results, which a study rebuilt from our tables would not show."""
    found = [trial for trials in studies(source).values() for trial in trials[1:]]
    keys = [trial.partition("('key', '")[2][:16] for trial in found]
    assert len(keys) > len(set(keys))


def test_a_launch_trains_nothing_that_the_source_had(bare: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/copy.db"
    copied(bare, url)
    with open_ledger(url) as ledger:
        done = {row.key for space in ledger.spaces() for row in ledger.trials(space) if row.outcome in FINISHED}
    wanted = jobs(url)
    assert done.isdisjoint(key for keys in wanted.values() for key in keys)
    open_cells = {cell for cell, keys in wanted.items() if keys}
    assert len(open_cells) == 1, "the last cell is not finished"
    with open_ledger(url) as ledger:
        assert {str(ledger.cells(space)[-1].name) for space in ledger.spaces()} == open_cells


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_target_with_results_is_left_as_it_is(bare: str, ledger_url: str) -> None:
    copied(bare, ledger_url)
    before = read(ledger_url)
    with pytest.raises(LedgerError, match="holds trials already") as caught:
        copied(bare, ledger_url)
    assert "Name a new file" in str(caught.value.hint)
    assert read(ledger_url) == before


def test_a_study_of_another_program_is_not_overwritten(source: str, sqlite_url: str) -> None:
    name = sorted(studies(source))[0]
    optuna.create_study(study_name=name, storage=sqlite_url)
    with pytest.raises(LedgerError, match=f"an Optuna study '{name}' already"):
        copied(source, sqlite_url)
    with pytest.raises(LedgerError, match="there is no ledger"):
        read(sqlite_url)


def test_a_ledger_that_a_launch_works_on_is_not_copied(bare: str, tmp_path: Path) -> None:
    url, target = f"sqlite:///{tmp_path}/busy.db", tmp_path / "copy.db"
    copied(bare, url)
    with open_ledger(url) as ledger:
        cell, owner = ledger.cells("big")[0].name, Owner.current()
        assert ledger.lease(cell, owner, 60)
        with pytest.raises(LedgerError, match=f"a launch works on {cell}") as caught:
            copied(url, f"sqlite:///{target}")
        assert "stop it" in str(caught.value.hint)
        assert not target.exists()
        ledger.release(cell, owner)
    assert copied(url, f"sqlite:///{target}").rows["lawn_trials"] > 0


def test_a_ledger_that_is_written_meanwhile_makes_no_copy(bare: str, tmp_path: Path) -> None:
    url, target = f"sqlite:///{tmp_path}/moving.db", f"sqlite:///{tmp_path}/copy.db"
    copied(bare, url)

    def write(what: str, done: float, total: float) -> None:
        if what == "copying rows" and done == total:
            with open_ledger(url) as ledger:
                ledger.register(ledger.cells("big"))

    with pytest.raises(LedgerError, match="was written while it was copied"):
        copy_ledger(url, target, write)
    with pytest.raises(LedgerError, match="a copy that was not finished"):
        read(target)
    copied(url, target)
    assert read(target) == read(url)


def test_a_copy_needs_a_ledger_and_another_place(bare: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both ledgers are"):
        copied(bare, bare)
    with pytest.raises(LedgerError, match="there is no ledger"):
        copied(f"sqlite:///{tmp_path}/none.db", f"sqlite:///{tmp_path}/copy.db")
    assert list(tmp_path.iterdir()) == []


# --- death -----------------------------------------------------------------------------------------------------------


def state(url: str) -> tuple[str, int, int]:
    """The revision, and how many trials and studied trials there are; read while another process writes."""
    tables = {VERSION_TABLE: "max(version_num)", "lawn_trials": "count(*)", "trials": "count(*)"}
    database = Database(url)
    try:
        with database.reading() as connection:
            here = inspect(connection).get_table_names()
            found = [connection.execute(text(f"SELECT {v} FROM {t}")).scalar() for t, v in tables.items() if t in here]
    finally:
        database.close()
    revision, rows, shown = [*found, 0, 0, 0][:3]
    return str(revision), int(rows or 0), int(shown or 0)


def start(source: str, target: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lawn_tune.cli.main", "ledger", "copy", source, target]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def kill_when(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, "the copy ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)


@pytest.mark.long
def test_a_copy_that_is_killed_is_no_ledger_and_the_same_command_completes_it(source: str, ledger_url: str) -> None:
    for studied in (1, 20):
        process = start(source, ledger_url)
        kill_when(process, lambda studied=studied: state(ledger_url)[2] >= studied)  # type: ignore[misc]
        assert state(ledger_url)[0] == UNFINISHED
        for create in (True, False):
            with pytest.raises(LedgerError, match="a copy that was not finished") as caught:
                open_ledger(ledger_url, create)
            assert "ledger copy FROM TO" in str(caught.value.hint)
    process = start(source, ledger_url)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    assert b"read back and equal" in out
    assert read(ledger_url) == read(source)
    assert studies(ledger_url) == studies(source)


def test_an_error_in_the_middle_of_the_rows_leaves_none(bare: str, sqlite_url: str) -> None:
    def fail(what: str, done: float, total: float) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_ledger(bare, sqlite_url, fail)
    assert state(sqlite_url)[:2] == (UNFINISHED, 0)
    copied(bare, sqlite_url)
    assert read(sqlite_url) == read(bare)


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_shows_no_password(bare: str, postgres_url: str) -> None:
    environment = {"PGPASSWORD": "c4nary"}
    result = CliRunner().invoke(app, ["ledger", "copy", bare, postgres_url], env=environment)
    assert result.exit_code == 0, result.output
    assert "0 Optuna studies" in result.output
    again = CliRunner().invoke(app, ["ledger", "copy", bare, postgres_url], env=environment)
    assert again.exit_code == 3
    refused = CliRunner().invoke(app, ["ledger", "copy", bare, postgres_url.replace("postgres:@", "postgres:c4nary@")])
    assert refused.exit_code == 2
    assert "a password in a storage URL is refused" in refused.output
    assert "c4nary" not in result.output + again.output + refused.output
