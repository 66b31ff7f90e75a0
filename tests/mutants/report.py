"""What was noticed and what survived, on the screen and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import asdict
from pathlib import Path

from tests.mutants.mutations import Mutation, Shown
from tests.mutants.workshop import Outcome


class Report:
    """Prints survivors and a summary by area at the end, and keeps the JSON file up to date.

    Args:
        seed: the sample's.
        path: the JSON file.

    Attributes:
        last: the tests that noticed mutants in the run before, by what a reader sees of each.
    """

    def __init__(self, seed: int, path: Path) -> None:
        self._seed, self._path = seed, path
        self._outcomes: dict[str, dict[Mutation, Outcome]] = {}
        self._equivalent: Counter[str] = Counter()
        self.last = _noticed(path)

    def begin(self, area: str, equivalent: int) -> None:
        """Notes how many of the mutants drawn of an area are listed as equivalent."""
        self._equivalent[area] = equivalent
        self._outcomes[area] = {}

    def add(self, area: str, outcome: Outcome) -> None:
        """Adds one mutant's outcome, in place of an earlier one."""
        self._outcomes[area][outcome.mutation] = outcome
        self._write()

    def survivors(self, area: str) -> list[Mutation]:
        """Returns the mutants that no test has noticed yet."""
        return [mutation for mutation, outcome in self._outcomes[area].items() if not outcome.by]

    def noticed_by(self, mutations: Iterable[Mutation], files: Container[str]) -> list[str]:
        """Returns those of some test files that noticed mutants in the run before."""
        found = {self.last.get(mutation.shown, "").split("::")[0] for mutation in mutations}
        return sorted(file for file in found if file in files)

    @property
    def noticed_share(self) -> float:
        """Share of the tried mutants that a test noticed; 1 if none was tried."""
        tried = [outcome for outcomes in self._outcomes.values() for outcome in outcomes.values()]
        return sum(bool(outcome.by) for outcome in tried) / len(tried) if tried else 1.0

    def finish(self) -> None:
        """Prints the survivors and the summary."""
        for outcomes in self._outcomes.values():
            for outcome in outcomes.values():
                if not outcome.by:
                    print(described(outcome))
        print(f"\n{'area':<24}{'tried':>7}{'noticed':>9}{'survived':>10}{'equivalent':>12}")
        for area, outcomes in self._outcomes.items():
            tried, survived = len(outcomes), len(self.survivors(area))
            print(f"{area:<24}{tried:>7}{tried - survived:>9}{survived:>10}{self._equivalent[area]:>12}")
        print(f"\n{self.noticed_share:.1%} noticed (seed {self._seed}); details in {self._path}")
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        mutants = [
            {"area": area, **_plain(outcome)}
            for area, outcomes in self._outcomes.items()
            for outcome in outcomes.values()
        ]
        record = {"seed": self._seed, "noticed_share": self.noticed_share, "equivalent": self._equivalent}
        self._path.write_text(json.dumps(record | {"mutants": mutants}, indent=1, ensure_ascii=False))


def _noticed(path: Path) -> dict[Shown, str]:
    if not path.exists():
        return {}
    mutants = json.loads(path.read_text())["mutants"]
    return {(m["file"], m["function"], m["before"], m["after"]): m["by"] for m in mutants if m["by"]}


def described(outcome: Outcome) -> str:
    """Returns a survivor's place and diff."""
    mutation = outcome.mutation
    return (
        f"survived {mutation.file}:{mutation.line} in {mutation.function or 'the module'} ({outcome.tests} tests)\n"
        f"  - {mutation.before}\n  + {mutation.after}"
    )


def _plain(outcome: Outcome) -> dict[str, object]:
    mutation = {
        k: v for k, v in asdict(outcome.mutation).items() if k in ("file", "line", "function", "before", "after")
    }
    return mutation | {
        "noticed": bool(outcome.by), "by": outcome.by, "seconds": round(outcome.seconds, 2), "tests": outcome.tests
    }  # fmt: skip
