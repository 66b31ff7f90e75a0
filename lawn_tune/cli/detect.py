"""`lawn-tune plan --detect`: how many confirm seeds each pair needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lawn_tune.cells import Cell
from lawn_tune.cli.options import console, plain_table
from lawn_tune.comparison.compare import compare
from lawn_tune.comparison.inference import POWER
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
        out.print("\n".join(_notes(self.pairs)), soft_wrap=True, markup=False)


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
        "no number" if pair.seeds is None else f"{pair.seeds:,}",
        f"{pair.planned}",
        "–" if pair.detectable is None else f"{pair.detectable:.2f}",
        f"{pair.spread:.2f}",
        pair.basis,
    )


def _notes(pairs: Sequence[Needed]) -> list[str]:
    notes = ["now finds: what the planned seeds find; spread: standard deviation of a pair's difference between runs"]
    if any(pair.basis == "prior" for pair in pairs):
        notes.append(f"prior: each method's runs differ by {PRIOR_SPREAD} points, and the test set sets no limit")
    if any(pair.seeds is None for pair in pairs):
        notes.append("no number: the test set is the limit, with any number of seeds")
    return notes
