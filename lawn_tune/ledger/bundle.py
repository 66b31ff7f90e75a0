"""Bundles: what a ledger holds of one space as one SQLite file, to publish, to compare, and to import elsewhere.

A bundle is a ledger of one space, so everything that reads ledgers reads it, without its Optuna studies, which
our tables can rebuild. `docs/bundles.md` documents its format. Whoever opens one trusts nothing in it: its header is
read before SQLite sees it; only plain tables and indexes with our names and columns are allowed, no views, triggers or
computed columns; it is opened read-only; types and sizes of all values and the hash of all rows are checked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    URL,
    Column,
    Connection,
    MetaData,
    Select,
    Table,
    Text,
    case,
    func,
    insert,
    literal,
    select,
    text,
)

from lawn_tune import __version__
from lawn_tune.errors import LedgerError, UsageError
from lawn_tune.ledger.content import TABLES, Content, Progress, Row, Selection, chunks, copy_rows, snapshot
from lawn_tune.ledger.database import Database, SqliteConnection
from lawn_tune.ledger.definitions import REVISION, cells, curves, examples, leases, plan, trials, version
from lawn_tune.ledger.roster import spaces
from lawn_tune.ledger.schema import current_revision, open_schema
from lawn_tune.storage import MAGIC, header
from search_spaces.toml import nearest_file

FORMAT = 1
"""In SQLite's `user_version`; raised when a reader of this version would misread a bundle."""

APPLICATION = 0x4C41574E
"""In SQLite's `application_id`: "LAWN". Ledgers do not have it."""

LONGEST = 2**28
"""Bytes of one value; a curve of 300 epochs has some ten thousand."""

about = Table("lawn_bundle", MetaData(), Column("name", Text, primary_key=True), Column("value", Text, nullable=False))
"""What the bundle is: `space`, `lawn_tune` (version that wrote it), `written` (ISO-8601 UTC), `sha256` of all rows."""

ANOTHER = "Write it again: lawn-tune report SPACE --bundle FILE; or fetch it again."


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle whose rows are those that were written.

    Args:
        path: its file.
        space: the only space in it.
        lawn_tune: version that wrote it.
        written: ISO-8601 UTC.
        rows: table → number of rows.
        digest: hash of all rows, whatever their order; 64 hex digits.
    """

    path: Path
    space: str
    lawn_tune: str
    written: str
    rows: Mapping[str, int]
    digest: str


# --- writing ----------------------------------------------------------------------------------------------------------


def write_bundle(url: str, space: str, path: Path, progress: Progress) -> Bundle:
    """Writes a bundle whole or not at all, in the place of an older one; launches may work on the space meanwhile.

    Args:
        url: of the ledger.
        space: its name in the ledger.
        path: file to write.
        progress: called with how far it is.

    Raises:
        UsageError: there is another file of this name, or none can be written.
        LedgerError: the ledger cannot be read.
    """
    _check_target(path)
    draft = path.with_name(f".{path.name}.part")
    _discard(draft)
    source = Database(url)
    try:
        open_schema(source, create=False)
        _write(source, draft, space, progress)
        draft.replace(path)
    finally:
        source.close()
        _discard(draft)
    with open_bundle(path) as (_, bundle):
        return bundle


def _check_target(path: Path) -> None:
    if not path.parent.is_dir():
        raise UsageError(f"--bundle: there is no folder '{path.parent}'", f"mkdir -p '{path.parent}'")
    if path.exists() and _application(header(path)) != APPLICATION:
        raise UsageError(f"--bundle: '{path}' exists and is not a bundle", "Give the name of a new file.")


def _write(source: Database, draft: Path, space: str, progress: Progress) -> None:
    with closing(Database(f"sqlite:///{quote(str(draft.absolute()))}")) as target:
        open_schema(target, create=True)
        with snapshot(source) as reader, target.writing() as writer:
            content = copy_rows(reader, writer, progress, _selection(space))
            about.create(writer)
            written = datetime.now(UTC).isoformat(timespec="seconds")
            values = {"space": space, "lawn_tune": __version__, "written": written, "sha256": content.digest}
            writer.execute(insert(about), [{"name": name, "value": value} for name, value in values.items()])
    with target.translated():
        _seal(draft)


def _seal(draft: Path) -> None:
    """Marks a finished file, and puts all of it into that one file: a ledger keeps a log next to it."""
    with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("VACUUM")


def _discard(draft: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with suppress(OSError):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)


def _selection(space: str) -> Selection:
    """Returns which rows are those of a space.

    A trial that another space trained counts as trained by the cell here that plans it: its own is not in the bundle.
    """
    ours = select(cells.c.name).where(cells.c.space == space)
    planned = select(plan.c.key).where(plan.c.cell.in_(ours))
    planner = select(func.min(plan.c.cell)).where(plan.c.key == trials.c.key, plan.c.cell.in_(ours)).scalar_subquery()
    replaced = {
        trials.c.cell: case((trials.c.cell.in_(ours), trials.c.cell), else_=planner).label("cell"),
        plan.c.mirrored: literal("").label("mirrored"),
    }

    def rows_of(table: Table) -> Select[Any]:
        query: Select[Any] = select(*(replaced.get(column, column) for column in table.columns))
        if table is cells:
            return query.where(cells.c.space == space)
        if table is trials:
            return query.where(trials.c.key.in_(planned))
        if table in (curves, examples):
            return query.where(table.c.key.in_(planned))
        return query.where(table.c.cell.in_(ours))

    return rows_of


# --- reading ----------------------------------------------------------------------------------------------------------


@contextmanager
def open_bundle(path: Path) -> Iterator[tuple[Database, Bundle]]:
    """Opens a bundle as a read-only ledger, every row of it checked against its hash.

    Raises:
        UsageError: the file cannot be read, or is not a bundle.
        LedgerError: it is damaged, was changed after it was written, or is of a newer version.
    """
    check_header(path)
    with closing(_ReadOnly(f"sqlite:///{quote(str(path.absolute()))}")) as database:
        try:
            with snapshot(database) as connection:
                bundle = _read(connection, path)
        except (sqlite3.Error, ValueError) as error:  # a damaged name, which SQLite's message repeats, is not text
            raise LedgerError(f"bundle {path}: damaged: {error}", ANOTHER) from None
        yield database, bundle


class _Untrusting(SqliteConnection):
    """A connection to a file that anyone may have written."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
        for pragma in ("query_only = ON", "trusted_schema = OFF", "cell_size_check = ON"):
            self.execute(f"PRAGMA {pragma}")


class _ReadOnly(Database):
    """A file that nothing changes, neither this program nor, by SQLite's recovery, a journal next to it."""

    @property
    def shown(self) -> str:
        return f"bundle {self.path}"

    @cached_property
    def url(self) -> URL:
        assert self.path is not None
        return URL.create("sqlite", database=self.path.as_uri(), query={"mode": "ro", "immutable": "1", "uri": "true"})

    @property
    def engine_options(self) -> dict[str, Any]:
        return {"connect_args": {"factory": _Untrusting}}


def _application(first: bytes) -> int:
    return int.from_bytes(first[68:72]) if first.startswith(MAGIC) and len(first) == 100 else 0


def check_header(path: Path) -> None:
    """Checks by the first bytes of a file whether it is a bundle of this format, with none of it read by SQLite.

    Raises:
        UsageError: the file cannot be read, or is not a bundle.
        LedgerError: it is of another format, or was opened for writing.
    """
    first = header(path)
    if not first:
        hint = f"{nearest_file(path)}Give the path of a bundle."
        raise UsageError(f"there is no bundle '{path}', or it cannot be read", hint)
    if _application(first) != APPLICATION:
        ledger = first.startswith(MAGIC)
        hint = f"Name a ledger by --storage sqlite:///{path}." if ledger else "Give the path of a bundle."
        raise UsageError(f"'{path}' is not a bundle", hint)
    if (found := int.from_bytes(first[60:64])) != FORMAT:
        raise LedgerError(
            f"bundle {path}: its format is {found}, this version reads format {FORMAT}", "Upgrade lawn_tune."
        )
    if first[18:20] != b"\1\1":
        raise LedgerError(f"bundle {path}: it was opened for writing after it was written", ANOTHER)


def _read(connection: Connection, path: Path) -> Bundle:
    _check_schema(connection, path)
    if (revision := current_revision(connection)) != REVISION:
        raise LedgerError(
            f"bundle {path}: its tables are of schema '{revision}', this version reads '{REVISION}'",
            "Read it with the version that wrote it.",
        )
    values = dict(connection.execute(select(about.c.name, about.c.value)).all())
    content = Content()
    for table, rows in chunks(connection):
        _check_types(table, rows, path)
        content.add(table, rows)
    if values.keys() != {"space", "lawn_tune", "written", "sha256"} or values["sha256"] != content.digest:
        raise LedgerError(f"bundle {path}: its rows are not those that were written: their hash differs", ANOTHER)
    if (found := list(spaces(connection))) != [values["space"]]:
        raise LedgerError(f"bundle {path}: it should hold space '{values['space']}' alone, got {found}", ANOTHER)
    return Bundle(
        path=path,
        space=values["space"],
        lawn_tune=values["lawn_tune"],
        written=values["written"],
        rows=content.rows,
        digest=content.digest,
    )


def _check_schema(connection: Connection, path: Path) -> None:
    """Raises LedgerError unless there are plain tables with our names and columns, and indexes on them."""
    expected = {table.name: set(table.columns.keys()) for table in (*TABLES, leases, version, about)}
    stored = connection.execute(text("SELECT type, name, sql FROM sqlite_master")).all()
    odd = [name for kind, name, sql in stored if kind not in ("table", "index") or _is_virtual(kind, sql)]
    found: dict[str, set[str]] = {}
    for name in (name for kind, name, _ in stored if kind == "table"):
        columns = connection.execute(text("SELECT name, hidden FROM pragma_table_xinfo(:name)"), {"name": name}).all()
        found[name] = {column for column, _ in columns}
        odd += [f"{name}.{column}" for column, hidden in columns if hidden]
    odd += sorted(name for name in found.keys() ^ expected.keys() or found if found.get(name) != expected.get(name))
    if odd:
        raise LedgerError(f"bundle {path}: its tables are not those of a bundle: {odd[0]}", ANOTHER)


def _is_virtual(kind: str, sql: Any) -> bool:
    return kind == "table" and not str(sql).upper().startswith("CREATE TABLE")


def _check_types(table: Table, rows: Sequence[Row], path: Path) -> None:
    types = tuple(column.type.python_type for column in table.columns)
    for row in rows:
        for column, kind, value in zip(table.columns, types, row, strict=True):
            if type(value) is not kind:
                raise LedgerError(
                    f"bundle {path}: {table.name}.{column.name} holds {type(value).__name__}, not {kind.__name__}",
                    ANOTHER,
                )
