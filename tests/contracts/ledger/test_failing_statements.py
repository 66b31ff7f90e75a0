"""Whatever statement fails, no study holds a key twice."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

from lawn_tune.errors import LedgerError
from lawn_tune.ledger import Ledger
from lawn_tune.ledger.database import Database
from tests.helpers.ledger_contract import PROVENANCE, begun, make_cell, outcomes


class Killed(BaseException):
    """Stands for the end of a process: nothing after it runs."""


@contextmanager
def faults_at(moment: int, fault: str) -> Iterator[list[int]]:
    """Breaks statement or commit number `moment`: "once", it and all after it ("outage"), or the process ("killed").

    A commit counts twice: before the database does it, and after, when only its answer is lost. Yields their number.
    """
    seen, commit = [0], Connection._commit_impl

    def step(*_: object) -> None:
        seen[0] += 1
        if fault == "killed" and seen[0] == moment:
            raise Killed
        if seen[0] == moment or (fault == "outage" and seen[0] > moment):
            raise OperationalError("", {}, sqlite3.OperationalError("database is locked"))

    def answered(connection: Connection) -> None:
        commit(connection)
        step()

    event.listen(Engine, "before_cursor_execute", step)
    event.listen(Engine, "commit", step)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Connection, "_commit_impl", answered)
            yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", step)
        event.remove(Engine, "commit", step)


@pytest.mark.long
@pytest.mark.parametrize("fault", ["once", "outage", "killed"])
@pytest.mark.parametrize("rebuilt", [False, True], ids=["study fits", "study is rebuilt"])
def test_whatever_statement_fails_no_study_holds_a_key_twice(
    ledger: Ledger, ledger_url: str, fault: str, rebuilt: bool
) -> None:
    lrs = tuple(i / 1000 for i in range(1, 100))
    ledger.register([make_cell(lrs=lrs)])
    ledger.reconcile(make_cell(lrs=lrs).name)  # creates Optuna's tables
    database = Database(ledger_url)
    for i, moment in enumerate(range(1, 100, 5 if rebuilt else 1)):
        cell = make_cell(lrs=lrs, selection="test" if rebuilt and i % 2 else "validation")
        ledger.register([cell])
        if not rebuilt:
            ledger.reconcile(cell.name)
        pack = begun(ledger, cell, cell.search_trials[i : i + 1])
        with faults_at(moment, fault) as seen, suppress(Killed, LedgerError):
            ledger.finish(pack, outcomes(pack), PROVENANCE)
        assert set(shown(database).values()) <= {1}
        if fault != "killed":
            ledger.finish(pack, outcomes(pack), PROVENANCE)
        ledger.reconcile(cell.name)
        assert shown(database) == {row.key: 1 for row in ledger.trials("demo") if row.outcome == "complete"}
        if seen[0] < moment:
            break
    database.close()
    assert i > 5
    assert rebuilt or seen[0] < moment  # what a rebuild writes grows with the trials


def shown(database: Database) -> Counter[str]:
    """How often each key is in the studies, read faster than Optuna does."""
    with database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT value_json FROM trial_user_attributes WHERE key = 'key'").all()
    return Counter(json.loads(text) for (text,) in rows)
