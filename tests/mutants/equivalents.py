"""Mutants that change nothing, each reviewed, with the reason: they are left out of the count."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutations import Mutation, Shown


@dataclass(frozen=True)
class Equivalents:
    """The reviewed list: (file, function, lines before, lines after) → reason; no line numbers, as code moves."""

    reasons: dict[Shown, str]

    @classmethod
    def read(cls, path: Path) -> Equivalents:
        """Reads the list.

        Raises:
            KeyError: an entry lacks a field.
            ValueError: an entry gives no reason.
        """
        reasons = {}
        for entry in tomllib.loads(path.read_text()).get("mutant", []):
            if not entry["reason"].strip():
                raise ValueError(f"{path.name}: every entry needs a reason, got none for {entry['before']}")
            reasons[entry["file"], entry["function"], entry["before"], entry["after"]] = entry["reason"]
        return cls(reasons)

    def lists(self, mutation: Mutation) -> bool:
        """Whether a mutation is on the list."""
        return mutation.shown in self.reasons

    def stale(self, current: Mapping[str, Iterable[Mutation]]) -> list[Shown]:
        """Returns the entries of some files, given with all their mutations, that are none of them any more."""
        known = {mutation.shown for mutations in current.values() for mutation in mutations}
        return [entry for entry in self.reasons if entry[0] in current and entry not in known]
