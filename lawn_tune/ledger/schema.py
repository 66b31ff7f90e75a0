"""Opens a ledger's tables: a ledger of this version by one look, any other one by its migrations."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, select

from lawn_tune.errors import LedgerError
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.definitions import PREFIX, REVISION, UNFINISHED, VERSION_TABLE, version

OWN_SCHEMA = (
    "Name a database of its own in --storage (createdb lawn), or a schema of its own: psql -c 'CREATE SCHEMA lawn', "
    "and postgresql://user@host/database?options=-csearch_path%3Dlawn."
)


def open_schema(database: Database, create: bool) -> None:
    """Leaves the database with our tables at the newest revision; writes nothing if they are already.

    Args:
        database: where the ledger is or will be.
        create: create a ledger where there is none.

    Raises:
        LedgerError: there is none and create is False; the database holds tables of another program; it is of an older
            version and create is False, since readers write nothing; it was written by a newer version; it is an
            unfinished copy; or the database fails.
    """
    revision = usable_revision(database, create)
    if create:
        database.use_wal()
    if revision != REVISION:
        from lawn_tune.ledger.upgrade import upgrade  # brings alembic, which a ledger of this version does without

        upgrade(database, revision)


def usable_revision(database: Database, create: bool) -> str | None:
    """Returns the revision of the tables that `open_schema` would go on with, None if there are none; writes nothing.

    Raises:
        LedgerError: as `open_schema`.
    """
    if database.path is not None and not database.path.exists():
        if create:
            return None
        raise _missing(database)
    with database.reading() as connection:
        revision = current_revision(connection)
        if revision is None:
            refuse_foreign(database, connection)
    if revision is None and not create:
        raise _missing(database)
    if revision == UNFINISHED:
        raise unfinished(database)
    if revision not in (None, REVISION):
        from lawn_tune.ledger.upgrade import check_revision

        check_revision(database, revision, write=create)
    return revision


def current_revision(connection: Connection) -> str | None:
    """Returns the revision of our tables, None if there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(version.c.version_num)).scalar()


def refuse_foreign(database: Database, connection: Connection) -> None:
    """Raises LedgerError if a database without a ledger holds tables of another program; Optuna's are welcome."""
    if all(name.startswith(PREFIX) for name in inspect(connection).get_table_names()):
        return
    from lawn_tune.ledger.study_rows import foreign_tables  # brings Optuna, which an empty database does without

    if foreign := foreign_tables(connection):
        shown = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        raise LedgerError(
            f"ledger {database.shown}: this database holds tables of another program ({shown})",
            "Name another file with --storage." if database.path else OWN_SCHEMA,
        )


def unfinished(database: Database) -> LedgerError:
    """Returns the error of a ledger that a copy was to become and did not."""
    return LedgerError(
        f"ledger {database.shown} is a copy that was not finished",
        "Give the same 'lawn-tune ledger copy FROM TO' again, which completes it; or remove this database.",
    )


def _missing(database: Database) -> LedgerError:
    return LedgerError(
        f"there is no ledger at {database.shown}",
        "Run 'lawn-tune launch' first, or name the ledger with --storage.",
    )
