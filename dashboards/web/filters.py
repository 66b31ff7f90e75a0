"""URL to filters and back: everything that a viewer chose is in the address."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

SPACE = "space"
NAME = re.compile(r"[a-z][a-z_]{0,30}")
MAX_VALUES, LONGEST_VALUE = 100, 200
"""What an address may hold for one filter; the rest is ignored."""


@dataclass(frozen=True)
class Filters:
    """Name → chosen values, in the order chosen; a name without values is not there.

    Values come from an address, so they are any text: compare them, print them, never evaluate them.
    """

    values: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @staticmethod
    def of(**values: str | list[str]) -> Filters:
        """Returns filters of plain values."""
        return Filters.from_dict(values)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Filters:
        """Returns what is well formed in name → text or list of texts, as a browser sent it."""
        return Filters(tuple(sorted((name, kept) for name, kept in _well_formed(values) if kept)))

    def __getitem__(self, name: str) -> tuple[str, ...]:
        """The chosen values, () if none: for filters where nothing chosen means everything."""
        return dict(self.values).get(name, ())

    def one(self, name: str, default: str = "") -> str:
        """The chosen value, or the default."""
        return (*self[name], default)[0]

    def allows(self, name: str, value: object) -> bool:
        """True if the filter is not set, or holds the value's text."""
        return not self[name] or str(value) in self[name]

    def to_dict(self) -> dict[str, list[str]]:
        """The inverse of `from_dict`."""
        return {name: list(values) for name, values in self.values}


@dataclass(frozen=True)
class AskedFilters(Filters):
    """Filters that note which of them are asked for: what is drawn from them follows these and no others."""

    asked: set[str] = field(default_factory=set, compare=False)

    def __getitem__(self, name: str) -> tuple[str, ...]:
        """See `Filters.__getitem__`."""
        self.asked.add(name)
        return super().__getitem__(name)


def href(path: str, space: str, filters: Filters | None = None) -> str:
    """Returns the address of a page: path, space and filters, escaped."""
    pairs = [(SPACE, space)] if space else []
    pairs += [(name, value) for name, values in (filters or Filters()).values for value in values]
    return path + (f"?{urlencode(pairs)}" if pairs else "")


def _well_formed(values: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, value in values.items():
        if NAME.fullmatch(name) and name != SPACE:
            listed = [value] if isinstance(value, str) else value if isinstance(value, list) else []
            yield name, tuple(v for v in listed[:MAX_VALUES] if isinstance(v, str) and 0 < len(v) <= LONGEST_VALUE)
