"""The simulated study: the paper's plan is whole, schedules keep their bounds, and the real launch keeps to them."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import paper_plan, scaling
from benchmarks.paper_plan import KINDS, PaperTable
from benchmarks.tabulated import TabulatedExecutor
from lawn_tune.cells import Cell
from lawn_tune.executors.base import Failed, Finished, Job, Progress
from lawn_tune.executors.slots import REPORTS, report_seconds
from lawn_tune.launching.launch import Launch
from lawn_tune.ledger import Owner, open_ledger
from lawn_tune.planning.makespan import schedule
from trainables.tasks import PackConfig

pytestmark = pytest.mark.long

ALL = paper_plan.cells()


def test_the_plan_has_every_cell_of_the_papers_tables() -> None:
    by_set = {name: [cell for cell in ALL if cell.task.dataset == name] for name in KINDS}
    table_1, table_3, table_4 = 5 * 2, 5 * 3, 5 * 4
    table_2, table_5 = 2 * 2, 3 * 2 * 2  # beside what tables 3 and 4 have already
    assert {name: len(cells) for name, cells in by_set.items()} == {
        **dict.fromkeys(("movielens-100k", "pinterest"), table_4),
        "movielens-1m": table_4 + table_2 + table_5,
        **dict.fromkeys(("cifar-10", "cifar-100"), table_3 + table_2 + table_5),
        "imagenet": table_1,
    }
    keys = [trial.key for cell in ALL for trial in cell.search_trials]
    assert len(keys) == len(set(keys)) == 24 * len(ALL)
    assert len({cell.name for cell in ALL}) == len(ALL)


@pytest.mark.parametrize("every", [0.01, 0.5, 10.0, math.inf])
@pytest.mark.parametrize("cell", ALL[::29], ids=lambda cell: str(cell.name))
def test_a_job_reports_every_epoch_once_and_not_too_often(every: float, cell: Cell) -> None:
    members = tuple(trial for trial in cell.search_trials[: KINDS[cell.task.dataset].largest_pack])
    *reports, (last, end) = PaperTable(every)(Job(pack="p", config=PackConfig(task=cell.task, members=members)))
    assert isinstance(end, Finished)
    assert last == paper_plan.pack_seconds(cell.task, len(members))
    assert end.outcomes[0].epochs == cell.task.epochs
    epochs = [record.epoch for _, event in reports if isinstance(event, Progress) for record in event.records]
    assert epochs == list(range(1, cell.task.epochs + 1))
    times = [at for at, _ in reports]
    gaps = [after - before for before, after in pairwise(times[:-1])]
    assert all(gap >= every * (1 - 1e-6) for gap in gaps)


def test_a_pack_beyond_the_gpus_memory_fails_for_memory() -> None:
    cell = next(cell for cell in ALL if cell.task.dataset == "imagenet")
    members = tuple(trial for trial in cell.search_trials[:2])
    ((_, event),) = PaperTable(1.0)(Job(pack="p", config=PackConfig(task=cell.task, members=members)))
    assert isinstance(event, Failed)
    assert event.reason == "memory"


@settings(max_examples=8)
@given(st.sampled_from(sorted(scaling.PLANS)), st.sampled_from([None, 1, 4]), st.integers(16, 3000))
def test_schedules_keep_their_bounds(plan: str, pack_size: int | None, workers: int) -> None:
    found, more = (scaling.schedules(plan, count, pack_size) for count in (workers, workers + 1))
    assert found["makespan_hours"] >= found["longest_chain_hours"] * (1 - 1e-9)
    assert 0 <= found["idle_share"] < 1
    longest = max(paper_plan.pack_seconds(cell.task, 16) for cell in ALL) / 3600
    assert more["makespan_hours"] <= found["makespan_hours"] + longest


@pytest.mark.parametrize("plan", sorted(scaling.PLANS))
def test_packs_chosen_for_the_gpus_end_no_later(plan: str) -> None:
    found, plain = (scaling.schedules(plan, 512, size) for size in ("chosen", None))
    assert found["longest_chain_hours"] * (1 - 1e-9) <= found["makespan_hours"] <= plain["makespan_hours"]


def test_the_real_launch_over_simulated_gpus_keeps_the_schedule() -> None:
    cells = paper_plan.cells(("movielens-100k",), 2)[:4]
    found = scaling.drive("sqlite", 10, cells=cells)
    chains = scaling.chains(cells)
    assert found["simulated_seconds"] == pytest.approx(schedule(chains, 10))
    assert found["trials"] == 4 * (24 + 3)
    assert found["failed"] == 0
    counts = found["counts"]
    assert counts["begin"] == counts["end"] == sum(len(phase) for chain in chains for phase in chain)
    assert counts["epochs"] == 2 * counts["end"]


def test_packs_are_split_until_they_fit_and_every_key_is_trained_once_as_in_the_table(tmp_path: Path) -> None:
    cells = [cell for cell in paper_plan.cells(("imagenet",), 1) if cell.name.batch_size == 256][:1]
    executor = TabulatedExecutor(PaperTable(1.0), 8)
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        ledger.register(cells)
        agenda = Launch(cells, ledger, Owner.current(), scaling.silent(cells), limits=scaling.unlimited())
        executor.run(agenda)
        agenda.close()
        rows = ledger.trials("imagenet")
    assert agenda.tally.trained == len(rows) == 24 + 3
    assert agenda.tally.failed == 0
    for row in rows:
        assert row.outcome == "complete"
        assert row.summary["last/test/accuracy"] == 60.0 + int(row.key, 16) % 10_000 / 1000
    assert executor.clock.now >= executor.usage.busy / 8


def test_a_drive_stops_where_it_is_told() -> None:
    found = scaling.drive("sqlite", 30, 50)
    heard = found["counts"]["report"] + found["counts"].get("end", 0)
    assert heard == 50
    assert 0 < found["reports_a_second"] <= 30 / found["report_seconds"] + 1


@given(st.integers(1, 100_000))
def test_all_workers_together_report_no_oftener_than_the_driver_is_asked_to_store(jobs: int) -> None:
    assert report_seconds(jobs) >= 0.5
    assert jobs / report_seconds(jobs) <= REPORTS * (1 + 1e-9)
