"""One database under the ledger, SQLite or PostgreSQL: its connections, transactions, clock and errors."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import URL, Connection, Engine, Float, Table, create_engine, event, literal_column, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.sql.elements import ColumnElement

from lawn_tune.errors import LedgerError
from lawn_tune.ledger.hints import hint_for
from lawn_tune.storage import StorageUrl
from lawn_tune.words import one_line

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

BUSY_SECONDS = 30
"""How long a writer waits for another one before it gives up."""

WRITER_LOCK = 0x1A417
"""PostgreSQL advisory lock that every writing transaction holds: one writer at a time, as SQLite has it anyway."""

NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ncpfs", "fuse.sshfs"})
"""Their locks are not reliable and WAL needs shared memory, so SQLite would lose or corrupt results there."""

MOUNTS = Path("/proc/self/mounts")
"""Where Linux lists the file systems that are mounted."""

CHUNK = 500
"""Rows or keys of one statement."""

_CLOCKS = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) AS double precision)",
}
"""Seconds since 1970 by the database's own clock, so that drivers on several hosts agree on when a lease ends."""

POSTGRESQL = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
"""libpq's options by which a connection whose other end vanished without a word fails within half a minute."""

UNPREPARED: dict[str, None] = {"prepare_threshold": None}
"""psycopg prepares no statements: behind pgbouncer with `pool_mode = transaction`, the next transaction may run on a
connection of the server that never saw them. For the same reason every setting and lock of ours ends with its
transaction."""

NO_SPACE = "53100"
"""PostgreSQL's code for a full disk: waiting does not help."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Unreachable(LedgerError):
    """The database cannot be reached, or is locked, for now; the same call may succeed later."""


class SqliteConnection(sqlite3.Connection):
    """A connection with our pragmas from its first statement on; Optuna's engine uses it too."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.execute("PRAGMA synchronous = NORMAL")
        self.execute("PRAGMA foreign_keys = ON")


class Database:
    """Where a ledger lives.

    Args:
        url: storage URL, without a password.

    Raises:
        UsageError: the URL cannot name a ledger, or carries a password.
        LedgerError: the driver is missing, or the file's place is unfit.
    """

    def __init__(self, url: str) -> None:
        self.storage = StorageUrl.parse(url)
        self.path = self.storage.file
        # Kept here, as a launch takes it out of the environment before it starts other processes.
        self._password = os.environ.get("PGPASSWORD")
        if self.path is not None:
            _check_place(self.path)

    @property
    def shown(self) -> str:
        """The URL, fit to print."""
        return self.storage.text

    @cached_property
    def url(self) -> URL:
        """The URL as SQLAlchemy takes it; psycopg is named, as SQLAlchemy 2.0 and 2.1 have different defaults."""
        if self.path is not None:
            return URL.create("sqlite", database=str(self.path))
        at = self.storage
        query: dict[str, list[str]] = {}
        for name, value in at.options:
            query.setdefault(name, []).append(value)
        options = {name: values[0] if len(values) == 1 else tuple(values) for name, values in query.items()}
        return URL.create("postgresql+psycopg", at.user, None, at.host, at.port, at.database, options)

    @property
    def engine_options(self) -> dict[str, Any]:
        """Arguments of `create_engine` that every engine on this database needs, Optuna's included."""
        if self.path is not None:
            return {"connect_args": {"timeout": BUSY_SECONDS, "factory": SqliteConnection}}
        options = {name: value for name, value in POSTGRESQL.items() if name not in self.url.query}
        password = {"password": self._password} if self._password else {}
        return {"connect_args": options | UNPREPARED | password, "pool_pre_ping": True}

    @cached_property
    def engine(self) -> Engine:
        """Our engine; made on first use."""
        try:
            engine = create_engine(self.url, **self.engine_options)
        except ImportError:
            raise LedgerError(
                "PostgreSQL needs the package psycopg, which is not installed", "pip install 'psycopg[binary]'"
            ) from None
        if self.path is not None:
            _own_transactions(engine)
        logging.getLogger("psycopg").setLevel(logging.ERROR)  # a lost connection is reported once, by us
        return engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent look at the ledger, while others write."""
        with self.translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction, all or nothing; writers follow one another on both databases."""
        with self.translated(), self._connect_writer() as connection, connection.begin():
            if self.path is None:
                _lock_postgresql(connection)
            yield connection

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turns SQLAlchemy's errors into ours, without the chain, which might hold a password.

        Raises:
            LedgerError: for any error of the database; Unreachable if it may pass by itself.
        """
        try:
            yield
        except SQLAlchemyError as error:
            raise self.failure(error) from None

    def failure(self, error: BaseException | str) -> LedgerError:
        """Returns the error of a failed database, with the reason."""
        cause = (error.orig if isinstance(error, DBAPIError) else None) or error
        reason = one_line(str(cause))
        kind = Unreachable if isinstance(error, SQLAlchemyError) and _passes(error) else LedgerError
        return kind(f"ledger {self.shown}: {reason}", hint_for(cause, self.path))

    def _connect_writer(self) -> Connection:
        return self.engine.connect().execution_options(writes=True)

    def use_wal(self) -> None:
        """Lets SQLite's readers and its writer work at once; the file remembers it."""
        if self.path is None:
            return
        with self.translated(), self.engine.connect() as connection:
            raw = connection.connection.driver_connection
            if raw is not None and raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                # Changing the mode does not wait for other connections as ordinary statements do.
                patiently(lambda: raw.execute("PRAGMA journal_mode = WAL"), sqlite3.OperationalError)

    def close(self) -> None:
        """Closes every connection."""
        self.engine.dispose()


def clock(connection: Connection) -> ColumnElement[float]:
    """Returns the expression of the current time, seconds since 1970."""
    return literal_column(_CLOCKS[connection.dialect.name], Float)


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Returns an INSERT that knows ON CONFLICT, which both databases spell alike."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite  # each of them costs tens of milliseconds; the engine loads its own

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def chunked(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yields items in groups for one statement each: both databases limit its parameters."""
    listed = list(items)
    for start in range(0, len(listed), CHUNK):
        yield listed[start : start + CHUNK]


def patiently(action: Callable[[], Result], *errors: type[Exception]) -> Result:
    """Does what other processes may be doing at the same moment: waits and tries again, at most 5 seconds in all."""
    for attempt in range(7):
        try:
            return action()
        except errors:
            time.sleep(0.04 * 2**attempt)
    return action()


def file_system(path: Path, mounts: Path = MOUNTS) -> str:
    """Returns the type of the file system that holds `path`, "" if unknown.

    Args:
        path: an absolute path.
        mounts: file in the form of /proc/self/mounts.
    """
    best, kind = "", ""
    for line in mounts.read_text(errors="replace").splitlines() if mounts.exists() else ():
        fields = line.split(" ")
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[1])
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def _check_place(path: Path) -> None:
    folder = path.parent
    if path.is_dir():
        raise LedgerError(
            f"ledger sqlite:///{path}: this is a folder, not a file", f"Name a file: sqlite:///{path}/lawn-tune.db"
        )
    if not folder.is_dir():
        raise LedgerError(f"ledger sqlite:///{path}: there is no folder {folder}", f"mkdir -p '{folder}'")
    if (kind := file_system(path)) in NETWORK_FILE_SYSTEMS:
        raise LedgerError(
            f"ledger sqlite:///{path}: is on a network file system ({kind}), where SQLite cannot lock reliably",
            "Use a local disk, or PostgreSQL: --storage postgresql://user@host/database.",
        )


def _own_transactions(engine: Engine) -> None:
    """Begins SQLite transactions ourselves: a writer takes the lock at once, so it never fails halfway."""

    @event.listens_for(engine, "connect")
    def _manual(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _lock_postgresql(connection: Connection) -> None:
    # A driver stopped in the middle of a transaction must not hold up the others forever. One statement, from left to
    # right: every write begins with it.
    limits = "set_config('lock_timeout', :wait, true), set_config(:idle, :wait, true)"
    connection.execute(
        text(f"SELECT {limits}, pg_advisory_xact_lock(:lock)"),
        {"wait": f"{BUSY_SECONDS}s", "idle": "idle_in_transaction_session_timeout", "lock": WRITER_LOCK},
    )


def _passes(error: SQLAlchemyError) -> bool:
    """True for a lost connection, a server that is not there, and a lock that another program holds for long."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, PoolTimeoutError | PendingRollbackError)
    if isinstance(error.orig, sqlite3.Error):
        return "locked" in str(error.orig)
    lost = error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    return lost and getattr(error.orig, "sqlstate", None) != NO_SPACE
