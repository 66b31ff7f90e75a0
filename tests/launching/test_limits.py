"""Limits of a launch: it stops at them, begins nothing that would pass them, and the next launch ends with the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lawn_tune.cells import Cell
from lawn_tune.cli.main import app
from lawn_tune.executors.base import Event, Job, Nothing, Progress
from lawn_tune.launching.launch import Launch
from lawn_tune.launching.limits import Limits
from lawn_tune.ledger import Ledger, Owner, open_ledger
from lawn_tune.planning.plan import plan
from lawn_tune.planning.remaining import Remaining, remaining
from lawn_tune.planning.spaces import find_space
from lawn_tune.planning.speed import Speeds
from tests.helpers.fakes import FakeExecutor, Recorder, succeed
from tests.helpers.tiny import SPACE

PACK_SECONDS = 100.0
SIZE = 3


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def cells() -> tuple[Cell, ...]:
    return plan(find_space("quickstart"), cells=["adam*/bs64"])


@pytest.fixture
def ledger(tmp_path: Path, cells: tuple[Cell, ...]) -> Iterator[Ledger]:
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as opened:
        opened.register(cells)
        yield opened


def launch(cells: Sequence[Cell], ledger: Ledger, clock: Clock, **given: float) -> Launch:
    """Launches with packs that take `PACK_SECONDS` each, one after the other; their speed is known."""
    limits = Limits(speeds=Speeds(table=False), clock=clock, **given)
    for cell in cells:
        limits.speeds.add(cell, "search", [outcome_of(cell, PACK_SECONDS / SIZE)] * SIZE)
    agenda = Launch(cells, ledger, Owner.current(), Recorder(), pack_size=SIZE, limits=limits)
    executor = FakeExecutor(behave=lambda job: timed(job, clock))
    if agenda.has_work():
        executor.run(agenda)
    agenda.close()
    return agenda


def timed(job: Job, clock: Clock) -> Iterator[Event]:
    events = succeed(job)
    for event in events:
        if isinstance(event, Progress):
            clock.now += PACK_SECONDS / (len(events) - 1)
        else:
            share = PACK_SECONDS / len(event.outcomes)  # type: ignore[union-attr]
            for outcome in event.outcomes:  # type: ignore[union-attr]
                outcome.summary["seconds"] = share  # type: ignore[index]
        yield event


PACKS = 2 * (9 // SIZE + 1)
LONGEST = PACK_SECONDS * 1437 / 1293
"""What a confirm pack is taken to need: it trains on the validation data too."""


@pytest.mark.parametrize("packs", [0.5, 1.01, 2.5, 7.0])
@pytest.mark.parametrize("limit", ["device_seconds", "deadline"])
def test_a_launch_begins_what_fits_and_the_next_ones_do_the_rest(
    packs: float, limit: str, cells: tuple[Cell, ...], ledger: Ledger
) -> None:
    clock, trained, launches = Clock(), 0, 0
    while True:
        began, seconds = clock.now, packs * LONGEST
        agenda = launch(cells, ledger, clock, **{limit: seconds + (began if limit == "deadline" else 0.0)})
        trained += agenda.tally.trained
        launches += 1
        assert trained + agenda.left().trials == 2 * (9 + 3)
        if packs > 1:  # a longer pack is begun all the same
            assert clock.now - began <= seconds
        if not agenda.left().trials:
            break
        assert agenda.at_limit
        assert agenda.tally.trained, "every launch gets on"
    assert launches <= PACKS
    assert {row.outcome for row in ledger.trials("quickstart")} == {"complete"}


def test_no_limit_is_no_end(cells: tuple[Cell, ...], ledger: Ledger) -> None:
    agenda = launch(cells, ledger, Clock())
    assert not agenda.at_limit
    assert agenda.left() == Remaining()


def test_limits_go_by_the_speeds_that_are_given() -> None:
    speeds = Speeds(table=False)
    assert Limits(speeds=speeds).speeds is speeds


def test_at_the_limit_running_jobs_are_asked_to_stop() -> None:
    clock = Clock(0.0)
    limits = Limits(device_seconds=100, share=0.5, clock=clock)
    limits.begin("a", None)
    limits.begin("b", 30.0)
    clock.now = 60.0
    assert limits.spent == 60.0
    assert limits.fits(None)
    limits.end("b")
    clock.now = 139.9
    assert not limits.over
    clock.now = 140.0
    assert limits.over
    assert not limits.fits(None)


def test_a_launch_past_its_limit_stops_its_jobs_and_begins_no_more(cells: tuple[Cell, ...], ledger: Ledger) -> None:
    clock = Clock()
    limits = Limits(device_seconds=PACK_SECONDS, speeds=Speeds(table=False), clock=clock)
    agenda = Launch(cells, ledger, Owner.current(), Recorder(), pack_size=SIZE, limits=limits)
    assert isinstance(agenda.next_job(), Job)
    assert not agenda.stopping
    clock.now += 2 * PACK_SECONDS
    assert agenda.stopping
    assert agenda.at_limit
    assert agenda.next_job() is Nothing.NOW
    agenda.close()


def test_what_running_jobs_still_need_is_promised_to_them() -> None:
    limits = Limits(device_seconds=100, clock=Clock())
    assert not Limits(clock=Clock()).limited
    limits.begin("a", 60.0)
    assert limits.fits(40.0)
    assert not limits.fits(41.0)
    assert limits.fits(101.0), "longer than the whole limit: only its checkpoint can finish it"


@given(st.lists(st.tuples(st.floats(1, 50), st.floats(0.2, 1.0)), min_size=1, max_size=20), st.floats(1, 200))
def test_true_estimates_keep_the_limit(jobs: list[tuple[float, float]], limit: float) -> None:
    clock = Clock()
    limits = Limits(device_seconds=limit, deadline=clock.now + limit, clock=clock)
    for i, (seconds, pause) in enumerate(jobs):
        if seconds < 0.999 * limit and limits.fits(seconds):
            limits.begin(str(i), seconds)
            clock.now += seconds
            limits.end(str(i))
            assert limits.spent <= limit * (1 + 1e-9)
            assert clock.now <= limits.deadline * (1 + 1e-9)
        clock.now += pause


def test_speed_is_the_cells_own_once_measured_else_the_tables_else_unknown(cells: tuple[Cell, ...]) -> None:
    cell, pack = cells[0], cells[0].search_trials[:SIZE]
    assert Speeds(table=False).seconds(cell, "search", pack) is None
    speeds = Speeds()
    by_table = speeds.seconds(cell, "search", pack)
    assert by_table is not None
    speeds.add(cell, "search", [outcome_of(cell, seconds=7.0)] * SIZE)
    assert speeds.seconds(cell, "search", pack) == pytest.approx(7.0 * SIZE)
    assert speeds.seconds(cells[1], "search", cells[1].search_trials[:1]) is not None
    assert remaining(cell, (), speeds).seconds is not None
    assert remaining(cell, (), Speeds(table=False)).seconds is None


def outcome_of(cell: Cell, seconds: float) -> Any:
    from tests.helpers.fakes import outcome

    found = outcome(cell.search_trials[0], cell.task.epochs)
    found.summary["seconds"] = seconds  # type: ignore[index]
    return found


# --- the command -----------------------------------------------------------------------------------------------------


def test_a_real_launch_stops_at_its_limit_and_ends_like_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(SPACE)
    command = ["launch", "tiny.toml", "--executor", "inline", "--gpus", "0", "--pack-size", "1"]
    runner = CliRunner()
    ended: Callable[[str], dict[str, Any]] = lambda file: results(f"sqlite:///{tmp_path}/{file}")  # noqa: E731
    assert runner.invoke(app, [*command, "--storage", "sqlite:///whole.db"]).exit_code == 0
    codes = []
    for _ in range(60):
        stopped = runner.invoke(app, [*command, "--storage", "sqlite:///parts.db", "--max-device-hours", "0.0001"])
        codes.append(stopped.exit_code)
        if stopped.exit_code == 0:
            break
        assert re.search(r"device time spent: <?\d+ s; left: \d+ trials? in \d+ packs?, device time ", stopped.stderr)
    assert codes[-1] == 0
    assert set(codes[:-1]) == {6}
    assert ended("parts.db") == ended("whole.db")
    late = runner.invoke(app, [*command, "--deadline", "2020-01-01"])
    assert late.exit_code == 2
    assert "has passed" in late.stderr


def results(url: str) -> dict[str, Any]:
    """Returns what must not depend on how often a launch stopped."""
    with open_ledger(url, create=False) as ledger:
        rows = {row.key: row for row in ledger.trials("tiny")}
        curves = ledger.curves(list(rows))
    timeless = {key: {n: v for n, v in row.summary.items() if n not in MEASURED} for key, row in rows.items()}
    numbers = {key: {name: values.tobytes() for name, values in curve.items()} for key, curve in curves.items()}
    return {"summaries": json.dumps(timeless, sort_keys=True), "curves": numbers}


MEASURED = ("seconds", "peak_memory_bytes")
