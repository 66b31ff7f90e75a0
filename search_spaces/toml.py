"""TOML files as people save them, with errors that say what to do."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from search_spaces.keys import did_you_mean

SUFFIX = ".toml"

DEEPEST = 32
"""Levels of tables and lists in a file; far more than any file of ours needs."""


class TomlError(ValueError):
    """A file that cannot be read as TOML.

    Args:
        reason: what is wrong with it, to be said after its path.
        todo: the next step, as a sentence.
    """

    def __init__(self, reason: str, todo: str) -> None:
        super().__init__(f"{reason}. {todo}")
        self.reason, self.todo = reason, todo


def read_toml(path: Path) -> dict[str, Any]:
    """Returns the values of a TOML file; a byte order mark at its start is skipped.

    Raises:
        TomlError: it cannot be read, is not UTF-8 text, is not valid TOML, or is nested more than `DEEPEST` levels.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        todo = f"{nearest_file(path)}Check the path and its permissions."
        raise TomlError(f"cannot be read: {reason}", todo) from None
    except UnicodeDecodeError as error:
        raise TomlError(f"must be UTF-8 text, but byte {error.start} is not", "Save the file as UTF-8.") from None
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise _nested() from None
    except ValueError as error:  # TOMLDecodeError, and errors of Python's own number parsing
        raise TomlError(f"is not valid TOML: {error}", "Fix that line.") from None
    if _deep(values):
        raise _nested()
    return values


def nearest_file(path: Path) -> str:
    """Returns "Did you mean 'x'? " for the file of a missing one's folder and suffix with the nearest name, or ""."""
    if os.path.exists(path):  # which never raises
        return ""
    names = [found.name for found in path.parent.glob(f"*{path.suffix}")]
    return did_you_mean(path.name, names, str(path).removesuffix(path.name))


def _nested() -> TomlError:
    return TomlError(f"is not usable: nested too deeply, over {DEEPEST} levels", "Write plain lists and tables.")


def _deep(values: dict[str, Any]) -> bool:
    level: list[Any] = [values]
    for _ in range(DEEPEST):
        inner = [item for part in level for item in (part.values() if isinstance(part, dict) else part)]
        level = [item for item in inner if isinstance(item, dict | list)]
        if not level:
            return False
    return True
