"""plan − ledger → executor → ledger: decides which pack is next, stores what comes back, trains no point twice."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from lawn_tune.cells import Cell, CellName, Phase
from lawn_tune.errors import LedgerError, UsageError
from lawn_tune.executors.base import Event, Failed, Finished, Job, Nothing, Progress
from lawn_tune.launching.limits import Budget
from lawn_tune.ledger import LeaseLost, Ledger, Owner, PackRow, Unreachable
from lawn_tune.planning.packing import make_packs
from lawn_tune.planning.remaining import Remaining, remaining
from lawn_tune.planning.selection import winner
from lawn_tune.results import FINISHED
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.tasks import PackConfig, Trial

LEASE_SECONDS = 30.0
LOSSES = 10
"""How often a pack is tried again because its machine is gone, which is no fault of the pack (our choice)."""


class Listener(Protocol):
    """What a display is told; every method returns at once."""

    def found(self, cell: Cell, phase: Phase, done: int, missing: int) -> None:
        """A phase of a cell was taken up: `done` trials were in the ledger, `missing` will be trained."""

    def advanced(self, job: Job, records: Sequence[EpochRecord]) -> None:
        """A job finished epochs."""

    def finished(self, job: Job, outcomes: Sequence[TrialOutcome]) -> None:
        """A job's outcomes are in the ledger."""

    def failed(self, job: Job, error: str, again: bool) -> None:
        """A job failed, and will be tried again or not."""

    def warned(self, text: str) -> None:
        """Something is amiss, though training goes on."""

    def noted(self, text: str) -> None:
        """Something was done on a machine that trains."""

    def waiting(self, cells: Sequence[Cell]) -> None:
        """Only cells that another launch works on are left."""


@dataclass
class _Work:
    """One phase of one leased cell: packs still to train, and those in training."""

    cell: Cell
    phase: Phase
    trials: dict[str, Trial]
    queue: deque[PackRow]
    running: set[str] = field(default_factory=set)
    failed: bool = False
    left_out: bool = False


@dataclass
class Tally:
    """What a launch did, counted in trials."""

    trained: int = 0
    found: int = 0
    diverged: int = 0
    failed: int = 0
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)


class Launch:
    """The agenda of one `launch` command; an executor works it off.

    Args:
        cells: planned cells, in the order to train them.
        ledger: the driver's ledger; this object is its only writer for the cells it leases.
        owner: who leases cells.
        listener: the display.
        pack_size: trials a pack, or None for the plan's rule.
        retries: how often a failed pack is tried again in this launch.
        budget: its limits; none by default. At one it stops as by `stop`, and before it no pack is begun that would
            pass it: that cell is left as it is, and the next one has its turn.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        ledger: Ledger,
        owner: Owner,
        listener: Listener,
        *,
        pack_size: int | None = None,
        retries: int = 2,
        budget: Budget | None = None,
    ) -> None:
        self.ledger, self.owner, self.listener = ledger, owner, listener
        self.budget = budget or Budget()
        self.pack_size, self.retries = pack_size, retries
        self.tally = Tally()
        self._left_out = False
        self._cells = tuple(cells)
        self._waiting = deque(cells)
        self._open: list[_Work] = []
        self._jobs: dict[str, tuple[_Work, PackRow]] = {}
        self._tries: dict[str, int] = {}
        self._losses: dict[str, int] = {}
        self._shown: set[str] = set()
        self._stop = threading.Event()
        self._ask_again = 0.0
        self._ahead: Job | None = None
        self._lost: set[CellName] = set()

    @property
    def stopping(self) -> bool:
        """See `Agenda.stopping`."""
        return self._stop.is_set() or self.budget.over

    @property
    def interrupted(self) -> bool:
        """True once somebody asked it to stop."""
        return self._stop.is_set()

    @property
    def at_limit(self) -> bool:
        """True if the budget, and nobody, ended it."""
        return not self.interrupted and (self.budget.over or self._left_out)

    def left(self) -> Remaining:
        """Returns what its cells lack now."""
        pace, cells = self.budget.pace, self._cells
        rows = {space: self.ledger.trials(space) for space in {cell.name.space for cell in cells}}
        return sum((remaining(cell, rows[cell.name.space], pace, self.pack_size) for cell in cells), Remaining())

    def stop(self) -> None:
        """Asks for no more work; what runs is given up at once and continues from its checkpoint next time."""
        self._stop.set()

    def expects_work(self) -> bool:
        """True if a search trial is missing in a cell that nobody else works on, by one look and without a lease."""
        taken = {name for name, lease in self.ledger.leases().items() if lease.active}
        free = [trial.key for cell in self._waiting if cell.name not in taken for trial in cell.search_trials]
        outcomes = self.ledger.outcomes(free)
        return any(outcomes.get(key) not in FINISHED for key in free)

    def has_work(self) -> bool:
        """Waits until there is a job, or none for ever; asked before an executor is started for nothing."""
        while self._ahead is None:
            job = self.next_job()
            if job is Nothing.EVER:
                return False
            if job is Nothing.NOW:
                time.sleep(0.2)
            else:
                self._ahead = job
        return True

    def next_job(self) -> Job | Nothing:
        """See `Agenda.next_job`."""
        if self._ahead is not None:
            job, self._ahead = self._ahead, None
            return job
        while not self.stopping:
            self._leave_lost_cells()
            for work in list(self._open):
                if work.queue and (begun := self._begin(work)):
                    return begun
                if work.cell.name in self._lost:
                    break
                if not work.running:
                    self._next_phase(work)
                    break
            else:
                if not self._lease_cell():
                    return Nothing.NOW if self._jobs or self._waiting else Nothing.EVER
        return Nothing.EVER if not self._jobs else Nothing.NOW

    def handle(self, event: Event) -> None:
        """See `Agenda.handle`."""
        work, pack = self._jobs[event.job.pack]
        if isinstance(event, Progress):
            if work.cell.name not in self._lost:
                with self._left_if_lost(work.cell):
                    self.ledger.progress(pack, event.records)
            self.listener.advanced(event.job, event.records)
            self._show(event.warnings, self.listener.warned)
            self._show(event.notes, self.listener.noted)
            return
        del self._jobs[event.job.pack]
        self.budget.end(event.job.pack)
        work.running.discard(pack.id)
        with self._left_if_lost(work.cell):
            if isinstance(event, Finished):
                self._store(pack, event)
                if self.budget.limited:
                    self.budget.pace.add(work.cell, work.phase, event.outcomes)
            elif work.cell.name not in self._lost:
                self._give_up(work, pack, event)

    def wanted(self, job: Job) -> bool:
        """See `Agenda.wanted`."""
        work, _ = self._jobs.get(job.pack, (None, None))
        return work is not None and work.cell.name not in self._lost

    def renew_leases(self) -> None:
        """Holds the leases for another while; a cell that another launch took meanwhile is left to it."""
        mine = {work.cell.name for work in list(self._open)}
        self._lost |= mine - self.ledger.renew(self.owner, LEASE_SECONDS)

    def close(self) -> None:
        """Marks what did not end as not running, and gives back every lease."""
        for work in self._open:
            with suppress(LeaseLost):
                self.ledger.reconcile(work.cell.name, self.owner)
            self.ledger.release(work.cell.name, self.owner)
        self._open.clear()

    @contextmanager
    def _left_if_lost(self, cell: Cell) -> Iterator[None]:
        """Around writes, which the ledger refuses once another launch leases the cell: that one trains it, not us."""
        try:
            yield
        except LeaseLost:
            self._lost.add(cell.name)

    def _leave_lost_cells(self) -> None:
        """Stops handing out packs of cells that are another's by now, and queues up for them again."""
        for work in [work for work in self._open if work.cell.name in self._lost]:
            work.queue.clear()
            if not work.running:
                self._open.remove(work)
                self._lost.discard(work.cell.name)
                self._waiting.append(work.cell)

    def _lease_cell(self) -> bool:
        """Opens the first waiting cell that nobody else works on; False if there is none now."""
        for cell in list(self._waiting):
            if time.monotonic() < self._ask_again:
                return False
            if self._lease(cell):
                with suppress(LeaseLost):
                    self.ledger.reconcile(cell.name, self.owner)
                    self._waiting.remove(cell)
                    self._open_phase(cell, "search", cell.search_trials)
                return True
        if self._waiting:
            self._ask_again = max(self._ask_again, time.monotonic() + 1.0)
            if not self._jobs:
                self.listener.waiting(list(self._waiting))
        return False

    def _lease(self, cell: Cell) -> bool:
        """Leases a cell; after an outage not at once: those who work on it could not renew, and go first."""
        try:
            return self.ledger.lease(cell.name, self.owner, LEASE_SECONDS)
        except Unreachable:
            self.ledger.leases()  # waits until the ledger is back
            self._ask_again = time.monotonic() + LEASE_SECONDS / 2
            return False

    def _open_phase(self, cell: Cell, phase: Phase, trials: Sequence[Trial]) -> None:
        outcomes = self.ledger.outcomes([trial.key for trial in trials])
        missing = {trial.key for trial in trials if outcomes.get(trial.key) not in FINISHED}
        self.tally.found += len(trials) - len(missing)
        self.listener.found(cell, phase, len(trials) - len(missing), len(missing))
        self.ledger.assign(cell.name, phase, trials)
        planned = make_packs(cell, phase, [trial for trial in trials if trial.key in missing], self.pack_size)
        packs = self.ledger.record_packs(cell.name, phase, planned) if missing else ()
        queue = deque(pack for pack in packs if pack.state != "split" and missing.intersection(pack.keys))
        self._open.append(_Work(cell, phase, {trial.key: trial for trial in trials}, queue))

    def _next_phase(self, work: _Work) -> None:
        """Goes on from search to confirm, or is done with the cell."""
        self._open.remove(work)
        if work.phase == "search" and not work.failed and not work.left_out:
            rows = [row for row in self.ledger.trials(work.cell.name.space) if row.key in work.trials]
            best = winner(work.cell, rows)
            if best is not None:
                self._open_phase(work.cell, "confirm", work.cell.confirm_trials(best.hyperparameters))
                return
        self.ledger.release(work.cell.name, self.owner)

    def _begin(self, work: _Work) -> Job | None:
        """Begins the cell's next pack; None if it does not fit the budget, or the cell is another launch's by now."""
        pack = work.queue.popleft()
        trials = [work.trials[key] for key in pack.keys]
        seconds = self.budget.pace.seconds(work.cell, work.phase, trials) if self.budget.limited else None
        if not self.budget.fits(seconds):
            work.queue.clear()
            work.left_out = self._left_out = True
            return None
        try:
            pack = self.ledger.begin(pack, trials, self.owner)
        except LeaseLost:
            self._lost.add(work.cell.name)
            return None
        self.budget.begin(pack.id, seconds)
        work.running.add(pack.id)
        self._jobs[pack.id] = (work, pack)
        members = tuple(trial for trial in trials)
        return Job(pack=pack.id, config=PackConfig(task=work.cell.task_of(work.phase), members=members))

    def _store(self, pack: PackRow, event: Finished) -> None:
        self.ledger.finish(pack, event.outcomes, event.provenance)
        self.tally.trained += len(event.outcomes)
        self.tally.diverged += sum(outcome.outcome == "diverged" for outcome in event.outcomes)
        self.tally.seconds += sum(outcome.summary["seconds"] or 0.0 for outcome in event.outcomes)
        self.listener.finished(event.job, event.outcomes)

    def _show(self, texts: Sequence[str], show: Callable[[str], None]) -> None:
        """Shows each text once, whichever workers send it."""
        for text in texts:
            if text not in self._shown:
                self._shown.add(text)
                show(text)

    def _give_up(self, work: _Work, pack: PackRow, event: Failed) -> None:
        if event.reason == "stopped":
            return
        if event.reason == "memory" and len(pack.keys) > 1:
            work.queue.extendleft(reversed(self.ledger.split_pack(pack)))
            self.listener.failed(event.job, event.error, again=True)
            return
        lost = event.reason == "lost"
        tries, limit = (self._losses, LOSSES) if lost else (self._tries, self.retries)
        tries[pack.id] = tries.get(pack.id, 0) + 1
        again = tries[pack.id] <= limit and event.reason != "data" and not self.stopping
        self.listener.failed(event.job, event.error, again)
        if again:
            work.queue.append(pack)
            return
        work.failed = True
        self.ledger.fail(pack, event.error)
        self.tally.failed += len(pack.keys)
        self.tally.errors.append(event.error)


FIXED = ("dataset", "model", "loss", "schedule", "constrain", "precision")
"""What all cells of one space share; a space that changes it is another space and needs another name."""


def check_same_space(launched: Sequence[Cell], cells: Sequence[Cell]) -> None:
    """Refuses a space whose name the ledger knows with another fixed part: its cells would stand in one table.

    Args:
        launched: cells of the ledger, of the same space names.
        cells: cells about to be launched; those of the ledger that they replace are not compared.

    Raises:
        UsageError: a dataset, model, loss, schedule, constraint or precision differs.
    """
    replaced = {cell.name for cell in cells}
    for old in (cell for cell in launched if cell.name not in replaced):
        for new in (cell for cell in cells if cell.name.space == old.name.space):
            for name in FIXED:
                before, now = (getattr(cell.task, name) for cell in (old, new))
                if before != now:
                    text = f"space '{new.name.space}': {name} is {now}, and {before} in this ledger's cell {old.name}"
                    raise UsageError(text, "Rename the space's file, or keep it in a ledger of its own by --storage.")


class Heartbeat:
    """Renews a launch's leases from a thread until it is left; used as a context manager."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease-heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _beat(self) -> None:
        pause = LEASE_SECONDS / 4
        while not self._done.wait(pause):
            pause = LEASE_SECONDS / 4
            try:
                self._launch.renew_leases()
            except LedgerError:  # the driver's own writes report it; once it is back, the leases come first
                pause = min(1.0, pause)
