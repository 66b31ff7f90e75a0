"""Replays jobs from a table of known outcomes in simulated time: a cluster of any size, without workers or waiting.

The launch and the ledger are real, so schedules can be studied, and the service tested, in the time of the driver's own
work.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lawn_tune.executors.base import Agenda, Event, Failed, Finished, Job, Nothing, Progress
from lawn_tune.results import FINISHED, ResultSource, TrialRow
from trainables.outcomes import EpochRecord, TrialOutcome

Timed = tuple[float, Event]
"""Seconds since the start of the job, and its event at that time."""

Table = Callable[[Job], Iterator[Timed]]
"""Job → its events in order of time; the last one is Finished or Failed."""


@dataclass
class SimulatedClock:
    """The simulated time, seconds."""

    now: float = 0.0

    def __call__(self) -> float:
        """Returns the time, as the clock of limits."""
        return self.now


@dataclass
class Usage:
    """Usage of the slots.

    Args:
        busy: total seconds of all slots.
        ends: for each job its pack, start and end.
        events: number of events passed to the agenda.
    """

    busy: float = 0.0
    ends: list[tuple[str, float, float]] = field(default_factory=list)
    events: int = 0


@dataclass
class TabulatedExecutor:
    """An event queue over `slots` workers.

    Args:
        table: the events of each job, with times.
        slots: number of concurrent jobs.
        clock: advanced from event to event; can be shared with the limits of a launch.
    """

    table: Table
    slots: int
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    usage: Usage = field(default_factory=Usage)

    def prepare(self, agenda: Agenda) -> None:
        """Does nothing: there is nothing to start."""

    def close(self) -> None:
        """Does nothing: there is nothing to stop."""

    def run(self, agenda: Agenda) -> None:
        """See `Executor.run`; a job stops at the end of an epoch, like a worker."""
        queue = _Queue()
        while True:
            last = self._fill(agenda, queue)
            if not queue:
                if last is Nothing.EVER:
                    return
                time.sleep(0.05)  # another process holds the remaining cells: the only wait that is not simulated
                continue
            at, job, event = queue.pop()
            self.clock.now = at
            if isinstance(event, Progress) and (agenda.stopping or not agenda.wanted(job)):
                event = Failed(job, "stopped", "the simulation was asked to stop")
            self._deliver(agenda, queue, event)

    def _fill(self, agenda: Agenda, queue: _Queue) -> Nothing | None:
        """Gives every free slot a job; returns why there is none for the next one, None if no slot is free."""
        while len(queue) < self.slots:
            job = agenda.next_job()
            if isinstance(job, Nothing):
                return job
            queue.begin(job, self.clock.now, self.table(job))
        return None

    def _deliver(self, agenda: Agenda, queue: _Queue, event: Event) -> None:
        if isinstance(event, Progress):
            queue.advance(event.job)
        else:
            began = queue.end(event.job)
            self.usage.busy += self.clock.now - began
            self.usage.ends.append((event.job.pack, began, self.clock.now))
        self.usage.events += 1
        agenda.handle(event)


class _Queue:
    """The next event of each running job, by time; equal times in the order of job starts."""

    def __init__(self) -> None:
        self._next: list[tuple[float, int, Job, Event]] = []
        self._running: dict[str, tuple[float, int, Iterator[Timed]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, job: Job, now: float, events: Iterator[Timed]) -> None:
        self._running[job.pack] = (now, self._count, events)
        self._count += 1
        self.advance(job)

    def advance(self, job: Job) -> None:
        began, number, events = self._running[job.pack]
        after, event = next(events)
        heapq.heappush(self._next, (began + after, number, job, event))

    def pop(self) -> tuple[float, Job, Event]:
        at, _, job, event = heapq.heappop(self._next)
        return at, job, event

    def end(self, job: Job) -> float:
        """Removes a job and returns its start."""
        return self._running.pop(job.pack)[0]


class StoredResults:
    """The results of a ledger as a table: the same curves, outcomes and seconds for any division into packs.

    Args:
        source: a ledger.
        spaces: names of the spaces to replay; None for all.
    """

    def __init__(self, source: ResultSource, spaces: Sequence[str] | None = None) -> None:
        self._source = source
        names = source.spaces() if spaces is None else spaces
        rows = (row for name in names for row in source.trials(name))
        self._rows = {row.key: row for row in rows if row.outcome in FINISHED}

    def __call__(self, job: Job) -> Iterator[Timed]:
        """See `Table`; a trial that is not in the ledger makes its job fail immediately."""
        task, members = job.config.task, job.config.members
        missing = [member.key for member in members if member.key not in self._rows]
        if missing:
            of = f"{task.dataset}, {task.optimizer}/bs{task.batch_size}"
            yield 0.0, Failed(job, "error", f"no stored result of {', '.join(missing)} ({of})")
            return
        rows = [self._rows[member.key] for member in members]
        seconds, last = sum(row.summary.get("seconds") or 0.0 for row in rows), max(row.epochs for row in rows)
        for record in self._records(rows, last):
            yield seconds * record.epoch / last, Progress(job, [record])
        yield seconds, Finished(job, self._outcomes(rows), rows[0].provenance)

    def _records(self, rows: Sequence[TrialRow], last: int) -> Iterator[EpochRecord]:
        curves = self._source.curves([row.key for row in rows])
        names = dict.fromkeys(name for curve in curves.values() for name in curve)
        for epoch in range(1, last + 1):
            series = {name: [_value(curves.get(row.key, {}), name, epoch) for row in rows] for name in names}
            yield EpochRecord(epoch=epoch, series=series)

    def _outcomes(self, rows: Sequence[TrialRow]) -> list[TrialOutcome]:
        examples = self._source.examples([row.key for row in rows])
        return [
            TrialOutcome(
                key=row.key,
                outcome="complete" if row.outcome == "complete" else "diverged",
                epochs=row.epochs,
                summary=row.summary,
                examples=np.packbits(examples[row.key]).tobytes() if row.key in examples else b"",
                example_count=len(examples.get(row.key, ())),
            )
            for row in rows
        ]


def _value(curve: Mapping[str, Any], name: str, epoch: int) -> float | None:
    values = curve.get(name)
    if values is None or epoch > len(values) or np.isnan(values[epoch - 1]):
        return None
    return float(values[epoch - 1])
