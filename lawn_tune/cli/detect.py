"""`lawn-tune plan --detect`: how many confirm seeds each pair needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lawn_tune.cells import Cell
from lawn_tune.cli.printing import console, plain_table
from lawn_tune.comparison.compare import compare
from lawn_tune.comparison.inference import MOST_SEEDS, POWER
from lawn_tune.comparison.power import PRIOR_SPREAD, Needed, needed
from lawn_tune.results import TrialRow
from trainables.examples import Outcomes


class Detected(NamedTuple):
    """The difference to be found, in points, and what each pair needs for it."""

    difference: float
    pairs: Sequence[Needed]

    def document(self) -> dict[str, Any]:
        """Returns what --json adds."""
        pairs = [pair._asdict() for pair in self.pairs]
        return {"detect": {"difference": self.difference, "power": POWER, "pairs": pairs}}

    def print(self) -> None:
        """Prints a table, and what its columns are."""
        out = console()
        title = f"Confirm seeds with which 4 of 5 studies find a difference of {self.difference:g}"
        columns = ("challenger", "baseline", "needs", "planned", "now finds", "spread", "from")
        rows = [_row(pair) for pair in self.pairs]
        out.print("", plain_table(columns, rows, left=("challenger", "baseline", "from"), title=title), "")
        out.print("\n".join(_notes(self)), soft_wrap=True, markup=False)


def detected(
    planned: Sequence[Cell], rows: Sequence[TrialRow], examples: Mapping[str, Outcomes], difference: float
) -> Detected:
    """Returns the confirm seeds that each pair needs, space by space.

    Args:
        planned: cells.
        rows: trials of their spaces in a ledger.
        examples: key → outcome on each test example [E], of confirm trials.
        difference: to be found, in points, above 0.
    """
    spaces = dict.fromkeys(cell.name.space for cell in planned)
    groups = [[cell for cell in planned if cell.name.space == space] for space in spaces]
    return Detected(
        difference, [found for cells in groups for found in needed(compare(cells, rows, examples), difference)]
    )


def _row(pair: Needed) -> tuple[str, ...]:
    return (
        pair.challenger,
        pair.baseline.split("/")[1],
        "unknown" if pair.basis == "unknown" else "no number" if pair.seeds is None else f"{pair.seeds:,}",
        f"{pair.planned}",
        _number(pair.detectable),
        _number(pair.spread),
        "–" if pair.basis == "unknown" else pair.basis,
    )


def _number(value: float | None) -> str:
    """Returns three digits, or as many as the whole part has: metrics have all sizes."""
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def _notes(found: Detected) -> list[str]:
    pairs = found.pairs
    notes = ["now finds: what the planned seeds find; spread: standard deviation of a pair's difference between runs"]
    if any(pair.basis == "prior" for pair in pairs):
        notes.append(f"prior: each method's runs differ by {PRIOR_SPREAD} points, and the test set sets no limit")
    if any(pair.basis == "unknown" for pair in pairs):
        notes.append(
            "unknown: no run shows how much runs differ, and for a metric that is not in percent none is assumed"
        )
    if lacking := [pair for pair in pairs if pair.seeds is None and pair.basis != "unknown"]:
        limited = any(pair.limit is not None and pair.limit > found.difference for pair in lacking)
        why = ": the test set or the choice of the winners is the limit" if limited else ""
        notes.append(f"no number: {MOST_SEEDS:,} seeds would not find it either{why}")
    return notes
