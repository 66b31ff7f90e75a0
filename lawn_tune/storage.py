"""Speaks of database URLs without their passwords."""

from __future__ import annotations

import os
import re

IN_ENVIRONMENT = ("LAWN_TUNE_STORAGE", "LAWN_TUNE_DASHBOARD_TOKEN", "PGPASSWORD")
"""Variables that may hold a secret of ours."""

SECRET_OPTION = re.compile(r"password|passwd|pwd|secret|token|key", re.IGNORECASE)
"""Names of URL options whose values are nobody's business."""

_OPTION = re.compile(r"([?&][^=&]*(?:" + SECRET_OPTION.pattern + r")[^=&]*=)[^&]*", re.IGNORECASE | re.DOTALL)
_SCHEME = re.compile(r"[\w+.-]*://")
_PLAIN = re.compile(
    r"([^:/@?#]*@)?"  # user
    r"(\[[\da-fA-F:.]*\]|[^:/@?#]*)(:\d*)?"  # host and port
    r"(/[^@?]*)?(\?\w+=.*)?",  # database and options
    re.DOTALL,
)
"""What follows the scheme of a URL that carries no password."""


def masked(url: str) -> str:
    """Returns the text of one URL, well formed or not, with `***` in place of every password.

    What does not parse as a URL is cut after its first ':', up to its last '@': whatever stands there may be a secret.
    """
    url = _OPTION.sub(r"\1***", url)
    found = _SCHEME.match(url)
    scheme = found[0] if found else ""
    rest = url[len(scheme) :]
    if scheme and (_is_file(scheme, rest) or _PLAIN.fullmatch(rest)):
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


def ambiguous(url: str) -> bool:
    """Tells whether a URL's password may hold a bare '@' or '/', so that parts of it would be read as the host."""
    found = _SCHEME.match(url)
    if found is None:
        return False
    rest = url[found.end() :]
    if _is_file(found[0], rest) or "@" not in rest or _PLAIN.fullmatch(rest):
        return False
    return rest.count("@") > 1 or "/" in rest.partition("@")[0]


def _is_file(scheme: str, rest: str) -> bool:
    """SQLite's URLs hold a path, in which '@' and ':' are characters like any other."""
    return scheme.startswith("sqlite") and rest.startswith("/")
