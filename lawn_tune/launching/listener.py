"""What a launch reports while it runs, and in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lawn_tune.cells import Cell, Phase
from lawn_tune.executors.base import Job
from trainables.outcomes import EpochRecord, TrialOutcome, diverged


class Listener(Protocol):
    """A display of a launch; every method returns at once."""

    def found(self, cell: Cell, phase: Phase, done: int, missing: int) -> None:
        """A phase of a cell was begun: `done` trials were in the ledger, `missing` will be trained."""

    def extended(self, before: Cell, after: Cell) -> None:
        """The grid of a cell was widened: its winner, or that of a rival, is on an edge."""

    def advanced(self, job: Job, records: Sequence[EpochRecord]) -> None:
        """A job finished epochs."""

    def finished(self, job: Job, outcomes: Sequence[TrialOutcome]) -> None:
        """A job's outcomes are in the ledger."""

    def failed(self, job: Job, error: str, again: bool) -> None:
        """A job failed, and will be tried again or not."""

    def diverged(self, cell: Cell, phase: Phase, count: int, trials: int) -> None:
        """More than half of the trials of a phase have diverged by now; called once a phase."""

    def warned(self, text: str) -> None:
        """Something is wrong, though training goes on."""

    def noted(self, text: str) -> None:
        """Something was done on a machine that trains."""

    def waiting(self, cells: Sequence[Cell]) -> None:
        """Only cells that another launch works on are left."""


@dataclass
class Tally:
    """What a launch did, counted in trials.

    Args:
        left_out: True once a pack was not begun because a limit would have been passed.
        seconds: device time of the trained ones.
        errors: one text for each pack that failed for good.
        by_code: whether the last of these is the fault of the user's code, so that another try alone does not help.
    """

    trained: int = 0
    found: int = 0
    diverged: int = 0
    failed: int = 0
    left_out: bool = False
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)
    by_code: bool = False

    def add(self, outcomes: Sequence[TrialOutcome]) -> int:
        """Counts trained trials; returns how many of them diverged."""
        lost = diverged(outcomes)
        self.trained += len(outcomes)
        self.diverged += lost
        self.seconds += sum(outcome.summary["seconds"] or 0.0 for outcome in outcomes)
        return lost

    def fail(self, trials: int, error: str, *, by_code: bool) -> None:
        """Counts the trials of a pack that failed for good."""
        self.failed += trials
        self.errors.append(error)
        self.by_code = by_code
