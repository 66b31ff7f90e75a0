"""A ledger of an older version: readers leave it alone and say what to do, writers bring it up to date."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from alembic.config import Config
from sqlalchemy import inspect, text
from typer.testing import CliRunner, Result

import lawn_tune.ledger.migrations
from benchmarks import big_ledger
from lawn_tune.cli import ledger as commands
from lawn_tune.cli.main import app
from lawn_tune.errors import LedgerError
from lawn_tune.ledger import Owner, open_ledger, schema, upgrade
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.definitions import REVISION
from lawn_tune.ledger.temporary import temporary_ledger

LATER = f'''
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", "{REVISION}", None, None


def upgrade() -> None:
    op.create_table("lawn_later", sa.Column("name", sa.Text, primary_key=True))
'''


@pytest.fixture
def older(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a ledger of today, seen by a version that has one migration more."""
    big_ledger.write(ledger_url, trials=12, epochs=2)
    there = Path(lawn_tune.ledger.migrations.__file__).parent
    later = shutil.copytree(there, tmp_path / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    (later / "versions" / "9999_later.py").write_text(LATER)
    config = Config()
    config.set_main_option("script_location", str(later))
    config.set_main_option("path_separator", "os")
    monkeypatch.setattr(upgrade, "_config", lambda: config)
    monkeypatch.setattr(schema, "REVISION", "9999")
    monkeypatch.setattr(commands, "REVISION", "9999")
    return ledger_url


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def tables(url: str) -> set[str]:
    database = Database(url)
    with database.reading() as connection:
        found = set(inspect(connection).get_table_names())
        found.add(str(schema.current_revision(connection)))
    database.close()
    return found


@pytest.mark.parametrize("command", [("status",), ("compare", "big"), ("export", "big")])
def test_readers_say_how_to_bring_it_up_to_date_and_write_nothing(older: str, command: tuple[str, ...]) -> None:
    before = tables(older)
    result = run(*command, "--storage", older)
    assert result.exit_code == 3
    assert f"written by an older lawn_tune: its schema is '{REVISION}', this version reads '9999'" in result.stderr
    assert "lawn-tune ledger upgrade" in result.stderr
    assert tables(older) == before


def test_the_command_brings_it_up_to_date_with_all_it_holds(older: str) -> None:
    result = run("ledger", "upgrade", "--storage", older)
    assert result.exit_code == 0, result.output
    assert f"went from schema {REVISION} to 9999" in result.stdout
    assert {"lawn_later", "9999"} <= tables(older)
    with open_ledger(older, create=False) as ledger:
        assert len(ledger.trials("big")) > 10
    assert "is up to date: schema 9999" in run("ledger", "upgrade", "--storage", older).stdout


def test_a_writer_brings_it_up_to_date_by_itself(older: str) -> None:
    with open_ledger(older) as ledger:
        assert ledger.spaces() == ("big",)
    assert "9999" in tables(older)


def test_nothing_changes_under_a_launch_of_the_older_version(older: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner.current()
    with monkeypatch.context() as past:
        past.setattr(schema, "REVISION", REVISION)
        driver = open_ledger(older)
    cell = driver.cells("big")[0].name
    assert driver.lease(cell, owner, 60)
    before = tables(older)
    for create in (True, False):
        with pytest.raises(LedgerError, match="by an older lawn_tune"):
            open_ledger(older, create)
    result = run("ledger", "upgrade", "--storage", older)
    assert result.exit_code == 3
    assert "and a launch works on it" in result.stderr
    assert tables(older) == before
    driver.release(cell, owner)
    driver.close()
    assert run("ledger", "upgrade", "--storage", older).exit_code == 0


def test_a_newer_ledger_is_refused_by_the_command_and_by_smoke_runs(ledger_url: str) -> None:
    open_ledger(ledger_url).close()
    database = Database(ledger_url)
    with database.writing() as connection:
        connection.execute(text("UPDATE lawn_alembic_version SET version_num = 'later'"))
    database.close()
    result = run("ledger", "upgrade", "--storage", ledger_url)
    assert result.exit_code == 3
    assert "Upgrade lawn_tune" in result.stderr
    with pytest.raises(LedgerError, match="written by a newer lawn_tune"), temporary_ledger(ledger_url):
        pass


def test_where_there_is_no_ledger_none_is_made(ledger_url: str, tmp_path: Path) -> None:
    result = run("ledger", "upgrade", "--storage", ledger_url)
    assert result.exit_code == 3
    assert "there is no ledger" in result.stderr
    assert list(tmp_path.iterdir()) == []
