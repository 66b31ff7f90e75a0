"""Replays jobs from a table of known outcomes in simulated time: a cluster of any size, without workers or waiting.

The launch and the ledger are real, so schedules can be studied, and the service tested, in the time of the driver's own
work.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lawn_tune.executors.base import Agenda, Event, Failed, Job, Nothing, Progress

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
