"""Opening a ledger: new, old, newer than we are, or no ledger at all; and never a password in any text."""

from __future__ import annotations

import logging
import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import InvalidRequestError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from lawn_tune.errors import LawnTuneError, LedgerError, UsageError
from lawn_tune.ledger import Ledger, database, open_ledger
from lawn_tune.ledger.database import Database, Unreachable, file_system
from lawn_tune.ledger.definitions import PREFIX, REVISION, VERSION_TABLE, metadata
from lawn_tune.storage import StorageUrl, masked

CANARY = "c4n:ary/@{x}%41 &"
QUOTED = "c4n%3Aary%2F%40%7Bx%7D%2541%20%26"


# --- places --------------------------------------------------------------------------------------------------------


def test_a_new_ledger_is_empty_and_can_be_opened_again(ledger_url: str) -> None:
    for create in (True, True, False):
        with open_ledger(ledger_url, create) as ledger:
            assert ledger.spaces() == ()


def test_an_empty_file_becomes_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    with open_ledger(f"sqlite:///{tmp_path}/empty.db") as ledger:
        assert ledger.spaces() == ()


def test_a_reader_makes_nothing(ledger_url: str, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger"):
        open_ledger(ledger_url, create=False)
    assert not list(tmp_path.glob("*.db"))


def test_a_database_of_other_optuna_studies_is_joined(ledger_url: str) -> None:
    with _optuna(ledger_url) as storage:
        optuna.create_study(study_name="other", storage=storage)
        with open_ledger(ledger_url) as ledger:
            assert ledger.spaces() == ()
        assert optuna.get_all_study_names(storage=storage) == ["other"]


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    ledger = open_ledger("sqlite:///here.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with ledger:
        assert ledger.spaces() == ()
    assert (tmp_path / "here.db").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_odd_characters_in_a_path_are_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "a {b} ü '"
    folder.mkdir()
    with open_ledger(f"sqlite:///{folder}/x.db") as ledger:
        assert ledger.spaces() == ()
    assert (folder / "x.db").exists()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("missing/x.db", "there is no folder"),
        ("file/x.db", "there is no folder"),  # below a file: what even root cannot write
        ("folder", "this is a folder, not a file"),
        ("text", "not a database"),
    ],
)
def test_a_place_that_holds_no_database_is_refused(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "text").write_text("Dear diary, " * 400)
    (tmp_path / "folder").mkdir()
    with pytest.raises(LedgerError, match=reason) as caught:
        open_ledger(f"sqlite:///{tmp_path}/{place}")
    assert place in str(caught.value)
    assert caught.value.hint
    assert (tmp_path / "text").read_text().startswith("Dear diary")


def test_a_folder_that_takes_no_files_is_refused() -> None:
    with pytest.raises(LedgerError, match="unable to open") as caught:
        open_ledger("sqlite:////proc/self/ledger.db")
    assert "may be written" in str(caught.value.hint)


MOUNTS = """\
/dev/vda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/me/scratch xfs rw 0 0
//server/share /mnt/with\\040space cifs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/x.db", "ext4"),
        ("/home/me/x.db", "nfs4"),
        ("/home/me/scratch/x.db", "xfs"),
        ("/homes/x.db", "ext4"),
        ("/mnt/with space/x.db", "cifs"),
    ],
)
def test_the_file_system_is_that_of_the_longest_mount_point(path: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert file_system(Path(path), tmp_path / "mounts") == kind
    assert file_system(Path(path), tmp_path / "none") == ""


def test_sqlite_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "file_system", lambda path: "nfs4")
    with pytest.raises(LedgerError, match=r"network file system \(nfs4\)"):
        open_ledger(f"sqlite:///{tmp_path}/x.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "ledger.db",
        "",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=memory",
        "mysql://h/d",
        "postgresql://h:port/d",
    ],
)
def test_a_url_that_names_no_ledger_is_a_usage_error_with_an_example(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_ledger(url)
    assert "sqlite:///lawn-tune.db" in str(caught.value.hint)


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'psycopg'")

    monkeypatch.setattr(database, "create_engine", missing)
    with pytest.raises(LedgerError) as caught:
        open_ledger("postgresql://host/name")
    assert "pip install" in str(caught.value.hint)


# --- settings and migrations ---------------------------------------------------------------------------------------


def test_sqlite_lets_readers_in_while_one_writes(sqlite_url: str) -> None:
    open_ledger(sqlite_url).close()
    opened = Database(sqlite_url)
    with opened.reading() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "foreign_keys")
        }
        found |= {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "busy_timeout")
        }
    opened.close()
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 1, "busy_timeout": 30_000}


def test_migrations_lead_to_the_tables_of_the_code(ledger_url: str) -> None:
    open_ledger(ledger_url).close()
    opened = Database(ledger_url)
    with opened.reading() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    opened.close()
    assert all(name.startswith(PREFIX) for name in metadata.tables)


def test_the_revision_that_needs_no_migration_is_the_newest(ledger_url: str) -> None:
    open_ledger(ledger_url).close()
    opened = Database(ledger_url)
    with opened.reading() as connection:
        made = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one()
    opened.close()
    assert made == REVISION


def test_our_revision_and_that_of_optuna_do_not_meet(ledger_url: str) -> None:
    opened = Database(ledger_url)
    with _optuna(ledger_url) as storage:
        optuna.create_study(study_name="other", storage=storage)
    open_ledger(ledger_url).close()
    with opened.reading() as connection:
        ours = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars().all()
        theirs = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    opened.close()
    assert len(ours) == len(theirs) == 1
    assert ours != theirs


@contextmanager
def _optuna(url: str) -> Iterator[optuna.storages.RDBStorage]:
    """Another program's storage in the same database."""
    storage = optuna.storages.RDBStorage(Database(url).url.render_as_string(hide_password=False))
    yield storage
    storage.remove_session()
    storage.engine.dispose()


@pytest.mark.parametrize("create", [True, False])
def test_a_ledger_from_the_future_is_refused_and_left_alone(ledger_url: str, create: bool) -> None:
    open_ledger(ledger_url).close()
    opened = Database(ledger_url)
    with opened.writing() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(LedgerError, match="newer lawn_tune: its schema is '9999'"):
        open_ledger(ledger_url, create)
    with opened.reading() as connection:
        assert connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() == "9999"
    opened.close()


def test_opening_an_up_to_date_ledger_writes_nothing(sqlite_url: str, tmp_path: Path) -> None:
    open_ledger(sqlite_url).close()
    before = (tmp_path / "ledger.db").read_bytes()
    with sqlite3.connect(tmp_path / "ledger.db") as holder:
        holder.execute("BEGIN IMMEDIATE")  # a writer would have to wait for this one
        open_ledger(sqlite_url, create=False).close()
        open_ledger(sqlite_url).close()
    holder.close()
    assert (tmp_path / "ledger.db").read_bytes() == before


# --- secrets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://me:pw@host:1/db", "postgresql://me:***@host:1/db"),
        ("postgresql://me:p w/@:@host/db", "postgresql://me:***@host/db"),
        ("postgresql://:pw@host/db", "postgresql://:***@host/db"),
        (
            "postgresql+psycopg://host/db?user=me&password=pw&x=1",
            "postgresql+psycopg://host/db?user=me&password=***&x=1",
        ),
        ("postgresql://host/db?sslpassword=pw", "postgresql://host/db?sslpassword=***"),
        ("postgresql://me:pw@host:port?PASSWORD=pw", "postgresql://me:***@host:port?PASSWORD=***"),
        ("postgresql://[::1]:5432/db", "postgresql://[::1]:5432/db"),
        ("postgresql//me:pw@host/db", "postgresql//me:***@host/db"),
        ("foo:pw", "foo:***"),
        ("pw@host", "***@host"),
        ("postgresql://me:pw/db", "postgresql://me:***"),
        ("postgresql:///me:pw@host", "postgresql://***@host"),
        ("postgresql://me:p@w/1@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:1/pw@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host:1/db?password=p@w", "postgresql://host:1/db?password=***"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:c4n@host/db",
        "postgresql://:c4n@host/db",
        "postgresql://me:c4n@et/1@host/db",
        "postgresql://me:c4n@c4n@host/db",
        "postgresql://me:1/c4n@host/db",
        "postgresql:///me:c4n@host",
        "postgresql://me@c4n@host/db",
        "postgresql://host/db?user=me&password=c4n",
        "postgresql://host/db?sslpassword=c4n",
        "postgresql+psycopg://host?PASSWORD=c4n",
        "postgresql://me:c4n@host:port/db?x=1",
    ],
)
def test_a_password_is_refused_unseen(
    url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="a password in a storage URL is refused") as caught:
        open_ledger(url)
    assert all(way in str(caught.value.hint) for way in ("PGPASSWORD", "~/.pgpass", "?service="))
    _assert_silent(caught.value, caplog, capfd)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("postgresql://me@host/db?user=a@b", ("me", "host", None, "db", (("user", "a@b"),))),
        ("postgresql://host:5432/db", (None, "host", 5432, "db", ())),
        ("postgresql://[::1]:5432/db", (None, "::1", 5432, "db", ())),
        ("postgres://m%40e@host", ("m@e", "host", None, None, ())),
        ("postgresql://me:@/db?host=/tmp/a", ("me", None, None, "db", (("host", "/tmp/a"),))),
        ("postgresql:///?service=lawn", (None, None, None, None, (("service", "lawn"),))),
        ("postgresql://host/db?sslkey=/a/b.key", (None, "host", None, "db", (("sslkey", "/a/b.key"),))),
    ],
)
def test_a_servers_url_is_taken_apart(url: str, parts: tuple[object, ...]) -> None:
    found = StorageUrl.parse(url)
    assert (found.user, found.host, found.port, found.database, found.options) == parts
    assert (found.kind, found.file, found.text) == ("postgresql", None, url)


BROKEN = (
    "postgresql//me:c4n@localhost/nope",
    "foo:c4n",
    "postgresql://me:c4n/db",
    "postgresql://me:c4n",
    f"postgresql://me:{QUOTED}@127.0.0.1:1/db",
    f"postgresql://me:{CANARY}@127.0.0.1:1/db",
    f"postgresql://127.0.0.1:1/db?user=me&password={QUOTED}",
    f"postgresql://127.0.0.1:1/db?user=me&sslpassword={QUOTED}",
    f"postgresql://me:{QUOTED}@127.0.0.1:port/db",
    f"postgresql://me:{QUOTED}@127.0.0.1:1/db?no_such_option=1",
    f"postgresql://me:{QUOTED}@no-such-host.invalid/db",
    f"mysql://me:{QUOTED}@host/db",
    f"nothing://me:{CANARY}@host",
    f"me:{QUOTED}@host/db?password={QUOTED}",
)


@pytest.mark.parametrize("url", BROKEN)
def test_no_error_shows_a_password(
    url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(LawnTuneError) as caught:
        open_ledger(url)
    _assert_silent(caught.value, caplog, capfd)


def test_a_whole_life_of_a_ledger_shows_no_password(
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("PGPASSWORD", CANARY)
    with open_ledger(postgres_url) as ledger:
        ledger.spaces()
        for error in _broken_reads(ledger, postgres_url):
            _assert_silent(error, caplog, capfd)


def _broken_reads(ledger: Ledger, url: str) -> list[LedgerError]:
    """Takes tables away, and returns the errors of a ledger."""
    opened = Database(url)
    with opened.writing() as connection:
        connection.execute(text("DROP TABLE lawn_plan, lawn_cells CASCADE"))
    opened.close()
    errors = []
    for read in (lambda: ledger.spaces(), lambda: ledger.trials("x"), lambda: ledger.register([])):
        try:
            read()
        except LedgerError as error:
            errors.append(error)
    assert len(errors) == 2
    return errors


def _assert_silent(error: LawnTuneError, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    shown_text = "".join(traceback.format_exception(error)) + f"{error!s}{error!r}{error.hint}"
    shown_text += caplog.text + "".join(capfd.readouterr())
    for form in (CANARY, QUOTED, "c4n"):
        assert form not in shown_text


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OperationalError("", {}, sqlite3.OperationalError("database is locked")), True),
        (OperationalError("", {}, sqlite3.OperationalError("disk I/O error")), False),
        (OperationalError("", {}, Exception("the server is gone")), True),
        (ProgrammingError("", {}, Exception("there is no such table")), False),
        (PoolTimeoutError("no connection is free"), True),
        (InvalidRequestError("a mistake of ours"), False),
        ("it ends in the middle", False),
    ],
)
def test_an_error_that_may_pass_is_told_from_others(sqlite_url: str, error: Exception | str, passes: bool) -> None:
    failure = Database(sqlite_url).failure(error)
    assert isinstance(failure, Unreachable) == passes
