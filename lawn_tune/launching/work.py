"""What a launch knows of each cell: its state, the packs to begin and those in training."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from math import inf

from lawn_tune.cells import Cell, Phase
from lawn_tune.executors.base import Job
from lawn_tune.ledger import PackRow
from trainables.tasks import Task, Trial


class State(Enum):
    """What a launch does with a cell."""

    WAITING = auto()
    """Not leased: its turn has not come, or another launch works on it."""
    OPEN = auto()
    """Leased: its packs are trained."""
    FAILED = auto()
    """Leased: its packs are trained, but one failed for good, so that its winner is not confirmed."""
    LEFT_OUT = auto()
    """Leased: no pack is begun any more, as a limit would be passed."""
    LOST = auto()
    """Another launch's by now: no pack is begun, and running ones end; then it waits again."""
    SEARCHED = auto()
    """Given back until the grids of its rivals are as wide as needed; then it is confirmed."""
    DONE = auto()
    """Given back."""


OPENED = (State.OPEN, State.FAILED, State.LEFT_OUT, State.LOST)


@dataclass
class Work:
    """A cell, and of the phase that is trained: packs still to begin, those in training, and trials that diverged.

    `too_large` is the smallest number of trials in a pack that ran out of memory.
    """

    cell: Cell
    state: State = State.WAITING
    phase: Phase = "search"
    trials: dict[str, Trial] = field(default_factory=dict)
    queue: deque[PackRow] = field(default_factory=deque)
    running: set[str] = field(default_factory=set)
    diverged: int = 0
    too_large: float = inf

    @cached_property
    def keys(self) -> frozenset[str]:
        """Of its search trials."""
        return frozenset(trial.key for trial in self.cell.search_trials)

    def count_diverged(self, more: int) -> bool:
        """Adds trials that diverged; True when they become more than half of the phase, which happens once."""
        before, self.diverged = self.diverged, self.diverged + more
        return 2 * before <= len(self.trials) < 2 * self.diverged

    def stop(self, state: State) -> None:
        """Begins no more packs."""
        self.state = state
        self.queue.clear()


def leave(works: Iterable[Work], task: Task, reason: str) -> None:
    """Begins no more packs of a user's code, none of which can be trained.

    Args:
        task: of the pack that has shown it.
        reason: "class" for the optimizer class of the task, else all code of its space.
    """
    for work in works:
        other = work.cell.task
        same = other.optimizer_class == task.optimizer_class if reason == "class" else other.code == task.code
        if same and work.state in (State.OPEN, State.WAITING):
            work.stop(State.FAILED if work.state is State.OPEN else State.DONE)


@dataclass
class Next:
    """What `next_job` goes by besides the cells.

    Args:
        job: begun before there was an executor, and handed out first.
        lease_at: no cell is leased before, by the launch's clock.
    """

    job: Job | None = None
    lease_at: float = 0.0
