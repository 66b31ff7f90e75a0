"""Database URLs: which ones can hold a ledger, and how to speak of one without its password."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, quote_plus

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from lawn_tune.errors import UsageError
from lawn_tune.paths import is_path
from lawn_tune.storage import SECRET_OPTION, ambiguous, masked

HINT = "Write sqlite:///lawn-tune.db, or postgresql://user@host/database with the password in PGPASSWORD or ~/.pgpass."

ESCAPE = "Escape @ and / in the password as %40 and %2F; better, leave it to PGPASSWORD or ~/.pgpass."

SHOWN = 200
"""Characters of a URL in an error."""

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
    if not _is_text(text):
        raise UsageError(f"'{_brief(masked(text))}' is not a database URL: it holds a character that none may", HINT)
    if ambiguous(text):
        raise UsageError("the password of the database URL holds '@' or '/'", ESCAPE)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError(f"'{_brief(masked(text))}' is not a database URL", HINT) from None
    if url.drivername not in _DRIVERS:
        text = f"'{_brief(masked(text))}' names database '{_brief(url.drivername)}'; allowed are sqlite, postgresql"
        other_driver = "Write postgresql:// without a driver: lawn-tune brings its own, psycopg 3."
        raise UsageError(text, other_driver if url.drivername.startswith("postgres") else HINT)
    url = url.set(drivername=_DRIVERS[url.drivername])
    return _with_absolute_path(url) if url.drivername == "sqlite" else url


def _with_absolute_path(url: URL) -> URL:
    path = url.database
    shown = _brief(masked(url.render_as_string(hide_password=False)))
    if not path or path == ":memory:" or path.startswith("file:") or url.host:
        raise UsageError(f"'{shown}' names no file; a ledger must outlive its process", HINT)
    if url.query:
        raise UsageError(f"'{shown}' has options after '?'; a ledger in a file takes none", HINT)
    try:
        absolute = str(Path(path).expanduser().resolve()) if is_path(path) else ""
    except RuntimeError:
        raise UsageError(f"'{shown}': there is no user of the name after '~' on this machine", HINT) from None
    if not is_path(absolute):
        raise UsageError(f"'{shown}' names no file that can be: its path, or a name in it, is wrong", HINT)
    return url.set(database=absolute)


def _is_text(text: str) -> bool:
    """Tells whether a text has neither control characters nor halves of characters."""
    return not any(ord(character) < 32 or 0xD800 <= ord(character) < 0xE000 for character in text)


def _brief(text: str) -> str:
    """Returns a text fit for one line of an error."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 3]}..."


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
