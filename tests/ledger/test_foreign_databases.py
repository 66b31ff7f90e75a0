"""A database that holds another program's tables is refused before anything is written; a schema of its own works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from lawn_tune.cli.doctor.database import ledger as doctor_of
from lawn_tune.errors import LedgerError
from lawn_tune.ledger import open_ledger
from lawn_tune.ledger.copying import copy_ledger
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.studies import Studies
from lawn_tune.ledger.temporary import temporary_ledger
from lawn_tune.settings import resolve

MLFLOW = ("CREATE TABLE alembic_version (version_num TEXT)", "INSERT INTO alembic_version VALUES ('451aebb31d03')")
TRIALS = ("CREATE TABLE trials (id INTEGER PRIMARY KEY, patient TEXT)",)
OTHER = ("CREATE TABLE customers (id INTEGER PRIMARY KEY)",)
STUDIES = ("CREATE TABLE studies (study_id INTEGER PRIMARY KEY)", *OTHER)


def smoke_run(url: str) -> None:
    with temporary_ledger(url):
        pass


OPENERS: dict[str, Callable[[str, Path], object]] = {
    "launch": lambda url, folder: open_ledger(url),
    "read": lambda url, folder: open_ledger(url, create=False),
    "smoke run": lambda url, folder: smoke_run(url),
    "copy": lambda url, folder: copy_ledger(f"sqlite:///{folder}/source.db", url, lambda *progress: None),
}


def write(url: str, statements: Sequence[str]) -> None:
    database = Database(url)
    with database.writing() as connection:
        for statement in statements:
            connection.execute(text(statement))
    database.close()


def tables(url: str) -> set[str]:
    database = Database(url)
    with database.reading() as connection:
        found = set(inspect(connection).get_table_names())
    database.close()
    return found


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize(
    ("statements", "name"),
    [(MLFLOW, "alembic_version"), (TRIALS, "trials"), (OTHER, "customers"), (STUDIES, "customers")],
)
def test_it_is_refused_and_left_alone(
    ledger_url: str, tmp_path: Path, statements: Sequence[str], name: str, opener: str
) -> None:
    open_ledger(f"sqlite:///{tmp_path}/source.db").close()
    write(ledger_url, statements)
    before = tables(ledger_url)
    with pytest.raises(LedgerError, match=rf"tables of another program \({name}\)") as caught:
        OPENERS[opener](ledger_url, tmp_path)
    assert ("search_path" if ledger_url.startswith("postgresql") else "another file") in str(caught.value.hint)
    assert tables(ledger_url) == before
    check = doctor_of(resolve({"storage": ledger_url}, environ={}))[-1]
    assert (check.state, check.todo) == ("fail", caught.value.hint)
    assert tables(ledger_url) == before


def test_a_ledger_stays_one_when_another_program_comes_later(ledger_url: str) -> None:
    open_ledger(ledger_url).close()
    write(ledger_url, OTHER)
    with open_ledger(ledger_url) as ledger:
        assert ledger.spaces() == ()


@pytest.mark.parametrize("equals", ["=", "%3D"])
def test_a_schema_of_its_own_is_apart_from_other_programs(postgres_url: str, equals: str) -> None:
    url = f"{postgres_url}&options=-csearch_path{equals}lawn"
    write(postgres_url, (*MLFLOW, *TRIALS, "DROP SCHEMA IF EXISTS lawn CASCADE"))
    with pytest.raises(LedgerError) as caught:
        open_ledger(url)
    assert "CREATE SCHEMA" in str(caught.value.hint), "the real cause: there is no such schema"
    write(postgres_url, ("CREATE SCHEMA lawn",))
    with open_ledger(url) as ledger:
        assert ledger.spaces() == ()
    database = Database(url)
    studies = Studies(database)
    studies.open()
    studies.close()
    database.close()
    assert {"lawn_trials", "studies", "trials"} <= tables(url)
    assert tables(postgres_url) == {"alembic_version", "trials"}
    write(postgres_url, ("DROP SCHEMA lawn CASCADE",))
