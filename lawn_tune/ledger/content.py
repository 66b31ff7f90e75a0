"""All rows of a ledger, or of a space in it, as plain values: read in chunks, written, and hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Select, Table, func, insert, select

from lawn_tune.ledger.database import Database
from lawn_tune.ledger.definitions import leases, metadata

CHUNK = 100
"""Rows in memory at once; a row is a whole curve at most."""

TABLES: tuple[Table, ...] = tuple(table for table in metadata.sorted_tables if table is not leases)
"""In an order in which no row refers to one that is still to come. A lease is not a result."""

Progress = Callable[[str, float, float], None]
"""Called with what is done (a word), how much of it and how much there is."""

Row = tuple[Any, ...]
"""The values of a row, in the order of its table's columns."""

Selection = Callable[[Table], Select[Any]]
"""Table → the rows of it that are wanted, with all its columns."""


class Content:
    """Numbers of rows and their hash: the sum of the hashes of single rows, so that their order does not matter."""

    def __init__(self) -> None:
        self.rows = {table.name: 0 for table in TABLES}
        self._sum = 0

    def add(self, table: Table, rows: Sequence[Row]) -> None:
        """Counts rows of a table."""
        self.rows[table.name] += len(rows)
        self._sum += sum(_hash((table.name, *row)) for row in rows)

    @property
    def total(self) -> int:
        """Number of rows of all tables."""
        return sum(self.rows.values())

    @property
    def digest(self) -> str:
        """64 hex digits."""
        return f"{self._sum % 2**256:064x}"


@contextmanager
def snapshot(database: Database) -> Iterator[Connection]:
    """One state of the database for several queries, which PostgreSQL does not promise by itself."""
    level = {} if database.path else {"isolation_level": "REPEATABLE READ"}
    with database.translated(), database.engine.connect().execution_options(**level) as connection, connection.begin():
        yield connection


def count(connection: Connection, selection: Selection = select) -> int:
    """Returns the number of rows of all tables."""
    return sum(
        connection.execute(select(func.count()).select_from(selection(t).subquery())).scalar_one() for t in TABLES
    )


def chunks(connection: Connection, selection: Selection = select) -> Iterator[tuple[Table, list[Row]]]:
    """Yields the rows of all tables, a table after the other."""
    for table in TABLES:
        result = connection.execute(selection(table).execution_options(yield_per=CHUNK))
        for rows in result.partitions():
            yield table, [tuple(row) for row in rows]


def write(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Inserts rows."""
    connection.execute(insert(table), [dict(zip(table.columns.keys(), row, strict=True)) for row in rows])


def copy_rows(reader: Connection, writer: Connection, progress: Progress, selection: Selection = select) -> Content:
    """Copies the rows of all tables into empty ones, and returns what was copied."""
    content, total = Content(), count(reader, selection)
    for table, rows in chunks(reader, selection):
        content.add(table, rows)
        write(writer, table, rows)
        progress("copying rows", content.total, total)
    return content


def _hash(values: Sequence[str | int | bytes]) -> int:
    digest = hashlib.sha256()
    for value in values:
        data = value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")
        digest.update(f"{type(value).__name__} {len(data)} ".encode() + data)
    return int.from_bytes(digest.digest())
