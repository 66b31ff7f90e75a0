"""The contract between the launch, which decides and keeps the ledger, and an executor, which trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal, Protocol

from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.tasks import PackConfig


@dataclass(frozen=True, kw_only=True)
class Job:
    """One attempt at one pack.

    Args:
        pack: the pack's identity in the ledger.
        config: what to train.
    """

    pack: str
    config: PackConfig


class Nothing(Enum):
    """Why an agenda hands out no job."""

    NOW = auto()
    """Other jobs must end first: ask again."""
    EVER = auto()
    """All is done, or the launch is stopping."""


@dataclass(frozen=True)
class Progress:
    """Epochs that a job finished; after a resume the first report repeats those before it. None: it goes on within one.

    Args:
        warnings: what people should know of the machine that trains it, though training goes on.
        notes: what was done on that machine, and is of interest once.
    """

    job: Job
    records: Sequence[EpochRecord]
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Finished:
    """A job's outcomes, one a member, and where and with what they were trained."""

    job: Job
    outcomes: Sequence[TrialOutcome]
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    """A job that ended without outcomes.

    Args:
        reason: "memory" when the pack did not fit the device, "stopped" when it was asked to stop, "lost" when its
            machine was lost, "data" when the data set is missing or damaged there, "alone" when trials of the pack's
            workload cannot be trained at once, "workload" when none can be trained, "class" when that is so of the
            user's optimizer class, else "error".
        error: text for people, with the traceback where there is one.
    """

    job: Job
    reason: Literal["memory", "stopped", "lost", "data", "alone", "workload", "class", "error"]
    error: str


Event = Progress | Finished | Failed

UNUSABLE = ("workload", "class")
"""Reasons why no pack of a user's code can be trained."""


class Agenda(Protocol):
    """What an executor works off. Its methods are called from the thread that called `Executor.run` only."""

    def next_job(self) -> Job | Nothing:
        """Returns the next job, marked as running in the ledger, or why there is none."""
        ...

    def handle(self, event: Event) -> None:
        """Stores what a job reports. Exactly one Finished or Failed follows each job handed out."""
        ...

    def wanted(self, job: Job) -> bool:
        """False once a job is no longer wanted: it should end soon, with Failed("stopped"), and others go on."""
        ...

    @property
    def stopping(self) -> bool:
        """True once no more work is wanted; running jobs should end soon, with Failed("stopped")."""
        ...


class Executor(Protocol):
    """A way to train packs."""

    def prepare(self, agenda: Agenda) -> None:
        """Begins in the background what takes long to start; `run` does so itself if it was not called.

        Args:
            agenda: what `run` will work off; once it is stopping, nothing is waited for.
        """
        ...

    def close(self) -> None:
        """Ends what `prepare` began; `run` has ended it when it returns, so this may be called in any case."""
        ...

    def run(self, agenda: Agenda) -> None:
        """Works until the agenda has nothing more and every job handed out has ended.

        Raises:
            ExecutionError: the means of execution broke; jobs in flight are reported as Failed first.
        """
        ...
