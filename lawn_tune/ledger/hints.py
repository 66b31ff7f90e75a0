"""What to do about an error of the database, by the code that the database gives."""

from __future__ import annotations

import re
from pathlib import Path

CHANGED = "A table of the ledger is missing or was changed by another program; put back a copy of the database."

SQLITE = {
    "SQLITE_FULL": "Free some space on the disk of {folder}; what was stored is kept, and the same command continues.",
    "SQLITE_NOTADB": "Name another file with --storage, or move this one away.",
    "SQLITE_CORRUPT": "The file is damaged: put back a copy, or save what can be read: sqlite3 FILE .recover.",
    "SQLITE_BUSY": "Another process is writing for long; try again, or use PostgreSQL.",
    "SQLITE_LOCKED": "Another process is writing for long; try again, or use PostgreSQL.",
    "SQLITE_READONLY_DBMOVED": "The file was moved or deleted while it was open; put it back, or start again.",
    "SQLITE_READONLY": "Check that the file and its folder {folder} may be written.",
    "SQLITE_CANTOPEN": "Check that the file and its folder {folder} may be written.",
    "SQLITE_PERM": "Check that the file and its folder {folder} may be written.",
    "SQLITE_AUTH": "Check that the file and its folder {folder} may be written.",
    "SQLITE_IOERR": "The disk of {folder} failed (see dmesg), is full, or cannot lock files; use another disk.",
    "SQLITE_NOMEM": "The machine, or the limit of this process (ulimit -v), has no memory left.",
    "SQLITE_TOOBIG": "A row is larger than SQLite allows; use PostgreSQL.",
    "SQLITE_CONSTRAINT": CHANGED,
    "SQLITE_ERROR": CHANGED,
}
"""SQLite's name of an error, or the beginning of it, → what to do; the first one that fits."""

REPLICA = "This server is a read-only replica, or set to read-only; name the primary server in --storage."
MANY = "The server, or its pool, has no connection free; try again, or raise its limit (max_connections, pool size)."
WAITED = "Another program holds a lock for long; pg_stat_activity shows which one."
POSTGRESQL = {
    "28": "Check the user of --storage, its password, and the rules for it in the server's pg_hba.conf.",
    "42501": "This role may read only; launch with one that may write.",
    "25006": REPLICA,
    "53100": "Free some space on the server's disk; what was stored is kept, and the same command continues.",
    "53200": "The server is out of memory; see its log.",
    "53300": MANY,
    "55P03": WAITED,
    "57014": WAITED,
    "40P01": WAITED,
    "57P": "The server is starting or was stopped; pg_isready shows whether it answers.",
    "3F000": "Create the schema that search_path names: psql -c 'CREATE SCHEMA NAME', or correct --storage.",
    "42P01": CHANGED,
    "42703": CHANGED,
    "23": CHANGED,
    "XX": "The server reports damage or a bug; see its log.",
}
"""SQLSTATE, or the beginning of it, → what to do."""

POOLED = {
    "query_wait_timeout": MANY,
    "no more connections allowed": MANY,
    "too many clients": MANY,
    "server_login_retry": "The pool cannot log in to the server; see the log of pgbouncer.",
    "server login": "The pool cannot log in to the server; see the log of pgbouncer.",
    "no such database": "Name a database of pgbouncer's [databases] in --storage.",
    "unsupported startup parameter": "The pooler passes no options on; use ALTER ROLE NAME SET search_path = SCHEMA.",
}
"""Words of pgbouncer, which gives no codes, → what to do."""

STARTING = ("refused", "No such file", "timeout", "timed out", "resolve host", "starting up")


def hint_for(cause: BaseException | str, path: Path | None) -> str:
    """Returns what to do.

    Args:
        cause: what the driver raised, or what is wrong in words.
        path: of an SQLite file; None for a server.
    """
    reason = " ".join(str(cause).split())
    if path is not None:
        return _file_hint(getattr(cause, "sqlite_errorname", None) or _named(reason), path)
    state = getattr(cause, "sqlstate", None) or ""
    by_code = next((hint for code, hint in POSTGRESQL.items() if state.startswith(code)), None)
    return by_code if by_code and "password" not in reason else _server_hint(reason)


def _named(reason: str) -> str:
    """Returns SQLite's name of an error that the driver gives no code for."""
    words = {"not a database": "NOTADB", "locked": "BUSY", "is full": "FULL", "readonly": "READONLY"}
    return next((f"SQLITE_{name}" for word, name in words.items() if word in reason), "")


def _file_hint(name: str, path: Path) -> str:
    by_name = next((hint for code, hint in SQLITE.items() if name.startswith(code)), None)
    return (by_name or "sqlite.org/rescode.html explains this error.").format(folder=path.parent)


def _server_hint(reason: str) -> str:
    """Returns what to do about a server that does not let us in, which gives no code."""
    if "password" in reason:
        pgpass = "~/.pgpass (host:port:database:user:password, chmod 600)"
        return f"Give the password by PGPASSWORD, {pgpass} or a service file."
    if found := re.search(r'(role|database) "([^"]*)" does not exist', reason):
        create = {"role": "createuser", "database": "createdb"}[found[1]]
        return f"Create it on the server ({create} '{found[2]}'), or correct --storage."
    if pooled := next((hint for words, hint in POOLED.items() if words in reason), None):
        return pooled
    if any(words in reason for words in STARTING):
        return "Start the server, or correct host and port of --storage; pg_isready shows whether it answers."
    return "Check that the server runs, and the host, user and database of --storage."
