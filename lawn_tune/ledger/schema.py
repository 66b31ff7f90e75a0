"""Opens a ledger's tables: makes them, brings older ones up to date, refuses newer ones."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

import lawn_tune.migrations
from lawn_tune.errors import LedgerError
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.tables import VERSION_TABLE


def open_schema(database: Database, create: bool) -> None:
    """Leaves the database with our tables at the newest revision; writes nothing if they are already.

    Args:
        database: where the ledger is or shall be.
        create: make a ledger where there is none.

    Raises:
        LedgerError: there is none and create is False, or it was written by a newer version, or the database fails.
    """
    if not create and database.path is not None and not database.path.exists():
        raise _missing(database)
    script = ScriptDirectory.from_config(_config())
    with database.reading() as connection:
        revision = current_revision(connection)
    if revision is None and not create:
        raise _missing(database)
    if revision is not None and revision not in {known.revision for known in script.walk_revisions()}:
        raise LedgerError(
            f"ledger {database.shown} was written by a newer lawn_tune: its schema is '{revision}', "
            f"this version knows up to '{script.get_current_head()}'",
            "Upgrade lawn_tune, or name another ledger with --storage.",
        )
    if create:
        database.use_wal()
    if revision != script.get_current_head():
        _migrate(database)


def current_revision(connection: Connection) -> str | None:
    """Returns the revision of our tables, None if there are none."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def _migrate(database: Database) -> None:
    """Runs the missing migrations in one transaction; of several processes, the others find nothing left to do."""
    config = _config()
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(lawn_tune.migrations.__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _missing(database: Database) -> LedgerError:
    return LedgerError(
        f"there is no ledger at {database.shown}",
        "Run 'lawn-tune launch' first, or name the ledger with --storage.",
    )
