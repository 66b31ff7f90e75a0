"""How much of a cell a ledger holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lawn_tune.cells import Cell
from lawn_tune.results import TrialRow
from lawn_tune.selection import winner


@dataclass(frozen=True)
class Counts:
    """Trials of a cell by outcome.

    Args:
        planned: search trials and confirm trials; a search in which every point diverged has nothing to confirm.
        complete, diverged, failed, running: as in the ledger.
    """

    planned: int
    complete: int
    diverged: int
    failed: int
    running: int

    @property
    def done(self) -> int:
        """Trials with a result: they are never trained again."""
        return self.complete + self.diverged

    @property
    def missing(self) -> int:
        """Trials that a launch has still to begin."""
        return self.planned - self.done - self.failed - self.running

    @property
    def share(self) -> float:
        """Finished share of the plan, from 0 to 1."""
        return self.done / self.planned if self.planned else 1.0


def count(cell: Cell, rows: Iterable[TrialRow]) -> Counts:
    """Counts the trials of a cell's plan in a ledger's rows; rows of other grids, budgets and winners are left out."""
    known = {row.key: row for row in rows if row.cell == str(cell.name)}
    best = winner(cell, known.values())
    confirm = cell.confirm_trials(best.hyperparameters) if best else ()
    outcomes = [known[trial.key].outcome for trial in (*cell.search_trials, *confirm) if trial.key in known]
    searched = sum(trial.key in known for trial in cell.search_trials)
    diverged = searched == len(cell.search_trials) and set(outcomes) == {"diverged"}
    return Counts(
        planned=len(cell.search_trials) + (0 if diverged else len(cell.protocol.confirm_seeds)),
        complete=outcomes.count("complete"),
        diverged=outcomes.count("diverged"),
        failed=outcomes.count("failed"),
        running=outcomes.count("running"),
    )
