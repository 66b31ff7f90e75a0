"""A ledger for a moment, where the user's own one is: on the same disk, or in the same PostgreSQL database."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode

from sqlalchemy import text

from lawn_tune.errors import LedgerError
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.schema import usable_revision

PREFIX = "lawn_tune_smoke_"


@contextmanager
def temporary_ledger(url: str) -> Iterator[str]:
    """Lends the URL of an empty ledger: a file in a folder of its own, or a schema of its own; removed afterwards.

    Args:
        url: of the user's ledger, which need not exist and is not written.

    Raises:
        LedgerError: a launch would refuse what is there, the place cannot be written, or the database grants no schema.
    """
    with closing(Database(url)) as database:
        usable_revision(database, create=True)
        with _folder(database.path.parent) if database.path else _schema(database) as own:
            yield own


@contextmanager
def _folder(place: Path) -> Iterator[str]:
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    except OSError as error:
        text = f"ledger: no file can be written in {place}: {error.strerror}"
        raise LedgerError(text, "Free or unlock this folder, or name another place by --storage.") from None
    try:
        yield f"sqlite:///{folder / 'ledger.db'}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _schema(database: Database) -> Iterator[str]:
    name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    with database.writing() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    try:
        own = in_schema(database.shown, name)
        _check_schema(own, name)
        yield own
    finally:
        with database.writing() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))


def in_schema(url: str, name: str) -> str:
    """Returns a PostgreSQL URL whose tables are those of one schema."""
    place, _, query = url.partition("?")
    pairs = dict(parse_qsl(query, keep_blank_values=True))
    pairs["options"] = f"{pairs.get('options', '')} -csearch_path={name}".strip()
    return f"{place}?{urlencode(pairs, quote_via=quote)}"


def _check_schema(url: str, name: str) -> None:
    """A pooler may drop the option that selects the schema: the tables would be made among the user's.

    Raises:
        LedgerError: the schema is not in use.
    """
    database = Database(url)
    hint = "A connection pooler may be in between: name the server itself by --storage."
    try:
        with database.reading() as connection:
            found = connection.execute(text("SELECT current_schema()")).scalar_one()
    except LedgerError as error:
        raise LedgerError(error.message, hint if "startup parameter" in error.message else error.hint) from None
    finally:
        database.close()
    if found != name:
        raise LedgerError(f"ledger {database.shown}: the server uses schema {found}, not {name}", hint)
