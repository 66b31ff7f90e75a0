"""plan − ledger → executor → ledger: decides which pack is next, stores what comes back, trains no point twice."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import inf

from lawn_tune.cells import Cell, CellName, Packing, Phase
from lawn_tune.executors.base import UNUSABLE, Event, Failed, Finished, Job, Nothing, Progress
from lawn_tune.executors.memory_need import too_large
from lawn_tune.launching import leases
from lawn_tune.launching.commit import commit
from lawn_tune.launching.extension import next_grids
from lawn_tune.launching.leases import HeldLeases
from lawn_tune.launching.limits import Limits
from lawn_tune.launching.listener import Listener, Tally
from lawn_tune.launching.work import OPENED, Next, State, Work, leave
from lawn_tune.ledger import LeaseLost, Ledger, Owner, PackRow, Unreachable
from lawn_tune.planning.packing import coarse_to_fine, make_packs
from lawn_tune.planning.placement import place
from lawn_tune.planning.remaining import Remaining, remaining
from lawn_tune.planning.selection import winner
from lawn_tune.results import COMMIT, FINISHED
from trainables.tasks import PackConfig, Trial

LOST_MACHINES = 10
"""How often a pack is tried again because its machine is gone, which is not the pack's fault (our choice)."""


class Launch:
    """The agenda of one `launch` command; an executor works it off.

    Args:
        cells: planned cells, in the order to train them.
        ledger: the driver's ledger; this object is its only writer for the cells it leases.
        owner: who leases cells.
        listener: the display.
        workers: packs that are trained at once, for which sizes of packs are chosen that no launch has chosen yet;
            None while it is not known, see `expect_workers`.
        pack_size: trials a pack, whatever is recorded; None to choose.
        retries: how often a failed pack is tried again in this launch.
        extend: whether to widen grids whose winners are on an edge before any winner is confirmed.
        limits: of time, none by default, with the speeds of the devices that train. At one it stops as by `stop`, and
            before it no pack is begun that would pass it: that cell is left as it is, and the next one has its turn.
        clock: returns the time, s.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        ledger: Ledger,
        owner: Owner,
        listener: Listener,
        *,
        workers: int | None = 1,
        pack_size: int | None = None,
        retries: int = 2,
        extend: bool = False,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger, self.owner, self.listener = ledger, owner, listener
        self.limits = limits or Limits()
        self.workers, self.pack_size, self.retries = workers, pack_size, retries
        self.leases = HeldLeases(ledger, owner)
        self.tally = Tally()
        self._clock = clock
        self._works = [Work(cell) for cell in cells]  # those of one state in the order in which they have their turn
        self._placed, self._extending = False, extend
        self._counted: set[str] = set()
        self._jobs: dict[str, tuple[Work, PackRow]] = {}
        self._tries: dict[str, int] = {}
        self._lost_machines: dict[str, int] = {}
        self._shown: set[str] = set()
        self._alone: set[str] = set()  # code whose trials are trained one at a time
        self._stop = threading.Event()
        self._next = Next()

    @property
    def stopping(self) -> bool:
        """See `Agenda.stopping`."""
        return self._stop.is_set() or self.limits.over

    @property
    def interrupted(self) -> bool:
        """True once somebody asked it to stop."""
        return self._stop.is_set()

    @property
    def at_limit(self) -> bool:
        """True if a limit ended it, not a request to stop."""
        return not self.interrupted and (self.limits.over or self.tally.left_out)

    def left(self) -> Remaining:
        """Returns what its cells lack now."""
        speeds, cells = self.limits.speeds, [work.cell for work in self._works]
        rows = {space: self.ledger.trials(space) for space in {cell.name.space for cell in cells}}
        return sum((remaining(cell, rows[cell.name.space], speeds, self.pack_size) for cell in cells), Remaining())

    def stop(self) -> None:
        """Asks for no more work; what runs is given up at once and continues from its checkpoint next time."""
        self._stop.set()

    def expects_work(self) -> bool:
        """True if a search trial is missing in a cell that no other launch works on; looks once, takes no lease."""
        taken = {name for name, lease in self.ledger.leases().items() if lease.active}
        cells = [work.cell for work in self._in(State.WAITING) if work.cell.name not in taken]
        free = [trial.key for cell in cells for trial in cell.search_trials]
        outcomes = self.ledger.outcomes(free)
        return any(outcomes.get(key) not in FINISHED for key in free)

    def expect_workers(self, count: int, on_gpu: bool) -> None:
        """Sets how many packs are trained at once, and on what; has no effect on sizes that are chosen already."""
        self.workers, self.limits.speeds.on_gpu = count, on_gpu

    def has_work(self) -> bool:
        """Waits until there is a job, or will be none; asked before an executor is started for nothing."""
        while self._next.job is None:
            job = self.next_job()
            if job is Nothing.EVER:
                return False
            if job is Nothing.NOW:
                time.sleep(0.2)
            else:
                self._next.job = job
        return True

    def next_job(self) -> Job | Nothing:
        """See `Agenda.next_job`."""
        if self._next.job is not None:
            job, self._next.job = self._next.job, None
            return job
        while not self.stopping:
            for work in self._in(*OPENED):
                if not self._lost(work) and work.queue and (begun := self._begin(work)):
                    return begun
                if not work.running:
                    self._move_on(work)
                    break
            else:
                if not self._lease_cell():
                    if self._jobs or self._in(State.WAITING):
                        return Nothing.NOW
                    if not self._next_round():
                        return Nothing.EVER
        return Nothing.EVER if not self._jobs else Nothing.NOW

    def handle(self, event: Event) -> None:
        """See `Agenda.handle`."""
        work, pack = self._jobs[event.job.pack]
        if isinstance(event, Progress):
            with self._left_if_lost(work):
                if not self._lost(work):
                    self.ledger.progress(pack, event.records)
            if event.records:
                self.listener.advanced(event.job, event.records)
            self._show(event.warnings, self.listener.warned)
            self._show(event.notes, self.listener.noted)
            return
        del self._jobs[event.job.pack]
        self.limits.end(event.job.pack)
        work.running.discard(pack.id)
        with self._left_if_lost(work):
            if isinstance(event, Finished):
                self._store(work, pack, event)
                if self.limits.limited:
                    self.limits.speeds.add(work.cell, work.phase, event.outcomes)
            elif not self._lost(work):
                self._give_up(work, pack, event)

    def wanted(self, job: Job) -> bool:
        """See `Agenda.wanted`."""
        work, _ = self._jobs.get(job.pack, (None, None))
        return work is not None and not self._lost(work)

    def close(self) -> None:
        """Marks what did not end as not running, and gives back every lease."""
        for work in self._in(*OPENED):
            with suppress(LeaseLost):
                self.ledger.reconcile(work.cell.name, self.owner)
            self._give_back(work)

    # --- cells -------------------------------------------------------------------------------------------------------

    def _place(self) -> None:
        """Chooses and records sizes of packs for all cells with search trials to train, and puts the cells in order."""
        cells = [work.cell for work in self._works]
        outcomes = self.ledger.outcomes([trial.key for cell in cells for trial in cell.search_trials])
        missing = {
            cell.name: [trial for trial in cell.search_trials if outcomes.get(trial.key) not in FINISHED]
            for cell in cells
        }
        works = [work for work in self._works if missing[work.cell.name]]
        places = {name: place for place, name in enumerate(self._pack(works, missing))}
        self._works.sort(key=lambda work: places.get(work.cell.name, -1))
        self._placed = True

    def _pack(self, works: Sequence[Work], missing: Mapping[CellName, Sequence[Trial]]) -> list[CellName]:
        """Chooses sizes of packs where none are recorded, and records them; returns the cells in the order to train."""
        recorded = self.ledger.packings([work.cell for work in works])
        cells = [work.cell.packed(self._packing(work.cell, recorded)) for work in works]
        speeds = self.limits.speeds
        placed = place(cells, speeds.costs(cells), self.workers or 1, missing, on_gpu=speeds.on_gpu).cells
        recorded = self.ledger.record_packings(placed, replacing=self.pack_size is not None)
        for work in works:
            work.cell = work.cell.packed(recorded[work.cell.name])
        return [cell.name for cell in placed]

    def _packing(self, cell: Cell, recorded: Mapping[CellName, Packing]) -> Packing | None:
        if self.pack_size is None:
            return recorded.get(cell.name)
        return Packing(search=self.pack_size, confirm=self.pack_size, workers=None, plan=cell.plan_id)

    def _in(self, *states: State) -> list[Work]:
        return [work for work in self._works if work.state in states]

    def _lost(self, work: Work) -> bool:
        """True once a cell is another launch's; from then on no pack of it is begun here."""
        if work.state is not State.LOST and not self.leases.holds(work.cell.name):
            work.stop(State.LOST)
        return work.state is State.LOST

    @contextmanager
    def _left_if_lost(self, work: Work) -> Iterator[None]:
        """Around writes, which the ledger refuses once another launch leases the cell: that one trains it, not us."""
        try:
            yield
        except LeaseLost:
            self.leases.lose(work.cell.name)

    def _enqueue(self, work: Work, state: State) -> None:
        """Changes a cell's state; its turn comes after all others of that state."""
        work.state = state
        self._works.remove(work)
        self._works.append(work)

    def _lease_cell(self) -> bool:
        """Opens the first waiting cell that no other launch works on; False if there is none now."""
        if not self._placed:
            self._place()
        waiting = [work for work in self._in(State.WAITING) if self._apart(work)]
        for work in waiting:
            if self._clock() < self._next.lease_at:
                return False
            if self._lease(work):
                return True
        if waiting:
            self._next.lease_at = max(self._next.lease_at, self._clock() + 1.0)
            if not self._jobs:
                self.listener.waiting([work.cell for work in waiting])
        return False

    def _apart(self, work: Work) -> bool:
        """True unless trials of the cell are being trained for another space: it takes them over when they are done."""
        return all(work.keys.isdisjoint(other.keys) for other in self._in(*OPENED))

    def _lease(self, work: Work) -> bool:
        """Leases and opens a cell; after an outage not at once: those who work on it could not renew, and go first."""
        try:
            if not self.leases.take(work.cell.name):
                return False
        except Unreachable:
            self.ledger.leases()  # waits until the ledger is back
            self._next.lease_at = self._clock() + leases.LEASE_SECONDS / 2
            return False
        with self._left_if_lost(work):
            self.ledger.reconcile(work.cell.name, self.owner)
            self._open_phase(work, "search", work.cell.search_trials)
        return True

    def _open_phase(self, work: Work, phase: Phase, trials: Sequence[Trial]) -> None:
        outcomes = self.ledger.outcomes([trial.key for trial in trials])
        missing = {trial.key for trial in trials if outcomes.get(trial.key) not in FINISHED}
        if missing and work.cell.packing is None:  # its search was trained before packings were recorded
            self._pack([work], {work.cell.name: ()})
        cell = work.cell
        found = sum(trial.key not in missing and trial.key not in self._counted for trial in trials)
        self._counted.update(trial.key for trial in trials)
        self.tally.found += found
        self.listener.found(cell, phase, found, len(missing))
        self.ledger.assign(cell.name, phase, trials)
        planned = make_packs(cell, phase, [trial for trial in trials if trial.key in missing], self.pack_size)
        packs = self.ledger.record_packs(cell.name, phase, planned) if missing else ()
        work.phase, work.trials = phase, {trial.key: trial for trial in trials}
        work.diverged = sum(outcomes.get(key) == "diverged" for key in work.trials)
        work.too_large = min((len(pack.keys) for pack in packs if pack.state == "split"), default=inf)
        waiting = [pack for pack in packs if pack.state != "split" and missing.intersection(pack.keys)]
        if phase == "search":
            members = [[work.trials[key] for key in pack.keys] for pack in waiting]
            done = [trial for trial in trials if trial.key not in missing]
            waiting = [waiting[i] for i in coarse_to_fine(members, done)]
        work.queue = deque(waiting)
        self._enqueue(work, State.OPEN)

    def _move_on(self, work: Work) -> None:
        """Goes on with a cell of which no pack runs: from search to confirm, to the end, or back to waiting."""
        if work.state is State.LOST:
            self._enqueue(work, State.WAITING)
            return
        if work.phase == "search" and work.state is State.OPEN:
            if self._extending:
                self._give_back(work, State.SEARCHED)
                return
            rows = [row for row in self.ledger.trials(work.cell.name.space) if row.key in work.trials]
            best = winner(work.cell, rows)
            if best is not None:
                self._open_phase(work, "confirm", work.cell.confirm_trials(best.hyperparameters))
                return
        self._give_back(work)

    def _next_round(self) -> bool:
        """Widens the grids of searched cells where needed, or else lets all be confirmed; False if there are none."""
        if not (searched := self._in(State.SEARCHED)):
            return False
        grown = {cell.name: cell for cell in next_grids(self.ledger, [work.cell for work in searched])}
        for work in searched:
            if work.cell.name in grown:
                self.listener.extended(work.cell, grown[work.cell.name])
                self._works[self._works.index(work)] = Work(grown[work.cell.name])
            elif not grown:
                work.state = State.WAITING
        self._placed, self._extending = not grown, bool(grown)
        return True

    def _give_back(self, work: Work, state: State = State.DONE) -> None:
        work.stop(state)
        self.leases.give_back(work.cell.name)

    # --- packs -------------------------------------------------------------------------------------------------------

    def _begin(self, work: Work) -> Job | None:
        """Begins the cell's next pack; None if it does not fit the limits, or the cell is another launch's by now."""
        try:
            pack = self._next_pack(work)
            trials = [work.trials[key] for key in pack.keys]
            seconds = self.limits.speeds.seconds(work.cell, work.phase, trials) if self.limits.limited else None
            if not self.limits.fits(seconds):
                self.tally.left_out = True
                work.stop(State.LEFT_OUT)
                return None
            pack = self.ledger.begin(pack, trials, self.owner)
        except LeaseLost:
            self.leases.lose(work.cell.name)
            self._lost(work)
            return None
        self.limits.begin(pack.id, seconds)
        work.running.add(pack.id)
        self._jobs[pack.id] = (work, pack)
        return Job(pack=pack.id, config=PackConfig(task=work.cell.task_of(work.phase), members=tuple(trials)))

    def _next_pack(self, work: Work) -> PackRow:
        """Takes the cell's next pack.

        It is one trial, if those of its workload cannot be trained at once, and a half, if a pack of that size ran out
        of memory, in whichever launch: so a size that does not fit is tried once.
        """
        pack = work.queue.popleft()
        alone = work.cell.task.code in self._alone
        while len(pack.keys) > 1 and (alone or len(pack.keys) >= work.too_large):
            pack, *others = self.ledger.split_pack(pack, len(pack.keys) if alone else 2)
            work.queue.extendleft(reversed(others))
        return pack

    def _store(self, work: Work, pack: PackRow, event: Finished) -> None:
        workers = work.cell.packing.workers if work.cell.packing else None
        packing = {"trials": len(pack.keys), "workers": workers}
        code = {COMMIT: found} if (found := commit()) else {}
        self.ledger.finish(pack, event.outcomes, {**event.provenance, **code, "packing": packing})
        diverged = self.tally.add(event.outcomes)
        self.listener.finished(event.job, event.outcomes)
        if work.count_diverged(diverged):
            self.listener.diverged(work.cell, work.phase, work.diverged, len(work.trials))

    def _show(self, texts: Sequence[str], show: Callable[[str], None]) -> None:
        """Shows each text once, whichever workers send it."""
        for text in texts:
            if text not in self._shown:
                self._shown.add(text)
                show(text)

    def _give_up(self, work: Work, pack: PackRow, event: Failed) -> None:
        if event.reason == "stopped":
            return
        if event.reason == "memory" and len(pack.keys) > 1:
            work.too_large = min(work.too_large, len(pack.keys))
            work.queue.extendleft(reversed(self.ledger.split_pack(pack)))
            self.listener.failed(event.job, event.error, again=True)
            return
        if event.reason == "alone":
            self._show([event.error], self.listener.warned)
            self._alone.add(work.cell.task.code)
            work.queue.appendleft(pack)
            return
        if event.reason in UNUSABLE:
            leave(self._works, work.cell.task, event.reason)
        lost = event.reason == "lost"
        tries, limit = (self._lost_machines, LOST_MACHINES) if lost else (self._tries, self.retries)
        tries[pack.id] = tries.get(pack.id, 0) + 1
        again = tries[pack.id] <= limit and event.reason not in ("data", *UNUSABLE) and not self.stopping
        error = f"{too_large(work.cell.task)}: {event.error}" if event.reason == "memory" else event.error
        self.listener.failed(event.job, error, again)
        if again:
            work.queue.append(pack)
            return
        work.state = State.FAILED if work.state is State.OPEN else work.state
        self.ledger.fail(pack, error)
        foreign = bool(work.cell.task.code or work.cell.task.rows)  # rows of others name code of theirs
        by_code = event.reason in UNUSABLE or (event.reason == "error" and foreign)
        self.tally.fail(len(pack.keys), error, by_code=by_code)
