"""Brings the tables of a new or older ledger up to date, and refuses newer ones. The only file that runs alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

import lawn_tune.migrations
from lawn_tune.errors import LedgerError
from lawn_tune.ledger.database import Database


def upgrade(database: Database, revision: str | None) -> None:
    """Runs the missing migrations in one transaction; of several processes, the others find nothing left to do.

    Args:
        revision: of the tables that are there, None if there are none.

    Raises:
        LedgerError: the tables were made by a newer version, or the database fails.
    """
    script = ScriptDirectory.from_config(_config())
    if revision is not None and revision not in {known.revision for known in script.walk_revisions()}:
        raise LedgerError(
            f"ledger {database.shown} was written by a newer lawn_tune: its schema is '{revision}', "
            f"this version knows up to '{script.get_current_head()}'",
            "Upgrade lawn_tune, or name another ledger with --storage.",
        )
    config = _config()
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(lawn_tune.migrations.__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
