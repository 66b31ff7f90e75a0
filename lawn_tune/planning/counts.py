"""How much of a cell a ledger holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass

from lawn_tune.cells import Cell
from lawn_tune.planning.selection import winner
from lawn_tune.results import Outcome, TrialRow


@dataclass(frozen=True)
class Counts:
    """Trials of a cell by outcome.

    Args:
        planned: search trials and confirm trials; a search in which every point diverged has nothing to confirm.
        complete, diverged, failed, running: as in the ledger.
    """

    planned: int = 0
    complete: int = 0
    diverged: int = 0
    failed: int = 0
    running: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

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


def count(cell: Cell, rows: Iterable[TrialRow], elsewhere: Mapping[str, Outcome] | None = None) -> Counts:
    """Counts the trials of a cell's plan in a ledger's rows; rows of other grids, budgets and winners are left out.

    Args:
        elsewhere: key → outcome of equal search trials that were trained for other spaces; a launch trains them no
            second time.
    """
    name = str(cell.name)
    known = {row.key: row for row in rows if row.cell == name}
    best = winner(cell, known.values())
    confirm = cell.confirm_trials(best.hyperparameters) if best else ()
    held = dict(elsewhere or {}) | {key: row.outcome for key, row in known.items()}
    outcomes = [held[trial.key] for trial in (*cell.search_trials, *confirm) if trial.key in held]
    searched = sum(trial.key in held for trial in cell.search_trials)
    diverged = searched == len(cell.search_trials) and set(outcomes) == {"diverged"}
    return Counts(
        planned=len(cell.search_trials) + (0 if diverged else len(cell.protocol.confirm_seeds)),
        complete=outcomes.count("complete"),
        diverged=outcomes.count("diverged"),
        failed=outcomes.count("failed"),
        running=outcomes.count("running"),
    )
