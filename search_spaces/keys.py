"""Keys of a TOML file: where a key is, whether it is allowed there, and the form of every error about it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, time
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from search_spaces.space import SpaceError

SHOWN = 120
"""Characters of a value in an error."""


def space_error(source: Path, key: str, rule: str, got: object, todo: str) -> SpaceError:
    """Returns the error of one key in the form `file: key: rule, got value. What to do.`

    Args:
        source: the file.
        key: dotted key, "" for the file as a whole.
        rule: the requirement, and the values allowed.
        got: the value found.
        todo: the next step, as a sentence.
    """
    return SpaceError(f"{source}: {key}: {rule}, got {shown(got)}. {todo}")


def shown(value: object) -> str:
    """Returns a value of a TOML file fit for an error: shortened, and without what is in a table."""
    if isinstance(value, dict):
        return "a table" if value else "an empty table"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "a list of tables"
    text = value.isoformat() if isinstance(value, date | time) else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def as_list(value: object, example: str = "[1, 2, 3]") -> str:
    """Returns how to write a value as a list: "Write it as [0.1].", or an example where it is not a single one."""
    word = "it as"
    if isinstance(value, str) and value.isprintable() and len(value) < SHOWN:
        example = f"[{json.dumps(value, ensure_ascii=False)}]"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        example = f"[{shown(value)}]"
    else:
        word = "a list such as"
    return f"Write {word} {example}."


def did_you_mean(name: object, known: Iterable[str], before: str = "") -> str:
    """Returns "Did you mean 'x'? " for the nearest known name, with what comes before it, or ""."""
    close = get_close_matches(str(name), list(known), n=1)
    return f"Did you mean '{before}{close[0]}'? " if close else ""


@dataclass(frozen=True)
class Keys:
    """A TOML table with its dotted key, so that every error can name the place."""

    source: Path
    prefix: str
    values: Mapping[str, Any]

    def key(self, name: str) -> str:
        """Returns the dotted key of a name in this table."""
        return f"{self.prefix}.{name}" if self.prefix else name

    def error(self, name: str, rule: str, got: object, todo: str) -> SpaceError:
        """Returns `space_error` for a name in this table."""
        return space_error(self.source, self.key(name), rule, got, todo)

    def only(self, known: Collection[str]) -> None:
        """Raises SpaceError if a name is not a known one."""
        for name in self.values:
            if name not in known:
                listed = ", ".join(known)
                todo = f"{did_you_mean(name, known)}Rename or remove it."
                raise self.error(name, f"unknown key; known keys are {listed}", self.values[name], todo)

    def requires(self, names: Iterable[str]) -> None:
        """Raises SpaceError if one of these names is missing."""
        for name in names:
            if name not in self.values:
                where = f"[{self.prefix}]" if self.prefix else "the top of the file"
                where = re.sub(r"\[(\w+)\[(\d+)\]\]", r"that [[\1]]", where)  # "[budgets[0]]" is no header
                raise SpaceError(f"{self.source}: {self.key(name)}: missing key. Add it to {where}.")
