"""Copies a whole ledger into an empty database of either kind, without loss: our tables, then the Optuna studies.

From its first row to the end of the comparison the target is marked as unfinished, and nothing opens it: a copy that
was killed is never taken for a ledger, and the same command completes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, inspect, select, update

from lawn_tune.errors import LedgerError, UsageError
from lawn_tune.ledger import leases, reads
from lawn_tune.ledger.content import TABLES, Content, Progress, chunks, copy_rows, snapshot
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.definitions import REVISION, UNFINISHED, cells, study_names, trials, version
from lawn_tune.ledger.roster import spaces
from lawn_tune.ledger.schema import current_revision, open_schema, refuse_foreign
from lawn_tune.ledger.studies import Studies


@dataclass(frozen=True, kw_only=True)
class Copy:
    """What was copied, read back and found equal.

    Args:
        source, target: where from and where to, without passwords.
        rows: table → number of rows.
        studies: number of Optuna studies.
        digest: hash of all rows, whatever their order, and of all studies; 64 hex digits.
    """

    source: str
    target: str
    rows: Mapping[str, int]
    studies: int
    digest: str


def copy_ledger(source_url: str, target_url: str, progress: Progress) -> Copy:
    """Copies a ledger and proves that the copy holds the same.

    Args:
        source_url: of a ledger that no launch works on.
        target_url: of a database without a ledger, with an empty one, or with a copy that was not finished.
        progress: called with how far it is.

    Raises:
        UsageError: both are the same, or one can hold no ledger.
        LedgerError: there is no ledger, a launch works on it, the target holds results (nothing is written then), the
            ledger changed while it was copied, the copy is not equal, or a database fails.
    """
    source, target = Database(source_url), Database(target_url)
    if source.url == target.url:
        raise UsageError(f"both ledgers are {source.shown}", "Name another database to copy to.")
    with ExitStack() as stack:
        for database in (source, target):
            stack.callback(database.close)
        open_schema(source, create=False)
        before = _state(source)
        from_studies, to_studies = Studies(source), Studies(target)
        for studies in (from_studies, to_studies):
            stack.callback(studies.close)
        names = _study_names(source, from_studies)
        _claim(target, names, to_studies)
        rows, digest = _copy_tables(source, target, progress)
        studied = _copy_studies(names, from_studies, to_studies, progress)
        if _state(source) != before:
            raise LedgerError(
                f"ledger {source.shown} was written while it was copied",
                "Give the same command again when no launch works on it.",
            )
        _compare(target, rows, digest, progress)
        _mark(target, REVISION)
    total = hashlib.sha256("".join([digest, *studied]).encode()).hexdigest()
    return Copy(source=source.shown, target=target.shown, rows=rows, studies=len(names), digest=total)


def _state(source: Database) -> list[str]:
    """Returns what differs once anything was written.

    Raises:
        LedgerError: a launch works on it.
    """
    with source.reading() as connection:
        leases.refuse_active(connection, source.shown)
        return [reads.version(connection, space) for space in spaces(connection)]


# --- the target -------------------------------------------------------------------------------------------------------


def _claim(target: Database, names: Sequence[str], studies: Studies) -> None:
    """Marks the target as unfinished, if it may be written."""
    with target.reading() as connection:
        revision = current_revision(connection)
        if revision == UNFINISHED:
            return
        if revision is not None:
            _refuse_filled(target, connection)
        else:
            refuse_foreign(target, connection)
    if _has_studies(target) and (taken := [name for name in names if studies.exists(name)]):
        raise _filled(target, f"an Optuna study '{taken[0]}'")
    open_schema(target, create=True)
    with target.writing() as connection:
        _refuse_filled(target, connection)
        connection.execute(update(version).values(version_num=UNFINISHED))


def _refuse_filled(target: Database, connection: Connection) -> None:
    for table, word in ((trials, "trials"), (cells, "cells")):
        if connection.execute(select(func.count()).select_from(table)).scalar_one():
            raise _filled(target, word)


def _filled(target: Database, word: str) -> LedgerError:
    return LedgerError(
        f"ledger {target.shown} holds {word} already, and a copy is never mixed with other results",
        "Name a new file, or an empty PostgreSQL database (createdb NAME).",
    )


def _mark(target: Database, revision: str) -> None:
    with target.writing() as connection:
        connection.execute(update(version).values(version_num=revision))


# --- our tables -------------------------------------------------------------------------------------------------------


def _copy_tables(source: Database, target: Database, progress: Progress) -> tuple[dict[str, int], str]:
    """Copies all rows in one transaction; returns their numbers and their hash."""
    with snapshot(source) as reader, target.writing() as writer:
        for table in reversed(TABLES):
            writer.execute(delete(table))
        content = copy_rows(reader, writer, progress)
    return content.rows, content.digest


def _compare(target: Database, rows: Mapping[str, int], digest: str, progress: Progress) -> None:
    content = Content()
    with snapshot(target) as reader:
        for table, some in chunks(reader):
            content.add(table, some)
            progress("reading back", content.total, sum(rows.values()))
    if (content.rows, content.digest) != (rows, digest):
        raise LedgerError(
            f"the copy in {target.shown} is not equal: {content.rows}, copied were {rows}",
            "Another program writes there; give the same command again, to a database of its own.",
        )


# --- Optuna's studies -------------------------------------------------------------------------------------------------


def _study_names(source: Database, studies: Studies) -> list[str]:
    """Returns the studies of the ledger's cells that are there; the mirror of a cell may be behind, or deleted."""
    if not _has_studies(source):
        return []
    with source.reading() as connection:
        named = connection.execute(select(cells.c.name).order_by(cells.c.name)).scalars().all()
    possible = [name for cell in named for name in study_names(cell).values()]
    return [name for name in possible if studies.exists(name)]


def _has_studies(database: Database) -> bool:
    """Whether Optuna's tables are there; asking Optuna would create them."""
    with database.reading() as connection:
        return inspect(connection).has_table("studies")


def _copy_studies(names: Sequence[str], source: Studies, target: Studies, progress: Progress) -> list[str]:
    """Copies the studies that are not there yet and returns their hashes."""
    digests = []
    for i, name in enumerate(names):
        digest = source.digest(name)
        if not (target.exists(name) and target.digest(name) == digest):
            source.copy(name, target, lambda n, of, i=i: progress("copying studies", i + n / of, len(names)))  # type: ignore[misc]
            if target.digest(name) != digest:
                raise LedgerError(f"the copy of study '{name}' is not equal", "Give the same command again.")
        progress("copying studies", i + 1, len(names))
        digests.append(digest)
    return digests
