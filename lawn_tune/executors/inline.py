"""Trains packs one after the other in this process: a debugger stops in the training loop, tests need no Ray."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from lawn_tune.executors.base import Agenda, Nothing
from lawn_tune.executors.messages import WorkerSettings, deliver
from lawn_tune.executors.worker import work


@dataclass(frozen=True)
class InlineExecutor:
    """One job at a time, in the calling thread; no pack is ended for want of progress, as the launch would end too."""

    settings: WorkerSettings

    def prepare(self, agenda: Agenda) -> None:
        """Nothing takes long to start."""

    def close(self) -> None:
        """Nothing was begun."""

    def run(self, agenda: Agenda) -> None:
        """See `Executor.run`."""
        settings = replace(self.settings, expendable=False)
        while (job := agenda.next_job()) is not Nothing.EVER:
            if isinstance(job, Nothing):
                time.sleep(0.05)
                continue
            current = job
            work(
                current,
                settings,
                send=lambda message, job=current: deliver(agenda, job, message, self.settings),  # type: ignore[misc]
                should_stop=lambda job=current: agenda.stopping or not agenda.wanted(job),  # type: ignore[misc]
            )
