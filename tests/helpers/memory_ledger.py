"""A ledger in memory for commands that read: planned cells, and rows as a test needs them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lawn_tune.cells import Cell, CellName
from lawn_tune.ledger import Lease
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import find_space
from lawn_tune.results import Outcome, TrialRow
from tests.helpers.phases import phase_of
from trainables.tasks import Trial

PROVENANCE: Mapping[str, Any] = {
    "lawn_tune": "0.1.0",
    "python": "3.11.2",
    "libraries": {"torch": "2.14.1", "numpy": "2.4.6"},
    "device": "cpu: x86_64",
    "host": "node-1",
}


@dataclass
class MemoryLedger:
    """The read side of a ledger, over lists."""

    planned: tuple[Cell, ...] = ()
    rows: list[TrialRow] = field(default_factory=list)
    held: dict[CellName, Lease] = field(default_factory=dict)
    closed: bool = False

    def spaces(self) -> tuple[str, ...]:
        return tuple(sorted({cell.name.space for cell in self.planned}))

    def cells(self, space: str) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.planned if cell.name.space == space)

    def trials(self, space: str) -> tuple[TrialRow, ...]:
        return tuple(row for row in self.rows if row.cell.startswith(f"{space}/"))

    def version(self, space: str) -> str:
        return repr((self.cells(space), self.trials(space)))

    def leases(self) -> Mapping[CellName, Lease]:
        return self.held

    def close(self) -> None:
        self.closed = True


QUICKSTART = plan(find_space("quickstart"))


def row(
    cell: Cell, trial: Trial, outcome: Outcome = "complete", *, value: float | None = 90.0, error: str = ""
) -> TrialRow:
    """Returns the row of a trial, complete with the given validation value unless said otherwise."""
    return TrialRow(
        key=trial.key,
        cell=str(cell.name),
        phase=phase_of(cell, trial),
        seed=trial.seed,
        hyperparameters=trial.hyperparameters,
        outcome=outcome,
        epochs=20,
        total_epochs=20,
        summary={"last/validation/accuracy": value, "last/test/accuracy": value, "seconds": 1.5},
        pack="p1",
        attempts=1,
        error=error,
        provenance=PROVENANCE,
    )


def rows(cell: Cell, trials: Iterable[Trial], outcome: Outcome = "complete") -> list[TrialRow]:
    """Returns rows of equal outcome whose values fall, so that the first point wins."""
    return [row(cell, trial, outcome, value=90.0 - i) for i, trial in enumerate(trials)]
