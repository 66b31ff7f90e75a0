"""A simulated cluster works a real launch off: every key once, in the times of the table, and as fast as can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.tabulated import SimulatedClock, TabulatedExecutor
from lawn_tune.cells import Cell, Phase
from lawn_tune.executors.base import Event, Failed, Finished, Job, Nothing
from lawn_tune.launching.launch import Launch
from lawn_tune.launching.limits import Limits
from lawn_tune.ledger import Ledger, Owner, open_ledger
from lawn_tune.planning.makespan import makespan
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import find_space
from lawn_tune.planning.speed import Speeds
from tests.helpers.fakes import Recorder, succeed
from trainables.tasks import PackConfig, Trial

OWNER = Owner.current()
CELLS = plan(find_space("quickstart"), max_epochs=3)
TRIALS = 4 * (9 + 3)


def seconds(cell: Cell, phase: Phase, pack: Sequence[Trial]) -> float:
    """Made-up, and different for all packs."""
    return 10.0 + sum(int(trial.key, 16) % 1000 for trial in pack) / 10 if phase == "search" else 35.0


def table(job: Job) -> Iterator[tuple[float, Event]]:
    phase: Phase = "search" if job.config.task.train_on == "train" else "confirm"
    trials = [Trial(key=m.key, seed=m.seed, hyperparameters={}) for m in job.config.members]
    events = succeed(job)
    whole = seconds(CELLS[0], phase, trials)
    for i, event in enumerate(events):
        yield whole * min(1.0, (i + 1) / (len(events) - 1)), event


def simulate(ledger: Ledger, executor: TabulatedExecutor, cells: Sequence[Cell] = CELLS, **given: float) -> Launch:
    ledger.register(cells)
    limits = Limits(speeds=Speeds(table=False), clock=executor.clock, **given)
    agenda = Launch(cells, ledger, OWNER, Recorder(), pack_size=3, limits=limits)
    if agenda.has_work():
        executor.run(agenda)
    agenda.close()
    return agenda


@pytest.mark.parametrize("slots", [1, 2, 5, 100])
def test_a_simulated_launch_is_a_launch(slots: int, tmp_path: Path) -> None:
    executor = TabulatedExecutor(table, slots)
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        agenda = simulate(ledger, executor)
        rows = ledger.trials("quickstart")
    assert agenda.tally.trained == TRIALS
    assert set(Counter(row.key for row in rows if row.outcome == "complete").values()) == {1}
    assert len(rows) == TRIALS
    usage = executor.usage
    assert executor.clock.now == max(end for _, _, end in usage.ends)
    assert executor.clock.now >= usage.busy / slots * (1 - 1e-9)
    assert executor.clock.now == pytest.approx(makespan(CELLS, seconds, slots, pack_size=3))
    assert most_at_once(usage.ends) <= slots


def most_at_once(ends: Sequence[tuple[str, float, float]]) -> int:
    changes = sorted([(began, 1) for _, began, _ in ends] + [(end, -1) for _, _, end in ends])
    return int(np.cumsum([change for _, change in changes]).max())


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.floats(0.1, 100), min_size=9, max_size=9), min_size=4, max_size=4),
    st.integers(1, 12),
)
def test_a_makespan_lies_between_its_bounds(times: list[list[float]], workers: int) -> None:
    """Below: all work shared evenly, and the longest chain; above: what list scheduling can lose, a chain a cell."""
    known = {trial.key: time for cell, row in zip(CELLS, times, strict=True) for trial, time in _pairs(cell, row)}

    def of(cell: Cell, phase: Phase, pack: Sequence[Trial]) -> float:
        return sum(known[trial.key] for trial in pack) if phase == "search" else 10.0

    found = makespan(CELLS, of, workers, pack_size=1)
    assert found is not None
    total = sum(map(sum, times)) + 4 * 3 * 10.0
    chains = [max(row) + 10.0 for row in times]
    assert found >= max(total / workers, max(chains)) * (1 - 1e-9)
    assert found <= total * (1 + 1e-9)
    assert found <= total / workers + sum(chains) + 1e-6
    assert makespan(CELLS, of, 10_000, pack_size=1) == pytest.approx(max(chains))
    more = makespan(CELLS, of, workers + 1, pack_size=1)
    assert more is not None
    assert more <= found + max(max(row) for row in times) + 10.0 + 1e-6, "more workers lose a pack at most"


def _pairs(cell: Cell, row: list[float]) -> list[tuple[Trial, float]]:
    return list(zip(cell.search_trials, row, strict=True))


def test_an_unknown_time_makes_an_unknown_makespan() -> None:
    assert makespan(CELLS, lambda cell, phase, pack: None, 4) is None


def test_a_job_that_the_table_fails_fails_alone(tmp_path: Path) -> None:
    def failing(job: Job) -> Iterator[tuple[float, Event]]:
        lost = job.config.task.batch_size == CELLS[1].task.batch_size
        return iter([(1.0, Failed(job, "error", "no outcome"))]) if lost else table(job)

    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        agenda = simulate(ledger, TabulatedExecutor(failing, 3), CELLS[:2])
        assert agenda.tally.trained == 12
        assert agenda.tally.failed == 9
        assert "no outcome" in agenda.tally.errors[-1]


def test_a_deadline_is_kept_in_simulated_time(tmp_path: Path) -> None:
    whole = makespan(CELLS, seconds, 4, pack_size=3)
    assert whole is not None
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        trained, clock = 0, SimulatedClock()
        for _ in range(20):
            executor = TabulatedExecutor(table, 4, clock=clock)
            agenda = simulate(ledger, executor, deadline=clock.now + 0.6 * whole)
            trained += agenda.tally.trained
            if not agenda.left().trials:
                break
            assert agenda.at_limit
        assert trained == TRIALS
        assert {row.outcome for row in ledger.trials("quickstart")} == {"complete"}


def test_events_come_in_order_of_time() -> None:
    executor = TabulatedExecutor(table, 3)
    jobs = [Job(pack=str(i), config=_config(i)) for i in range(8)]
    heard: list[float] = []

    class Agenda:
        stopping = False

        def next_job(self) -> Job | Nothing:
            return jobs.pop(0) if jobs else Nothing.EVER

        def handle(self, event: Event) -> None:
            heard.append(executor.clock.now)
            self.last = event

        def wanted(self, job: Job) -> bool:
            return True

    agenda = Agenda()
    executor.run(agenda)
    assert heard == sorted(heard)
    assert len(heard) == executor.usage.events == 8 * (3 + 1)
    assert isinstance(agenda.last, Finished)


def _config(i: int) -> PackConfig:
    cell = CELLS[0]
    return PackConfig(task=replace(cell.task, epochs=3), members=(cell.search_trials[i],))
