"""A table of a space's file, with a reader for each kind of value."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from search_spaces.keys import Keys, as_list, did_you_mean, space_error
from search_spaces.levels import AUTO, INFLECTION, of_word

LARGEST = 2**31 - 1
"""Upper bound of batch sizes, epochs and seeds: every random generator and database accepts seeds up to it."""

Value = TypeVar("Value", int, float, str)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NAME_RULE = "a name of letters, digits, '.', '_' and '-', starting with a letter or digit"


class Table(Keys):
    """A table of a space; a reader raises SpaceError where a value is not of its kind."""

    def text(self, name: str) -> str:
        """Returns a text that is not empty."""
        value = self.values[name]
        if not isinstance(value, str) or not value.strip():
            raise self.error(name, "must be a non-empty string", value, "Write it in quotes.")
        return value

    def name(self, name: str) -> str:
        """Returns a text that may be part of the name of a study."""
        return check_name(self.source, self.key(name), self.text(name))

    def table(self, name: str) -> Table:
        """Returns a table within this one."""
        value = self.values[name]
        if not isinstance(value, dict):
            raise self.error(name, "must be a table", value, f"Write it as [{self.key(name)}] with keys below.")
        return Table(self.source, self.key(name), value)

    def tables(self, name: str, keys: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Table]:
        """Yields the tables of a list, each with all of the keys and none but these and the optional ones."""
        form = f"Write each as [[{name}]] with {' and '.join(keys)}."
        for i, value in enumerate(self.items(name, form)):
            if not isinstance(value, dict):
                raise self.error(name, "must be a list of tables", value, form)
            table = Table(self.source, f"{name}[{i}]", value)
            table.only([*keys, *optional])
            table.requires(keys)
            yield table

    def items(self, name: str, form: str = "") -> list[Any]:
        """Returns a list that is not empty; `form` is how to write it, if not as a list of plain values."""
        value = self.values[name]
        if not isinstance(value, list) or not value:
            raise self.error(name, "must be a list with at least one value", value, form or as_list(value))
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Returns the texts of a list."""
        values = self.items(name, as_list(self.values[name], '["train.py", "model.py"]'))
        for value in values:
            if not isinstance(value, str) or not value:
                raise self.error(name, "must contain only non-empty strings", value, "Write each in quotes.")
        return tuple(values)

    def integers(self, name: str) -> tuple[int, ...]:
        """Returns the whole numbers from 0 of a list, none twice."""
        return self._distinct(name, [self.integer(name, value, minimum=0) for value in self.items(name)])

    def integer(self, name: str, value: object, *, minimum: int) -> int:
        """Returns a whole number from `minimum` to `LARGEST`."""
        if isinstance(value, bool) or not isinstance(value, int):
            todo = "Write a whole number such as 12."
            raise self.error(name, f"must be a whole number from {minimum} to {LARGEST}", value, todo)
        if not minimum <= value <= LARGEST:
            todo = "Choose a number in that range."
            raise self.error(name, f"must be a whole number from {minimum} to {LARGEST}", value, todo)
        return value

    def numbers(self, name: str) -> tuple[float, ...]:
        """Returns the numbers of a list, none twice."""
        return self._distinct(name, [self.number(name, value) for value in self.items(name)])

    def levels(self, name: str, margins: tuple[float, ...]) -> tuple[float, ...]:
        """Returns numbers, and those that words stand for; see `search_spaces.levels`."""
        items = self.items(name)
        self._distinct(name, [item for item in items if isinstance(item, str)])
        found = [of_word(item, margins) if isinstance(item, str) else () for item in items]
        levels = [words or (self.number(name, item),) for item, words in zip(items, found, strict=True)]
        return self._distinct(name, [level for some in levels for level in some])

    def number(self, name: str, value: object) -> float:
        """Returns a finite number from 0."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            todo = f"{did_you_mean(value, (AUTO, INFLECTION))}Write plain numbers such as 0.01 or 3."
            raise self.error(name, "must contain only numbers", value, todo)
        number = finite(value)
        if number is None or number < 0:
            raise self.error(name, "must contain only finite numbers >= 0", value, "Remove or fix that value.")
        return number + 0.0  # turns -0.0 into 0.0, so that equal values print and hash alike

    def _distinct(self, name: str, values: list[Value]) -> tuple[Value, ...]:
        for i, value in enumerate(values):
            if value in values[:i]:
                raise self.error(name, "must not contain a value twice", value, "Remove the duplicate.")
        return tuple(values)


def check_name(source: Path, key: str, value: str) -> str:
    """Returns a text that may be part of the name of a study.

    Raises:
        SpaceError: it has other characters.
    """
    if not _NAME.fullmatch(value):
        raise space_error(source, key, f"must be {_NAME_RULE}", value, "Rename it.")
    return value


def finite(value: float) -> float | None:
    """Returns a number; None for one that no float holds."""
    try:
        number = float(value)
    except OverflowError:  # an integer too large for a float
        return None
    return number if math.isfinite(number) else None
