"""Sizes of packs are chosen for the workers of the first launch, recorded, and kept by every later one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lawn_tune.cells import PHASES, Cell, Phase
from lawn_tune.executors.base import Event, Failed, Job, Progress
from lawn_tune.launching.launch import Launch
from lawn_tune.launching.limits import Limits
from lawn_tune.ledger import Ledger, Owner, open_ledger
from lawn_tune.planning.plan import plan
from lawn_tune.planning.speed import Speeds
from search_spaces.loader import load_space
from tests.helpers.fakes import FakeExecutor, Recorder, fail, record, succeed
from tests.helpers.tiny import tiny_cells, tiny_space

OWNER = Owner.current()
SPACE = tiny_space(
    "four points a cell",
    width=4,
    confirm=[11, 12],
    batch_size=64,
    epochs=2,
    peak_lr=[0.01, 0.02],
    weight_decay=[0.1, 0.2],
    free_epochs=[0, 1],
)
TRIALS = 2 * (4 + 2)

Packs = dict[tuple[str, Phase], list[tuple[str, ...]]]


@pytest.fixture
def cells(tmp_path: Path) -> tuple[Cell, ...]:
    return tiny_cells(tmp_path, SPACE)


@pytest.fixture
def opened(tmp_path: Path, cells: tuple[Cell, ...]) -> Iterator[Callable[[str], Ledger]]:
    """Opens ledgers by name, with the cells registered."""
    found: list[Ledger] = []

    def open_one(name: str) -> Ledger:
        found.append(open_ledger(f"sqlite:///{tmp_path}/{name}.db"))
        found[-1].register(cells)
        return found[-1]

    yield open_one
    for ledger in found:
        ledger.close()


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes CPU cores so small that a pack of these cells holds two trials there, and four on a GPU."""
    monkeypatch.setattr("lawn_tune.planning.packing.EXAMPLES", 2 * 64)


def launch(
    cells: tuple[Cell, ...], ledger: Ledger, executor: FakeExecutor, *, on_gpu: bool = False, **options: int | None
) -> Launch:
    ledger.register(cells)
    limits = Limits(speeds=Speeds(on_gpu=on_gpu))
    agenda = Launch(cells, ledger, OWNER, Recorder(), limits=limits, **options)  # type: ignore[arg-type]
    if agenda.has_work():
        executor.run(agenda)
    agenda.close()
    return agenda


def stopping_after(jobs: int, agenda: Launch) -> Callable[[Job], Iterator[Event]]:
    left = iter(range(jobs))

    def behave(job: Job) -> Iterator[Event]:
        if next(left, None) is None:
            agenda.stop()
            yield Progress(job, [record(job, 1)])
            yield Failed(job, "stopped", "asked to")
        else:
            yield from succeed(job)

    return behave


def packs_of(ledger: Ledger, cells: tuple[Cell, ...]) -> Packs:
    return {(str(c.name), phase): [p.keys for p in ledger.packs(c.name, phase)] for c in cells for phase in PHASES}


def forget_sizes(ledger: Ledger) -> None:
    with ledger._database.writing() as connection:
        connection.exec_driver_sql("UPDATE lawn_cells SET definition = json_remove(definition, '$.packing')")


def largest(packs: Packs, phase: Phase) -> list[int]:
    return [max(map(len, keys)) for (_, name), keys in packs.items() if name == phase]


def test_packs_are_small_enough_for_every_worker_to_have_one(
    cells: tuple[Cell, ...], opened: Callable[[str], Ledger]
) -> None:
    sizes = {}
    for workers in (1, 4):
        ledger = opened(f"w{workers}")
        assert launch(cells, ledger, FakeExecutor(), workers=workers).tally.trained == TRIALS
        packs = packs_of(ledger, cells)
        sizes[workers] = largest(packs, "search") + largest(packs, "confirm")
        assert {cell.packing and cell.packing.workers for cell in ledger.cells("tiny")} == {workers}
        for row in ledger.trials("tiny"):
            members = next(keys for keys in packs[row.cell, row.phase] if row.key in keys)
            assert row.provenance["packing"] == {"trials": len(members), "workers": workers}
    assert sizes == {1: [4, 4, 2, 2], 4: [2, 2, 1, 1]}


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize("first", [False, True])
def test_a_cell_keeps_its_packs_on_the_other_kind_of_device(
    first: bool, cells: tuple[Cell, ...], opened: Callable[[str], Ledger]
) -> None:
    ledger, executor = opened("ledger"), FakeExecutor()
    agenda = Launch(cells, ledger, OWNER, Recorder(), limits=Limits(speeds=Speeds(on_gpu=first)))
    executor.behave = stopping_after(1, agenda)
    executor.run(agenda)
    agenda.close()
    executor.behave = succeed
    launch(cells, ledger, executor, on_gpu=not first)
    assert largest(packs_of(ledger, cells), "search") == ([4, 4] if first else [2, 2])
    assert set(executor.trained.values()) == {1}
    assert len(executor.trained) == TRIALS


@pytest.mark.parametrize(("jobs", "later"), [(0, 1), (1, 100), (3, 2), (5, None), (7, 1)])
def test_an_interrupted_launch_ends_with_the_packs_of_an_undisturbed_one_on_any_number_of_workers(
    jobs: int, later: int | None, cells: tuple[Cell, ...], opened: Callable[[str], Ledger]
) -> None:
    undisturbed, ledger = opened("undisturbed"), opened("interrupted")
    launch(cells, undisturbed, FakeExecutor(), workers=4)
    agenda, executor = Launch(cells, ledger, OWNER, Recorder(), workers=4), FakeExecutor()
    executor.behave = stopping_after(jobs, agenda)
    executor.run(agenda)
    agenda.close()
    executor.behave = succeed
    launch(cells, ledger, executor, workers=later)
    assert packs_of(ledger, cells) == packs_of(undisturbed, cells)
    assert set(executor.trained.values()) == {1}
    assert len(executor.trained) == TRIALS
    for row in ledger.trials("tiny"):
        assert row.provenance["packing"]["workers"] == 4


def test_points_that_are_added_are_packed_for_the_workers_of_their_launch(
    cells: tuple[Cell, ...], opened: Callable[[str], Ledger], tmp_path: Path
) -> None:
    ledger, executor = opened("ledger"), FakeExecutor()
    launch(cells, ledger, executor, workers=1)
    before = packs_of(ledger, cells)
    wider = tmp_path / "tiny.toml"
    wider.write_text(SPACE.replace("[0.01, 0.02]", "[0.01, 0.02, 0.03]"))
    grown = plan(load_space(wider))
    launch(grown, ledger, executor, workers=100)
    for (cell, phase), keys in packs_of(ledger, cells).items():
        old = before[cell, phase]
        assert keys[: len(old)] == old, "what was recorded stays"
        if phase == "search":
            assert [len(pack) for pack in keys[len(old) :]] == [1] * 2
    assert set(executor.trained.values()) == {1}


def test_a_size_that_is_given_overrules_and_is_kept(cells: tuple[Cell, ...], opened: Callable[[str], Ledger]) -> None:
    ledger = opened("ledger")
    for size, options in ((3, {"pack_size": 3, "workers": 100}), (3, {"workers": 100})):
        agenda, executor = Launch(cells, ledger, OWNER, Recorder(), **options), FakeExecutor()  # type: ignore[arg-type]
        executor.behave = stopping_after(1, agenda)
        executor.run(agenda)
        agenda.close()
        recorded = ledger.packings(cells)
        assert {(found.search, found.confirm, found.workers) for found in recorded.values()} == {(size, size, None)}
    first = ledger.packs(cells[0].name, "search")
    assert [len(pack.keys) for pack in first] == [2, 2], "three at most, and even"


def test_a_ledger_without_recorded_sizes_keeps_its_packs_and_confirms_by_this_launch(
    cells: tuple[Cell, ...], opened: Callable[[str], Ledger]
) -> None:
    ledger, executor = opened("old"), FakeExecutor()
    for cell in cells:
        ledger.record_packs(cell.name, "search", [cell.search_trials[:3], cell.search_trials[3:]])
    launch(cells, ledger, executor, workers=100)
    packs = packs_of(ledger, cells)
    assert [list(map(len, packs[str(cell.name), "search"])) for cell in cells] == [[3, 1], [3, 1]]
    assert largest(packs, "confirm") == [1, 1]
    assert len(executor.trained) == TRIALS


def test_a_search_of_before_is_confirmed_with_sizes_for_this_launch(
    cells: tuple[Cell, ...], opened: Callable[[str], Ledger]
) -> None:
    ledger, executor = opened("old"), FakeExecutor()

    def confirming_fails(job: Job) -> list[Event]:
        return fail()(job) if job.config.task.train_on != "train" else list(succeed(job))

    executor.behave = confirming_fails
    launch(cells[:1], ledger, executor, retries=0)
    forget_sizes(ledger)
    with ledger._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM lawn_progress")
        connection.exec_driver_sql("DELETE FROM lawn_packs WHERE phase = 'confirm'")
    executor.behave = succeed
    launch(cells[:1], ledger, executor, workers=2)
    assert [len(keys) for keys in packs_of(ledger, cells[:1])[str(cells[0].name), "confirm"]] == [1, 1]
    assert set(executor.trained.values()) == {1}


def test_no_size_is_chosen_where_nothing_is_missing(cells: tuple[Cell, ...], opened: Callable[[str], Ledger]) -> None:
    ledger = opened("old")
    launch(cells, ledger, FakeExecutor())
    forget_sizes(ledger)
    launch(cells, ledger, FakeExecutor())
    assert ledger.packings(cells) == {}


def test_two_launches_at_once_use_the_same_sizes(cells: tuple[Cell, ...], opened: Callable[[str], Ledger]) -> None:
    ledger = opened("ledger")
    first = Launch(cells, ledger, OWNER, Recorder(), workers=100)
    with closing(first):
        assert first.has_work()
        second = launch(cells[1:], ledger, FakeExecutor(), workers=1)
        assert second.tally.trained == 4 + 2
        FakeExecutor().run(first)
    packs = packs_of(ledger, cells)
    assert largest(packs, "search") == largest(packs, "confirm") == [1, 1]


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize(("workers", "on_gpu", "expected"), [(100, False, 1), (1, True, 4), (1, False, 2)])
def test_the_workers_of_a_cluster_may_be_known_later(
    workers: int, on_gpu: bool, expected: int, cells: tuple[Cell, ...], opened: Callable[[str], Ledger]
) -> None:
    ledger = opened("ledger")
    agenda = Launch(cells, ledger, OWNER, Recorder(), workers=None)
    assert agenda.expects_work()
    assert ledger.packings(cells) == {}
    agenda.expect_workers(workers, on_gpu)
    FakeExecutor().run(agenda)
    agenda.close()
    assert largest(packs_of(ledger, cells), "search") == [expected, expected]


SIXTEEN = SPACE.replace("[0.01, 0.02]", "[0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08]")


@pytest.mark.parametrize("stopped", [None, 1, 2, 3, 5])
@pytest.mark.parametrize(("size", "room", "tried"), [(16, 1, [16, 8, 4, 2]), (8, 3, [8, 4]), (6, 2, [6, 3])])
def test_a_size_that_does_not_fit_is_tried_once_for_each_cell(
    size: int, room: int, tried: list[int], stopped: int | None, opened: Callable[[str], Ledger], tmp_path: Path
) -> None:
    """Whether or not the launch was stopped in between: what did not fit is in the ledger."""
    (tmp_path / "tiny.toml").write_text(SIXTEEN)
    cells = plan(load_space(tmp_path / "tiny.toml"))[:1]
    ledger, executor, failed = opened("ledger"), FakeExecutor(), list[tuple[str, int]]()

    def small_device(job: Job) -> list[Event]:
        members = len(job.config.members)
        if members <= room:
            return list(succeed(job))
        failed.append((job.config.task.train_on, members))
        return fail("memory")(job)

    def run(jobs: int | None) -> None:
        ledger.register(cells)
        agenda = Launch(cells, ledger, OWNER, Recorder(), pack_size=size)
        begun = 0

        def behave(job: Job) -> list[Event]:
            nonlocal begun
            begun += 1
            if jobs is not None and begun > jobs:
                agenda.stop()
                return [Failed(job, "stopped", "asked to")]
            return small_device(job)

        executor.behave = behave
        executor.run(agenda)
        agenda.close()

    if stopped is not None:
        run(stopped)
    run(None)
    assert len(failed) == len(set(failed))
    searched = [members for split, members in failed if split == "train"]
    assert searched == tried or stopped
    assert len(searched) <= len(tried) + 1, "a smaller pack may be tried first"
    assert set(executor.trained.values()) == {1}
    assert len(executor.trained) == 16 + 2
