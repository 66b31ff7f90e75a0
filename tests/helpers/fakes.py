"""Stand-ins for what surrounds a launch: a display that counts, and an executor that trains nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from lawn_tune.cells import Cell, Phase
from lawn_tune.executors.base import Agenda, Event, Failed, Finished, Job, Nothing, Progress
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.tasks import Trial


@dataclass
class Recorder:
    """A listener that remembers its calls."""

    lines: list[str] = field(default_factory=list)

    def found(self, cell: Cell, phase: Phase, done: int, missing: int) -> None:
        self.lines.append(f"{cell.name} {phase} {done}+{missing}")

    def extended(self, before: Cell, after: Cell) -> None:
        self.lines.append(f"{after.name} {before.grid.size}->{after.grid.size}")

    def advanced(self, job: Job, records: Sequence[EpochRecord]) -> None:
        self.lines.append("advanced")

    def finished(self, job: Job, outcomes: Sequence[TrialOutcome]) -> None:
        self.lines.append("finished")

    def failed(self, job: Job, error: str, again: bool) -> None:
        self.lines.append(f"failed {again}")

    def diverged(self, cell: Cell, phase: Phase, count: int, trials: int) -> None:
        self.lines.append(f"{cell.name} {phase} {count}/{trials} diverged")

    def warned(self, text: str) -> None:
        self.lines.append(f"warned {text}")

    def noted(self, text: str) -> None:
        self.lines.append(f"noted {text}")

    def waiting(self, cells: Sequence[Cell]) -> None:
        self.lines.append("waiting")


def score(member: Trial) -> float:
    """A made-up metric that depends on the point and the seed only."""
    return 90.0 + (int(member.key, 16) % 1000) / 200


def outcome(member: Trial, epochs: int) -> TrialOutcome:
    value = score(member)
    summary = {f"last/{split}/accuracy": value for split in ("validation", "test")} | {"seconds": 0.1}
    return TrialOutcome(
        key=member.key, outcome="complete", epochs=epochs, summary=summary, examples=b"\xf0", example_count=8
    )


def record(job: Job, epoch: int) -> EpochRecord:
    values: list[float | None] = [score(member) for member in job.config.members]
    return EpochRecord(epoch=epoch, series={"validation/accuracy": values, "test/accuracy": values})


def succeed(job: Job) -> list[Event]:
    """Every epoch, then the outcomes."""
    epochs = job.config.task.epochs
    progress = [Progress(job, [record(job, epoch)]) for epoch in range(1, epochs + 1)]
    return [*progress, Finished(job, [outcome(member, epochs) for member in job.config.members], {"device": "fake"})]


def fail(reason: str = "error") -> Callable[[Job], list[Event]]:
    """One epoch, then a failure."""
    return lambda job: [Progress(job, [record(job, 1)]), Failed(job, reason, "boom")]  # type: ignore[arg-type]


@dataclass
class FakeExecutor:
    """Works the agenda off at once; `behave` says what each attempt at a pack reports."""

    behave: Callable[[Job], Iterable[Event]] = succeed
    trained: Counter[str] = field(default_factory=Counter)

    def run(self, agenda: Agenda) -> None:
        while not isinstance(job := agenda.next_job(), Nothing):
            for event in self.behave(job):
                if isinstance(event, Finished):
                    self.trained.update(member.key for member in job.config.members)
                agenda.handle(event)
