"""Laws of a launch over a real ledger: each key trained once, whatever fails or stops in between."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import pytest

from lawn_tune.cells import PHASES, Cell
from lawn_tune.errors import UsageError
from lawn_tune.executors.base import Event, Failed, Finished, Job, Nothing, Progress
from lawn_tune.launching.launch import LOST_MACHINES, Launch
from lawn_tune.launching.same_space import check_same_space
from lawn_tune.ledger import Ledger, Owner, open_ledger
from lawn_tune.planning.plan import plan
from search_spaces.loader import load_space
from tests.helpers.fakes import FakeExecutor, Recorder, fail, outcome, record, score, succeed
from tests.helpers.tiny import TWO_CELLS, TWO_CELLS_TRIALS, tiny_cells

OWNER = Owner.current()


@pytest.fixture
def cells(tmp_path: Path) -> tuple[Cell, ...]:
    return tiny_cells(tmp_path, TWO_CELLS)


@pytest.fixture
def ledger(tmp_path: Path, cells: tuple[Cell, ...]) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    opened.register(cells)
    yield opened
    opened.close()


def launch(cells: tuple[Cell, ...], ledger: Ledger, executor: FakeExecutor, **options: int | None) -> Launch:
    agenda = Launch(cells, ledger, OWNER, Recorder(), **options)  # type: ignore[arg-type]
    if agenda.has_work():
        executor.run(agenda)
    agenda.close()
    return agenda


def complete(ledger: Ledger) -> Counter[str]:
    return Counter(row.key for row in ledger.trials("tiny") if row.outcome == "complete")


def test_each_key_is_trained_once_and_a_second_launch_trains_nothing(cells: tuple[Cell, ...], ledger: Ledger) -> None:
    executor = FakeExecutor()
    first = launch(cells, ledger, executor)
    assert first.tally.trained == TWO_CELLS_TRIALS
    assert first.tally.seconds == pytest.approx(sum(row.summary["seconds"] or 0 for row in ledger.trials("tiny")))
    assert executor.trained == complete(ledger)
    assert set(executor.trained.values()) == {1}
    second = launch(cells, ledger, executor)
    assert second.tally.trained == 0
    assert second.tally.found == TWO_CELLS_TRIALS


def test_what_two_spaces_share_is_trained_once_however_many_workers_there_are(tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / "twin.toml").write_text('extends = "tiny"\nmethods = ["adam"]\nseeds = {confirm = [12, 13]}\n')
    both = (*plan(load_space(tmp_path / "tiny.toml")), *plan(load_space(tmp_path / "twin.toml")))
    ledger.register(both)
    executor = FakeExecutor()
    agenda = Launch(both, ledger, OWNER, Recorder(), workers=8, pack_size=1)
    first = []
    while isinstance(job := agenda.next_job(), Job):
        first.append(job)
    keys = [member.key for job in first for member in job.config.members]
    assert len(keys) == len(set(keys)) == 2 * 3, "every search trial of both spaces, and none twice"
    for event in (event for job in first for event in succeed(job)):
        agenda.handle(event)
    executor.run(agenda)
    agenda.close()
    assert agenda.tally.trained == TWO_CELLS_TRIALS + 1, "one confirm seed is the twin's own"
    shared = {row.key for row in ledger.trials("tiny")} & {row.key for row in ledger.trials("twin")}
    assert len(shared) == 3 + 1


def test_work_is_expected_while_a_search_trial_is_missing_in_a_free_cell(
    cells: tuple[Cell, ...], ledger: Ledger
) -> None:
    agenda = Launch(cells[:1], ledger, OWNER, Recorder())
    assert agenda.expects_work()
    assert not ledger.leases()
    ledger.lease(cells[0].name, OWNER, 60)
    assert not agenda.expects_work()
    ledger.release(cells[0].name, OWNER)
    launch(cells[:1], ledger, FakeExecutor())
    assert not Launch(cells[:1], ledger, OWNER, Recorder()).expects_work()
    assert Launch(cells, ledger, OWNER, Recorder()).expects_work()


def test_the_winner_is_what_is_confirmed(cells: tuple[Cell, ...], ledger: Ledger) -> None:
    launch(cells, ledger, FakeExecutor())
    rows = ledger.trials("tiny")
    for cell in cells:
        best = max(cell.search_trials, key=lambda trial: score(trial))
        confirmed = [row for row in rows if row.cell == str(cell.name) and row.phase == "confirm"]
        assert [row.seed for row in confirmed] == [11, 12]
        assert all(row.hyperparameters == best.hyperparameters for row in confirmed)


@pytest.mark.parametrize("after", range(0, 2 * TWO_CELLS_TRIALS * 4, 3))
def test_a_launch_that_dies_anywhere_is_continued_by_the_same_command(
    after: int, cells: tuple[Cell, ...], ledger: Ledger
) -> None:
    executor = FakeExecutor(behave=_dying(after))
    agenda = Launch(cells, ledger, OWNER, Recorder(), pack_size=2)
    with contextlib.suppress(_Death):  # nothing is closed or given back: the process is gone
        executor.run(agenda)
    executor.behave = succeed
    launch(cells, ledger, executor)
    assert executor.trained == complete(ledger)
    assert set(executor.trained.values()) == {1}
    assert len(executor.trained) == TWO_CELLS_TRIALS


def test_a_failing_pack_is_tried_again_then_reported_then_retried_by_the_next_launch(
    cells: tuple[Cell, ...], ledger: Ledger
) -> None:
    broken = FakeExecutor(behave=fail())
    agenda = launch(cells, ledger, broken, retries=2)
    assert agenda.tally.trained == 0
    assert agenda.tally.failed == 6, "no cell gets as far as its confirmation"
    assert all(row.outcome == "failed" and "boom" in row.error for row in ledger.trials("tiny"))
    listener = agenda.listener
    assert isinstance(listener, Recorder)
    assert Counter(listener.lines)["failed True"] == 2 * Counter(listener.lines)["failed False"]
    healed = launch(cells, ledger, FakeExecutor())
    assert healed.tally.trained == TWO_CELLS_TRIALS
    assert len(complete(ledger)) == TWO_CELLS_TRIALS


def test_the_trials_of_a_space_are_read_when_a_search_ends_and_not_again(
    cells: tuple[Cell, ...], ledger: Ledger
) -> None:
    with patch.object(ledger, "trials", wraps=ledger.trials) as read:
        launch(cells, ledger, FakeExecutor())
    assert read.call_count == len(cells)


def test_a_phase_that_diverges_widely_is_reported_once_over_all_launches(
    cells: tuple[Cell, ...], ledger: Ledger
) -> None:
    """Of three search trials, one a launch, the first two diverge; the last launch trains both confirm trials."""
    trained: list[str] = []

    def train(job: Job) -> Finished:
        (member,) = job.config.members
        trained.append(member.key)
        ends: Literal["complete", "diverged"] = "complete" if len(trained) == 3 else "diverged"
        return Finished(job, [replace(outcome(member, 3), outcome=ends)], {})

    reports = []
    for packs in (1, 1, 1, 2):
        agenda = Launch(cells[:1], ledger, OWNER, listener := Recorder(), pack_size=1)
        for _ in range(packs):
            job = agenda.next_job()
            assert isinstance(job, Job)
            agenda.handle(train(job))
        agenda.close()
        reports.append([line.removeprefix(f"{cells[0].name} ") for line in listener.lines if "diverged" in line])
    assert reports == [[], ["search 2/3 diverged"], [], ["confirm 2/2 diverged"]]


def test_machines_that_die_cost_no_retries_and_data_that_is_not_there_no_time(
    cells: tuple[Cell, ...], ledger: Ledger
) -> None:
    seen: Counter[str] = Counter()

    def moody(job: Job) -> list[Event]:
        seen[job.pack] += 1
        return fail("lost")(job) if seen[job.pack] <= LOST_MACHINES else succeed(job)

    nowhere = launch(cells, ledger, FakeExecutor(behave=fail("data")), retries=5)
    assert isinstance(nowhere.listener, Recorder)
    assert "failed True" not in nowhere.listener.lines
    executor = FakeExecutor(behave=moody)
    assert launch(cells, ledger, executor, retries=0).tally.failed == 0
    assert set(seen.values()) == {LOST_MACHINES + 1}
    assert set(executor.trained.values()) == {1}
    assert len(complete(ledger)) == TWO_CELLS_TRIALS


def test_a_pack_whose_machines_always_die_is_given_up(cells: tuple[Cell, ...], ledger: Ledger) -> None:
    assert launch(cells, ledger, FakeExecutor(behave=fail("lost")), retries=0).tally.failed == 6


def test_a_warning_is_told_once(cells: tuple[Cell, ...], ledger: Ledger) -> None:
    def warning(job: Job) -> list[Event]:
        return [Progress(job, [record(job, 1)], ["no room"]), *succeed(job)]

    agenda = launch(cells, ledger, FakeExecutor(behave=warning))
    assert isinstance(agenda.listener, Recorder)
    assert [line for line in agenda.listener.lines if line.startswith("warned")] == ["warned no room"]


def test_every_report_of_epochs_is_shown(cells: tuple[Cell, ...], ledger: Ledger) -> None:
    reports: Counter[bool] = Counter()

    def reporting(job: Job) -> Iterator[Event]:
        for event in (Progress(job, []), *succeed(job)):
            if isinstance(event, Progress):
                reports[bool(event.records)] += 1
            yield event

    agenda = launch(cells, ledger, FakeExecutor(behave=reporting))
    assert isinstance(agenda.listener, Recorder)
    assert agenda.listener.lines.count("advanced") == reports[True] > reports[False] > 0


def test_one_failure_in_between_costs_nothing(cells: tuple[Cell, ...], ledger: Ledger) -> None:
    seen: Counter[str] = Counter()

    def once(job: Job) -> list[Event]:
        seen[job.pack] += 1
        return fail()(job) if seen[job.pack] == 1 else succeed(job)

    executor = FakeExecutor(behave=once)
    assert launch(cells, ledger, executor).tally.failed == 0
    assert set(executor.trained.values()) == {1}
    assert len(complete(ledger)) == TWO_CELLS_TRIALS


def test_a_pack_too_large_for_memory_is_halved_until_it_fits(cells: tuple[Cell, ...], ledger: Ledger) -> None:
    def small_device(job: Job) -> list[Event]:
        return fail("memory")(job) if len(job.config.members) > 1 else succeed(job)

    executor = FakeExecutor(behave=small_device)
    agenda = launch(cells, ledger, executor, pack_size=3)
    assert agenda.tally.failed == 0
    assert executor.trained == complete(ledger)
    assert len(executor.trained) == TWO_CELLS_TRIALS


def test_packs_that_cannot_be_trained_at_once_are_trained_one_trial_at_a_time(
    cells: tuple[Cell, ...], ledger: Ledger
) -> None:
    """A pack comes back once for all of them, and none of the next phase does; it is said once."""

    def one_at_a_time(job: Job) -> list[Event]:
        return [Failed(job, "alone", "no packs")] if len(job.config.members) > 1 else succeed(job)

    executor, display = FakeExecutor(behave=one_at_a_time), Recorder()
    agenda = Launch(cells, ledger, OWNER, display, pack_size=3)
    executor.run(agenda)
    assert agenda.tally.failed == 0
    assert executor.trained == complete(ledger)
    assert len(executor.trained) == TWO_CELLS_TRIALS
    assert display.lines.count("warned no packs") == 1
    assert not [line for line in display.lines if line.startswith("failed")]
    split = [pack for cell in cells for phase in PHASES for pack in ledger.packs(cell.name, phase)]
    assert {len(pack.keys) for pack in split if pack.state != "split"} == {1}


def test_a_workload_that_cannot_be_trained_ends_the_launch_at_once(cells: tuple[Cell, ...], ledger: Ledger) -> None:
    display = Recorder()
    agenda = Launch(cells, ledger, OWNER, display, pack_size=1)
    FakeExecutor(behave=lambda job: [Failed(job, "workload", "loss() is wrong")]).run(agenda)
    assert [line for line in display.lines if line.startswith("failed")] == ["failed False"]
    assert agenda.tally.errors == ["loss() is wrong"]


def test_a_single_trial_too_large_for_memory_is_a_failure(cells: tuple[Cell, ...], ledger: Ledger) -> None:
    agenda = launch(cells, ledger, FakeExecutor(behave=fail("memory")), pack_size=1, retries=0)
    assert agenda.tally.failed == 6
    sizes = {min(cell.task.batch_size, cell.task.examples) for cell in cells}
    assert {error.partition(" or less")[0].rpartition(" ")[2] for error in agenda.tally.errors} == {
        str((size + 1) // 2) for size in sizes
    }


def test_stopping_leaves_the_rest_to_the_next_launch(cells: tuple[Cell, ...], ledger: Ledger) -> None:
    executor = FakeExecutor()
    agenda = Launch(cells, ledger, OWNER, Recorder())

    def stop_first(job: Job) -> list[Event]:
        agenda.stop()
        return [Progress(job, [record(job, 1)]), Failed(job, "stopped", "asked to")]

    executor.behave = stop_first
    executor.run(agenda)
    agenda.close()
    assert agenda.tally.trained == agenda.tally.failed == 0
    assert not [row for row in ledger.trials("tiny") if row.outcome == "running"]
    executor.behave = succeed
    assert launch(cells, ledger, executor).tally.trained == TWO_CELLS_TRIALS


def test_packs_are_trained_again_as_they_were_recorded(cells: tuple[Cell, ...], ledger: Ledger) -> None:
    launch(cells, ledger, FakeExecutor(behave=fail()), pack_size=2, retries=0)
    packs: list[tuple[str, ...]] = []

    def noting(job: Job) -> list[Event]:
        packs.append(tuple(member.key for member in job.config.members))
        return succeed(job)

    launch(cells, ledger, FakeExecutor(behave=noting), pack_size=3)
    assert sorted(map(len, packs)) == [1, 1, 2, 2, 2, 2], "search packs as first planned; two confirm packs of two"


def test_a_cell_that_another_launch_took_is_left_to_it(cells: tuple[Cell, ...], ledger: Ledger) -> None:
    other = Owner.current()
    agenda = Launch(cells, ledger, OWNER, Recorder(), pack_size=1)

    def robbed(job: Job) -> list[Event]:
        for cell in cells:
            ledger.release(cell.name, OWNER)
            assert ledger.lease(cell.name, other, 60)
        agenda.leases.renew()
        agenda.stop()
        return succeed(job)

    executor = FakeExecutor(behave=robbed)
    executor.run(agenda)
    assert sum(executor.trained.values()) == 1
    assert not complete(ledger), "the other one trains it: a result next to half of another's curve would be damage"
    assert isinstance(again := Launch(cells, ledger, OWNER, Recorder()).next_job(), Nothing), again
    agenda.close()
    assert {lease.owner for lease in ledger.leases().values()} == {str(other)}, "the other's leases are not given back"
    for cell in cells:
        ledger.release(cell.name, other)
    launch(cells, ledger, executor := FakeExecutor())
    assert executor.trained == complete(ledger)
    assert sum(executor.trained.values()) == TWO_CELLS_TRIALS


def test_a_grid_that_grew_trains_its_new_points_only(tmp_path: Path, cells: tuple[Cell, ...], ledger: Ledger) -> None:
    executor = FakeExecutor()
    launch(cells, ledger, executor)
    wider = tmp_path / "tiny.toml"
    wider.write_text(TWO_CELLS.replace("[0.01, 0.02, 0.03]", "[0.01, 0.02, 0.03, 0.04]"))
    grown = plan(load_space(wider))
    ledger.register(grown)
    agenda = launch(grown, ledger, executor)
    assert set(executor.trained.values()) == {1}, "nothing that finished is trained again"
    assert agenda.tally.trained + agenda.tally.found == 2 * (4 + 2)


def test_trials_that_another_space_trained_are_found(tmp_path: Path, cells: tuple[Cell, ...], ledger: Ledger) -> None:
    executor = FakeExecutor()
    launch(cells, ledger, executor)
    other = tmp_path / "other.toml"
    other.write_text(TWO_CELLS.replace("[0.01, 0.02, 0.03]", "[0.02, 0.03, 0.05]"))
    planned = plan(load_space(other))
    ledger.register(planned)
    agenda = launch(planned, ledger, executor)
    assert set(executor.trained.values()) == {1}
    assert agenda.tally.found >= 4
    assert agenda.tally.trained + agenda.tally.found == TWO_CELLS_TRIALS


@pytest.mark.parametrize(
    ("before", "after"),
    [("width = 4", "width = 8"), ('metric = "accuracy"', 'metric = "accuracy"\nschedule = "cosine"')],
)
def test_a_space_that_changed_what_is_fixed_needs_another_name(
    before: str, after: str, tmp_path: Path, cells: tuple[Cell, ...]
) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(TWO_CELLS.replace(before, after))
    changed = plan(load_space(file))
    check_same_space(cells, cells)
    check_same_space(cells, changed)  # all cells are replaced, so none of the old ones stays next to the new
    with pytest.raises(UsageError, match=r"space 'tiny': (model|schedule) is .* in this ledger's cell tiny/adam-lawn"):
        check_same_space(cells, changed[:1])


class _Death(Exception):
    pass


def _dying(after: int) -> Callable[[Job], Iterator[Event]]:
    left = iter(range(after))

    def behave(job: Job) -> Iterator[Event]:
        for event in succeed(job):
            if next(left, None) is None:
                raise _Death
            yield event

    return behave
