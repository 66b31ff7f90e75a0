"""Database URLs: which ones can hold a ledger, and how to speak of one without its password."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, quote_plus

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from lawn_tune.errors import UsageError
from lawn_tune.secrets import SECRET_OPTION, ambiguous, masked

HINT = "Write sqlite:///lawn-tune.db, or postgresql://user@host/database with the password in PGPASSWORD or ~/.pgpass."

ESCAPE = "Escape @ and / in the password as %40 and %2F; better, leave it to PGPASSWORD or ~/.pgpass."

_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
"""Scheme as written → SQLAlchemy's; psycopg is named, as SQLAlchemy 2.0 and 2.1 have different defaults."""


def parse(text: str) -> URL:
    """Returns the URL of a ledger; the path of an SQLite file becomes absolute, so a later chdir is harmless.

    Raises:
        UsageError: text is no URL, its password is not escaped, or it names a database that cannot hold a ledger;
            no password is shown.
    """
    if ambiguous(text):
        raise UsageError("the password of the database URL holds '@' or '/'", ESCAPE)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError(f"'{masked(text)}' is not a database URL", HINT) from None
    if url.drivername not in _DRIVERS:
        allowed = "sqlite, postgresql"
        raise UsageError(f"'{masked(text)}' names database '{url.drivername}'; allowed are {allowed}", HINT)
    url = url.set(drivername=_DRIVERS[url.drivername])
    return _with_absolute_path(url) if url.drivername == "sqlite" else url


def _with_absolute_path(url: URL) -> URL:
    path = url.database
    if not path or path == ":memory:" or path.startswith("file:") or url.host:
        shown = masked(url.render_as_string(hide_password=False))
        raise UsageError(f"'{shown}' names no file; a ledger must outlive its process", HINT)
    return url.set(database=str(Path(path).expanduser().resolve()))


def scrubbed(text: str, url: URL) -> str:
    """Returns prose (an error of a driver) with the secrets of `url` masked, however they are quoted."""
    for secret in secrets(url):
        for form in {secret, quote(secret, safe=""), quote(secret, safe=" +"), quote_plus(secret), repr(secret)[1:-1]}:
            text = text.replace(form, "***")
    return text


def secrets(url: URL) -> tuple[str, ...]:
    """Returns the passwords that `url` carries, longest first."""
    found = [str(url.password)] if url.password else []
    for name, value in url.query.items():
        if SECRET_OPTION.search(name):
            found += [value] if isinstance(value, str) else list(value)
    return tuple(sorted((secret for secret in found if secret), key=len, reverse=True))
