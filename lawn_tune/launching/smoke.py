"""A smoke run: a launch of `planning.smoke` cells that interrupts one pack, and remembers what it saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from lawn_tune.executors.base import Agenda, Event, Failed, Finished, Job, Nothing, Progress
from lawn_tune.launching.progress import label
from lawn_tune.words import count


@dataclass
class Seen:
    """What the packs of a smoke run reported.

    Args:
        packs: device and host → packs that ended there.
        peaks: cell → highest peak memory of its packs, bytes.
        members: cell → trials of its largest pack.
        interrupted: the pack that was asked to stop in the middle, "" before.
        resumed: True once it went on from its checkpoint.
        warnings: of workers.
        errors: reason of a failure → its first text.
    """

    packs: Counter[str] = field(default_factory=Counter)
    peaks: dict[str, float] = field(default_factory=dict)
    members: dict[str, int] = field(default_factory=dict)
    interrupted: str = ""
    resumed: bool = False
    warnings: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    def finished(self, event: Finished) -> None:
        """Adds a pack that ended well."""
        found, job = event.provenance, event.job
        host = found.get("node") or found.get("host", "")
        self.packs[f"{found.get('device', 'unknown device')} on {host}"] += 1
        self.resumed |= job.pack == self.interrupted and "resumed from epoch" in found
        peak = max(outcome.summary.get("peak_memory_bytes") or 0.0 for outcome in event.outcomes)
        cell = cell_of(job)
        self.peaks[cell] = max(self.peaks.get(cell, 0.0), peak)
        self.members[cell] = max(self.members.get(cell, 0), len(job.config.members))

    def failed(self, event: Failed) -> None:
        """Adds a pack that ended badly."""
        text = (event.error.strip().splitlines() or ["unknown error"])[0]
        trials = count(len(event.job.config.members), "trial")
        self.errors.setdefault(event.reason, f"{cell_of(event.job)}, {trials}: {text}")


class SmokeAgenda:
    """An agenda around a launch's own: the first pack that reports is stopped, and begun again.

    The launch does not notice: for it the pack is in training all the time. On a cluster another machine may continue
    it, as after the loss of the first. One is enough: every worker writes checkpoints, and warns where it cannot.

    Args:
        agenda: of the launch.
        forget: removes the checkpoint of a pack, which an earlier smoke run may have left.
        show: called with a line a pack, as it ends.
    """

    def __init__(self, agenda: Agenda, forget: Callable[[str], None], show: Callable[[str], None]) -> None:
        self.seen = Seen()
        self._agenda, self._forget, self._show = agenda, forget, show
        self._stopped = ""
        self._again: list[Job] = []

    @property
    def stopping(self) -> bool:
        """See `Agenda.stopping`."""
        return self._agenda.stopping

    def wanted(self, job: Job) -> bool:
        """See `Agenda.wanted`."""
        return job.pack != self._stopped and self._agenda.wanted(job)

    def next_job(self) -> Job | Nothing:
        """See `Agenda.next_job`."""
        while self._again:
            job = self._again.pop()
            if not self.stopping:
                return job
            self._agenda.handle(Failed(job, "stopped", "the smoke run was stopped"))
        found = self._agenda.next_job()
        if isinstance(found, Job):
            self._forget(found.pack)
        return found

    def handle(self, event: Event) -> None:
        """See `Agenda.handle`."""
        if isinstance(event, Progress):
            self.seen.warnings += [text for text in event.warnings if text not in self.seen.warnings]
            self._interrupt(event)
        else:
            asked = event.job.pack == self._stopped
            self._stopped = "" if asked else self._stopped
            if isinstance(event, Finished):
                self.seen.finished(event)
                self._show(f"{label(event.job)}: trained")
            elif event.reason != "stopped":
                self.seen.failed(event)
                self._show(f"{label(event.job)}: failed")
            elif asked and not self.stopping:
                self._again.append(event.job)
                return
        self._agenda.handle(event)

    def _interrupt(self, event: Progress) -> None:
        """Asks the first pack to stop, unless it is about to end."""
        if event.records and not self.seen.interrupted and event.records[-1].epoch < event.job.config.task.epochs:
            self.seen.interrupted = self._stopped = event.job.pack


def cell_of(job: Job) -> str:
    """Returns a job's cell without its space."""
    return f"{job.config.task.optimizer}/bs{job.config.task.batch_size}"
