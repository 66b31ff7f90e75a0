"""Restores a bundle into a ledger: what is there already must be the same, the rest is added, or nothing is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Table, select, tuple_

from lawn_tune.cells import PHASES, Cell
from lawn_tune.errors import LedgerError, UsageError
from lawn_tune.ledger import content, leases, reads
from lawn_tune.ledger.bundle import ANOTHER, Bundle, open_bundle
from lawn_tune.ledger.check import check
from lawn_tune.ledger.content import Progress, Row
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.definitions import cells, plan, trials
from lawn_tune.ledger.mirror import Mirror
from lawn_tune.ledger.schema import open_schema

LOCAL = frozenset({cells.c.registered, plan.c.mirrored, trials.c.cell})
"""Columns that are each ledger's own: when it launched a cell, what its studies show, which space trained a trial."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import did.

    Args:
        bundle: what was imported.
        target: where to, without a password.
        added: table → number of rows that were not there.
    """

    bundle: Bundle
    target: str
    added: Mapping[str, int]


def import_bundle(path: Path, url: str, progress: Progress, say: Callable[[str], None] = _logger.warning) -> Imported:
    """Adds a bundle's rows to a ledger in one transaction, then shows them in its Optuna studies.

    The same import again adds nothing; after one that was killed it completes the studies, as does the next launch.

    Args:
        path: of a bundle.
        url: of a ledger, which is created where there is none.
        progress: called with how far it is.
        say: called with why the studies cannot be written, if they cannot.

    Raises:
        UsageError: the file is not a bundle, or is the ledger.
        LedgerError: the bundle is damaged, the ledger holds other values for the same rows, a launch works on one of
            the cells, or the database fails; nothing is added then.
    """
    with closing(Database(url)) as target:
        if target.path is not None and target.path.exists() and path.exists() and target.path.samefile(path):
            raise UsageError(f"'{path}' is the ledger itself", "Name another ledger with --storage.")
        with open_bundle(path) as (source, bundle):
            restored = _checked(source, bundle)
            open_schema(target, create=True)
            with content.snapshot(source) as reader, target.writing() as writer:
                leases.refuse_active(writer, target.shown, {cell.name for cell in restored})
                added = _merge(reader, writer, bundle, target, progress)
        _show(target, restored, say)
    return Imported(bundle=bundle, target=target.shown, added=added)


def _checked(source: Database, bundle: Bundle) -> tuple[Cell, ...]:
    """Returns the cells of a bundle all of whose rows a ledger's readers accept.

    Raises:
        LedgerError: they do not.
    """
    _, damage = check(source)
    if damage:
        first = damage[0]
        text = f"bundle {bundle.path}: {len(damage)} damaged rows; the first: {first.cell}: {first.row}: {first.why}"
        raise LedgerError(text, ANOTHER)
    with source.reading() as connection:
        if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
            raise LedgerError(
                f"bundle {bundle.path}: {broken[0]} refers to a row of {broken[2]} that it lacks", ANOTHER
            )
        found = reads.cells_of(connection, bundle.space)
    if strange := [str(cell.name) for cell in found if cell.name.space != bundle.space]:
        raise LedgerError(f"bundle {bundle.path}: cell '{strange[0]}' is not of space '{bundle.space}'", ANOTHER)
    return found


def _merge(
    reader: Connection, writer: Connection, bundle: Bundle, target: Database, progress: Progress
) -> dict[str, int]:
    added, done = dict.fromkeys(bundle.rows, 0), 0
    for table, rows in content.chunks(reader):
        fresh = _lacking(writer, table, rows, target)
        if fresh:
            content.write(writer, table, fresh)
        added[table.name] += len(fresh)
        done += len(rows)
        progress("importing rows", done, sum(bundle.rows.values()))
    return added


def _lacking(connection: Connection, table: Table, rows: Sequence[Row], target: Database) -> list[Row]:
    """Returns the rows that a ledger does not hold.

    Raises:
        LedgerError: it holds one with other values.
    """
    names = [column.name for column in table.primary_key]
    places = [table.columns.keys().index(name) for name in names]
    keys = [tuple(row[place] for place in places) for row in rows]
    query = select(table).where(tuple_(*table.primary_key.columns).in_(keys))
    known = {tuple(row[place] for place in places): tuple(row) for row in connection.execute(query)}
    compared = [i for i, column in enumerate(table.columns) if column not in LOCAL]
    for key, row in zip(keys, rows, strict=True):
        differing = [i for i in compared if key in known and known[key][i] != row[i]]
        if differing:
            what = ", ".join(f"{name} {value}" for name, value in zip(names, key, strict=True))
            raise LedgerError(
                f"ledger {target.shown} holds {what} in {table.name} already, with another "
                f"{table.columns.keys()[differing[0]]}; nothing was imported",
                "Import it into another ledger: --storage sqlite:///imported.db.",
            )
    return [row for key, row in zip(keys, rows, strict=True) if key not in known]


def _show(target: Database, restored: Sequence[Cell], say: Callable[[str], None]) -> None:
    with closing(Mirror(target, say)) as mirror:
        for cell in restored:
            for phase in PHASES:
                mirror.sync(cell, phase)
