"""The ledger: where it is, whether it answers, and whether it may be written."""

from __future__ import annotations

import os
import time

from sqlalchemy import Connection, select

from lawn_tune.cli.checks import Check
from lawn_tune.errors import LawnTuneError
from lawn_tune.ledger.database import MOUNTS, NETWORK_FILE_SYSTEMS, Database, clock, file_system
from lawn_tune.ledger.definitions import REVISION
from lawn_tune.ledger.schema import current_revision, open_schema, refuse_foreign
from lawn_tune.settings import Settings

SKEW_SECONDS = 3.0
"""Difference of two clocks from which times of trials, taken here, and times of the database are hard to compare."""


def ledger(settings: Settings) -> list[Check]:
    """The ledger: where it is, whether it answers, and whether it may be written."""
    try:
        database = Database(settings.storage)
    except LawnTuneError as error:
        return [Check("ledger", "fail", error.message, error.hint or "")]
    try:
        return [*_file_system(database), *_answer(database)]
    except LawnTuneError as error:
        return [Check("ledger", "fail", error.message, error.hint or "")]


def _file_system(database: Database) -> list[Check]:
    if database.path is None or not MOUNTS.exists():
        return []
    kind = file_system(database.path) or "unknown"
    if kind in NETWORK_FILE_SYSTEMS:
        todo = "Use a local disk, or PostgreSQL."
        return [Check("ledger disk", "fail", f"{kind} is a network file system, where SQLite loses results", todo)]
    return [Check("ledger disk", "ok", f"{kind} file system")]


def _answer(database: Database) -> list[Check]:
    if database.path is not None and not os.path.exists(database.path):
        return [Check("ledger", "ok", f"{database.shown} will be made by the first launch")]
    try:
        with database.reading() as connection:
            revision = current_revision(connection)
            if revision is None:
                refuse_foreign(database, connection)
            times = [] if database.path else _clocks(connection)
        if revision not in (None, REVISION):
            return [_other_schema(database)]
        with database.writing():
            pass
    finally:
        database.close()
    if database.path is not None and not os.access(database.path, os.W_OK):
        return [Check("ledger", "fail", f"{database.path} may not be written", f"chmod u+w '{database.path}'")]
    there = f"schema {revision}" if revision else "no ledger yet, the first launch makes one"
    return [Check("ledger", "ok", f"{database.shown} answers and may be written ({there})"), *times]


def _other_schema(database: Database) -> Check:
    """A ledger of another version, or a copy that was not finished; a launch can do something about an older one."""
    try:
        open_schema(database, create=False)
    except LawnTuneError as error:
        return Check("ledger", "warn" if "older" in error.message else "fail", error.message, error.hint or "")
    return Check("ledger", "ok", f"{database.shown} was brought up to date this moment")


def _clocks(connection: Connection) -> list[Check]:
    """This machine's clock against the server's, at the middle of the question."""
    before = now()
    theirs = connection.execute(select(clock(connection))).scalar_one()
    after = now()
    ahead = (before + after) / 2 - theirs
    if abs(ahead) <= SKEW_SECONDS + (after - before) / 2:
        return [Check("clocks", "ok", f"{abs(ahead):.1f} s between this machine and the database server")]
    side = "ahead of" if ahead > 0 else "behind"
    detail = f"this machine is {abs(ahead):.1f} s {side} the database server; timestamps will be inconsistent"
    return [Check("clocks", "warn", detail, "Set both by NTP: timedatectl set-ntp true.")]


def now() -> float:
    """Returns seconds since 1970 by this machine's clock."""
    return time.time()
