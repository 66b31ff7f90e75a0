"""A launch that extends grids: each key once, winners confirmed on their final grids only, whatever stops it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lawn_tune.cells import Cell
from lawn_tune.executors.base import Event, Finished, Job
from lawn_tune.launching.launch import Launch
from lawn_tune.ledger import Ledger, Owner, open_ledger
from lawn_tune.planning.extending import resumed
from tests.helpers.fakes import FakeExecutor, Recorder, outcome
from tests.helpers.tiny import tiny_cells, tiny_space

OWNER = Owner.current()
SPACE = tiny_space(
    "edges", width=2, confirm=[7], batch_size=64, epochs=9,
    peak_lr=[0.01, 0.02, 0.04], weight_decay=[0.1, 0.2, 0.4], free_epochs=[1, 2, 4],
)  # fmt: skip
BEST = {"peak_lr": 0.11, "weight_decay": 0.2, "free_epochs": 2.0}
"""A rate two steps beyond the grid, the others inside."""


@pytest.fixture
def cells(tmp_path: Path) -> tuple[Cell, ...]:
    return tiny_cells(tmp_path, SPACE)


@pytest.fixture
def ledger(tmp_path: Path, cells: tuple[Cell, ...]) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    opened.register(cells)
    yield opened
    opened.close()


def towards_the_best(job: Job) -> list[Event]:
    """Outcomes whose metric falls with the distance from `BEST`, in logarithms."""
    ends = []
    for member in job.config.members:
        far = sum(abs(math.log(member.hyperparameters[n] / x)) for n, x in BEST.items() if n in member.hyperparameters)
        summary = {f"last/{split}/accuracy": 90 - far for split in ("validation", "test")} | {"seconds": 0.1}
        ends.append(replace(outcome(member, job.config.task.epochs), summary=summary))
    return [Finished(job, ends, {"device": "fake"})]


def launch(
    cells: tuple[Cell, ...], ledger: Ledger, executor: FakeExecutor, extend: bool = True
) -> tuple[Launch, Recorder]:
    told = Recorder()
    planned = resumed(cells, ledger.cells("tiny"))
    ledger.register(planned)
    agenda = Launch(planned, ledger, OWNER, told, extend=extend)
    if agenda.has_work():
        executor.run(agenda)
    agenda.close()
    return agenda, told


def test_grids_grow_until_winners_are_inside_and_only_those_are_confirmed(
    cells: tuple[Cell, ...], ledger: Ledger
) -> None:
    executor = FakeExecutor(behave=towards_the_best)
    agenda, told = launch(cells, ledger, executor)
    grids = {str(cell.name): cell.grid for cell in ledger.cells("tiny")}
    assert {grid.values["peak_lr"] for grid in grids.values()} == {(0.01, 0.02, 0.04, 0.08, 0.2)}
    assert {grid.size for grid in grids.values()} == {15}
    assert set(executor.trained.values()) == {1}
    confirmed = [row for row in ledger.trials("tiny") if row.phase == "confirm"]
    assert [row.hyperparameters["peak_lr"] for row in confirmed] == [0.08, 0.08]
    assert agenda.tally.trained == 2 * (15 + 1)
    assert agenda.tally.found == 0, "what an earlier round trained was not found"
    assert [line for line in told.lines if "->" in line] == [
        f"tiny/{name}/bs64 {sizes}" for sizes in ("9->12", "12->15") for name in ("adam", "adam-lawn")
    ]


@pytest.mark.parametrize("extend", [True, False])
def test_a_later_launch_goes_on_with_the_grids_as_they_are(
    extend: bool, cells: tuple[Cell, ...], ledger: Ledger
) -> None:
    executor = FakeExecutor(behave=towards_the_best)
    launch(cells, ledger, executor)
    before = ledger.cells("tiny")
    again, _ = launch(cells, ledger, executor, extend)
    assert again.tally.trained == 0
    assert again.tally.found == 2 * (15 + 1)
    assert ledger.cells("tiny") == before


@pytest.mark.parametrize("packs", [1, 9, 12])
def test_an_interrupted_extension_ends_with_the_trials_of_an_undisturbed_one(
    packs: int, cells: tuple[Cell, ...], ledger: Ledger, tmp_path: Path
) -> None:
    undisturbed = FakeExecutor(behave=towards_the_best)
    other = open_ledger(f"sqlite:///{tmp_path}/other.db")
    other.register(cells)
    launch(cells, other, undisturbed)
    other.close()
    done = 0

    def stops(job: Job) -> list[Event]:
        nonlocal done
        done += 1
        if done == packs:
            agenda.stop()
        return towards_the_best(job)

    executor = FakeExecutor(behave=stops)
    planned = resumed(cells, ledger.cells("tiny"))
    agenda = Launch(planned, ledger, OWNER, Recorder(), extend=True, pack_size=2)
    executor.run(agenda)
    agenda.close()
    assert executor.trained != undisturbed.trained
    executor.behave = towards_the_best
    launch(cells, ledger, executor)
    assert executor.trained == undisturbed.trained


def test_without_extend_a_winner_on_the_edge_is_confirmed(cells: tuple[Cell, ...], ledger: Ledger) -> None:
    executor = FakeExecutor(behave=towards_the_best)
    launch(cells, ledger, executor, extend=False)
    assert {cell.grid.size for cell in ledger.cells("tiny")} == {9}
    assert {row.hyperparameters["peak_lr"] for row in ledger.trials("tiny") if row.phase == "confirm"} == {0.04}
