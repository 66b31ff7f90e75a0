"""Storage URLs: the one place that reads them, refuses passwords in them and finds the file of an SQLite ledger.

Parsed with the standard library: SQLAlchemy's `make_url` costs a third of a second, and every command reads a URL.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote

from lawn_tune.errors import UsageError

HINT = (
    "Write sqlite:///lawn-tune.db, or postgresql://user@host/database with the password in PGPASSWORD, ~/.pgpass or a "
    "service file."
)
NO_PASSWORD = (
    "Take it out, and give it in one of three other ways: set PGPASSWORD; or add host:port:database:user:password to "
    "~/.pgpass (chmod 600); or name a service of ~/.pg_service.conf, as postgresql://host/database?service=NAME."
)
ELSEWHERE = "Rename the folder, or name a file elsewhere: --storage sqlite:////folder/lawn-tune.db."
OTHER_DRIVER = "Write postgresql:// without a driver: lawn-tune uses psycopg 3."

IN_ENVIRONMENT = ("LAWN_TUNE_STORAGE", "LAWN_TUNE_DASHBOARD_TOKEN", "PGPASSWORD")
"""Variables that may hold a secret of ours."""

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes, on every file system that Linux and macOS use."""

SHOWN = 200
"""Characters of a URL in an error."""

MAGIC = b"SQLite format 3\0"
"""The first bytes of an SQLite database."""

_KINDS: dict[str, Literal["sqlite", "postgresql"]] = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "postgresql+psycopg": "postgresql",
}
_SECRET = r"password|passwd|pwd|secret|token|key"
_SECRET_OPTION = re.compile(r"([?&][^=&]*(?:" + _SECRET + r")[^=&]*=)[^&]*", re.IGNORECASE | re.DOTALL)
_FILE_OPTIONS = ("sslkey", "passfile")
"""Options of libpq that name a file, where a secret may be."""

_SCHEME = re.compile(r"[\w+.-]*://")
_SERVER = re.compile(
    r"(?:(?P<user>[^:/@?#]*):?@)?"
    r"(?P<host>\[[\da-fA-F:.]*\]|[^:/@?#]*)(?::(?P<port>\d*))?"
    r"(?:/(?P<database>[^@?]*))?(?:\?(?P<options>\w+=.*))?",
    re.DOTALL,
)
"""What follows the scheme of a server's URL without a password."""


@dataclass(frozen=True, kw_only=True)
class StorageUrl:
    """What a storage URL names; it never holds a password.

    Args:
        text: the URL, fit to print.
        kind: of the database.
        file: absolute path of an SQLite file, so that a later chdir is harmless; None for a server.
        user, host, port, database: of a server, None where left to libpq.
        options: after '?', passed to libpq.
    """

    text: str
    kind: Literal["sqlite", "postgresql"]
    file: Path | None = None
    user: str | None = None
    host: str | None = None
    port: int | None = None
    database: str | None = None
    options: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def parse(text: str) -> StorageUrl:
        """Reads a URL.

        Raises:
            UsageError: it is not a URL, names a database that cannot hold a ledger, or carries a password, which is
                not shown.
        """
        shown = _brief(masked(text))
        if not _is_text(text):
            raise UsageError(f"'{shown}': not a database URL, as it holds a control character or half of one", HINT)
        found = _SCHEME.match(text)
        scheme, rest = (found[0].removesuffix("://"), text[found.end() :]) if found else ("", text)
        kind = _KINDS.get(scheme)
        if kind == "sqlite":
            return _sqlite(text, rest)
        server = _SERVER.fullmatch(rest)
        if _has_password(rest, server):
            raise UsageError(f"'{shown}': a password in a storage URL is refused", NO_PASSWORD)
        if kind is None and scheme and (server or "@" in rest):
            hint = OTHER_DRIVER if scheme.startswith("postgres") else HINT
            raise UsageError(f"'{shown}': names database '{_brief(scheme)}'; allowed are sqlite, postgresql", hint)
        if kind is None or server is None:
            raise UsageError(f"'{shown}': not a database URL", HINT)
        return StorageUrl(
            text=text,
            kind=kind,
            user=unquote(server["user"]) if server["user"] else None,
            host=server["host"].strip("[]") or None,
            port=int(server["port"]) if server["port"] else None,
            database=unquote(server["database"]) if server["database"] else None,
            options=tuple(parse_qsl(server["options"] or "", keep_blank_values=True)),
        )


def _has_password(rest: str, server: re.Match[str] | None) -> bool:
    """Whether what follows a scheme carries a password, well formed or not; a bare '@' or '/' may be part of one."""
    if server is None:
        return "@" in rest or _secret_options(rest.partition("?")[2])
    return _secret_options(server["options"] or "")


def _secret_options(options: str) -> bool:
    names = [name for name, value in parse_qsl(options) if value]
    return any(re.search(_SECRET, name, re.IGNORECASE) and name not in _FILE_OPTIONS for name in names)


def _sqlite(text: str, rest: str) -> StorageUrl:
    shown = _brief(text)
    path, mark, _ = rest.removeprefix("/").partition("?")
    if not rest.startswith("/") or not path or path == ":memory:" or path.startswith("file:"):
        raise UsageError(f"'{shown}': names no file; a ledger must outlive its process", HINT)
    if mark:
        raise UsageError(f"'{shown}': has options after '?'; a ledger in a file takes none", HINT)
    path = unquote(path)
    try:
        absolute = str(Path(path).expanduser().resolve()) if is_path(path) else ""
    except RuntimeError:
        raise UsageError(f"'{shown}': this machine has no user of the name after '~'", HINT) from None
    if not is_path(absolute):
        raise UsageError(f"'{shown}': names no file that can exist: its path, or a name in it, is wrong", HINT)
    if any(0xD800 <= ord(character) < 0xE000 for character in absolute):  # how Python holds a byte that is not UTF-8
        raise UsageError(f"'{shown}': its path has a byte that is not UTF-8: {_brief(absolute)}", ELSEWHERE)
    return StorageUrl(text=f"sqlite:///{absolute}", kind="sqlite", file=Path(absolute))


def masked(url: str) -> str:
    """Returns the text of one URL, well formed or not, with `***` in place of every password.

    What does not parse as a URL is cut after its first ':', up to its last '@': whatever is there may be a secret.
    """
    url = _SECRET_OPTION.sub(r"\1***", url)
    found = _SCHEME.match(url)
    scheme = found[0] if found else ""
    rest = url[len(scheme) :]
    if scheme and ((scheme.startswith("sqlite") and rest.startswith("/")) or _SERVER.fullmatch(rest)):
        return url
    before, at, after = rest.rpartition("@")
    if not at:
        head, colon, _ = rest.partition(":")
        return f"{scheme}{head}{colon}***" if colon else url
    user, colon, _ = before.partition(":")
    shown = f"{user}:" if colon and "@" not in user and not (scheme and "/" in user) else ""
    return f"{scheme}{shown}***@{after}"


def forget() -> None:
    """Takes secrets out of the environment, which processes started from now on would inherit.

    Settings are read before that, and a ledger keeps the password that it was opened with.
    """
    for name in IN_ENVIRONMENT:
        os.environ.pop(name, None)


def is_path(text: str) -> bool:
    """Whether a file could have this path: not empty, without NUL, encodable, not too long.

    To be asked first: the system raises for other texts.
    """
    if not text or "\0" in text:
        return False
    try:
        path = os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return len(path) <= LONGEST_PATH and all(len(name) <= LONGEST_NAME for name in path.split(b"/"))


def header(path: Path) -> bytes:
    """Returns the first bytes of a file, none if there is no such file."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(100)
    except (OSError, ValueError):
        return b""


def is_sqlite(path: Path) -> bool:
    """Whether a file is an SQLite database, as bundles are."""
    return header(path).startswith(MAGIC)


def _is_text(text: str) -> bool:
    """Whether a text has neither control characters nor halves of characters."""
    return not any(ord(character) < 32 or 0xD800 <= ord(character) < 0xE000 for character in text)


def _brief(text: str) -> str:
    """Returns a text fit for one line of an error."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 3]}..."
