"""What to do about a failed database names the real cause: real faults where they can be made, codes for the others."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import psycopg
import pytest

from lawn_tune.errors import LedgerError
from lawn_tune.ledger import hints, open_ledger
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.hints import POSTGRESQL, SQLITE, hint_for

ROOM = "Free some space"


class Failed(Exception):
    def __init__(self, reason: str = "it failed", **codes: str) -> None:
        super().__init__(reason)
        for name, code in codes.items():
            setattr(self, name, code)


def hint_of(url: str) -> str:
    with pytest.raises(LedgerError) as caught, open_ledger(url) as ledger:
        ledger.trials("any")
    return str(caught.value.hint)


def test_a_table_that_is_missing_is_not_a_full_disk(ledger_url: str) -> None:
    open_ledger(ledger_url).close()
    statement = "DROP TABLE lawn_trials"
    if ledger_url.startswith("sqlite"):
        with sqlite3.connect(ledger_url.removeprefix("sqlite:///")) as file:
            file.execute(statement)
        file.close()
    else:
        with psycopg.connect(ledger_url, autocommit=True) as server:
            server.execute(f"{statement} CASCADE")
    assert hint_of(ledger_url) == hints.CHANGED


def test_a_damaged_file_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    open_ledger(f"sqlite:///{path}").close()
    content = path.read_bytes()
    path.write_bytes(content[:200] + bytes(len(content) - 200))
    assert "damaged" in hint_of(f"sqlite:///{path}")


def test_a_replica_is_called_one(postgres_url: str) -> None:
    assert hint_of(f"{postgres_url}&options=-cdefault_transaction_read_only%3Don") == hints.REPLICA


@pytest.mark.parametrize("name", [*SQLITE, *(f"{name}_OF_SOME_KIND" for name in SQLITE), "SQLITE_INTERNAL", ""])
def test_only_a_full_file_system_wants_room(name: str) -> None:
    hint = hint_for(Failed(sqlite_errorname=name), Path("/a/b/x.db"))
    assert (ROOM in hint) == name.startswith("SQLITE_FULL")
    assert "{" not in hint


def test_a_reason_of_several_lines_is_one_line_of_sentences() -> None:
    refused = 'connection to server at "::1", port 1 failed: Connection refused'
    asked = "Is the server running on that host and accepting TCP/IP connections?"
    database = Database("postgresql://me@localhost/lawn")
    for text, shown in (
        (f"{refused}\n\t{asked}\n", f"{refused}. {asked}"),
        (f"Multiple attempts failed. All failures were:\n- {refused}\n  {asked}\n- it\n", None),
        ("FATAL:  no such\n  database", "FATAL: no such database"),
    ):
        shown = shown or f"Multiple attempts failed. All failures were: - {refused}. {asked} - it"
        assert database.failure(text).message == f"ledger postgresql://me@localhost/lawn: {shown}"


@pytest.mark.parametrize("state", [*POSTGRESQL, "99999", ""])
def test_only_a_full_server_wants_room(state: str) -> None:
    hint = hint_for(Failed(sqlstate=f"{state:0<5}" if state else ""), None)
    assert (ROOM in hint) == (state == "53100")
    assert hint == POSTGRESQL.get(state, hint)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("FATAL:  query_wait_timeout", "no connection free"),
        ("FATAL:  no more connections allowed (max_client_conn)", "no connection free"),
        ("FATAL:  unsupported startup parameter: options", "ALTER ROLE NAME SET search_path"),
        ("FATAL:  no such database: lawn", "pgbouncer's [databases]"),
        ("FATAL:  server login has been failing, try again later (server_login_retry)", "log of pgbouncer"),
        ('FATAL:  password authentication failed for user "me"', "PGPASSWORD"),
        ("connection timeout expired", "pg_isready"),
    ],
)
def test_a_server_without_a_code_is_known_by_its_words(reason: str, words: str) -> None:
    assert words in hint_for(Failed(reason), None)
