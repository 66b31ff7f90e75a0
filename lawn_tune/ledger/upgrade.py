"""Brings the tables of a new or older ledger up to date, and refuses newer ones. The only file that runs alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select

import lawn_tune.ledger.migrations
from lawn_tune.errors import LedgerError
from lawn_tune.ledger.database import Database, clock
from lawn_tune.ledger.definitions import leases, version


def upgrade(database: Database, revision: str | None) -> None:
    """Runs the missing migrations in one transaction; of several processes, the others find nothing left to do.

    Args:
        database: where the ledger is or will be.
        revision: of the tables that are there, None if there are none.

    Raises:
        LedgerError: a launch of the older version works on the tables, or the database fails.
    """
    config = _config()
    with database.writing() as connection:
        if revision is not None and connection.execute(select(version.c.version_num)).scalar() == revision:
            _refuse_launches(database, connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check_revision(database: Database, revision: str, write: bool) -> None:
    """Refuses the tables of another version that cannot be brought up to date.

    Args:
        database: where they are.
        revision: of the tables.
        write: False for readers, which refuse an older ledger as well.

    Raises:
        LedgerError: the tables were made by a newer version; or by an older one, and `write` is False.
    """
    script = ScriptDirectory.from_config(_config())
    newest = script.get_current_head()
    if revision not in {known.revision for known in script.walk_revisions()}:
        raise LedgerError(
            f"ledger {database.shown} was written by a newer lawn_tune: its schema is '{revision}', "
            f"this version knows up to '{newest}'",
            "Upgrade lawn_tune, or name another ledger with --storage.",
        )
    if not write:
        raise LedgerError(
            f"ledger {database.shown} was written by an older lawn_tune: its schema is '{revision}', "
            f"this version reads '{newest}'",
            "Bring it up to date, with a role that may write: lawn-tune ledger upgrade, with the same --storage; "
            "or read it with the version that wrote it.",
        )


def _refuse_launches(database: Database, connection: Connection) -> None:
    """A driver of the older version would go on writing to tables that it no longer knows."""
    held = select(func.count()).select_from(leases).where(leases.c.expires > clock(connection))
    if connection.execute(held).scalar_one():
        raise LedgerError(
            f"ledger {database.shown} was written by an older lawn_tune, and a launch works on it",
            "Wait until it ends, or stop it; half a minute after its end the ledger can be upgraded.",
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(lawn_tune.ledger.migrations.__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
