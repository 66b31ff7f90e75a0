"""The display of a launch: what it logs, and how it knows the time left."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from lawn_tune.executors.base import Job
from lawn_tune.launching.listener import Tally
from lawn_tune.launching.progress import Display, print_summary
from tests.helpers.fakes import record
from tests.helpers.lease_ledger import Clock
from tests.helpers.tiny import SPACE, tiny_cells
from trainables.tasks import PackConfig


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize(
    ("done", "missing", "shown"),
    [(0, 2, "search: 2 to train\n"), (1, 1, "search: 1 to train, 1 in the ledger\n"), (2, 0, "")],
)
def test_what_is_missing_is_logged(quiet: bool, done: int, missing: int, shown: str, tmp_path: Path) -> None:
    (cell,) = tiny_cells(tmp_path, SPACE)
    out = io.StringIO()
    Display(Console(file=out, width=200), [cell], quiet=quiet).found(cell, "search", done, missing)
    text = out.getvalue()
    assert text.partition(f"{cell.name} ")[2] == ("" if quiet else shown)
    assert bool(text) == (bool(shown) and not quiet)


@pytest.mark.parametrize(
    ("trained", "text"),
    [
        (0, "stopped before a trial ended; the same command continues\n"),
        (1, "stopped after 1 trial, all kept; the same command continues\n"),
    ],
)
def test_a_stopped_launch_says_what_it_kept(trained: int, text: str) -> None:
    out = io.StringIO()
    print_summary(Console(file=out, width=200), [], Tally(trained=trained), True, None)
    assert out.getvalue() == text


@pytest.mark.parametrize(("terminal", "quiet"), [(True, False), (True, True), (False, False)])
def test_bars_are_drawn_on_a_terminal_until_the_launch_ends(terminal: bool, quiet: bool, tmp_path: Path) -> None:
    (cell,) = tiny_cells(tmp_path, SPACE)
    out = io.StringIO()
    with Display(Console(file=out, width=200, force_terminal=terminal), [cell], quiet=quiet):
        pass
    assert ("all trials" in out.getvalue()) == (terminal and not quiet)


def test_the_time_left_is_by_the_speed_of_the_last_two_minutes(tmp_path: Path) -> None:
    """Packs that report once a minute still have a speed, and a slow start is forgotten."""
    (cell,) = tiny_cells(tmp_path, SPACE)
    clock = Clock()
    display = Display(Console(file=io.StringIO(), get_time=clock), [cell])
    job = Job(pack="p", config=PackConfig(task=cell.task, members=cell.search_trials[:1]))
    epoch = 0
    with display:
        for seconds in (40.0, 60.5, 60.0):
            clock.now += seconds
            epoch += 1
            display.advanced(job, [record(job, epoch)])
    assert [task.speed for task in display._bars.tasks] == [pytest.approx(1 / 60)] * 2


def test_what_was_trained_and_found_is_counted(tmp_path: Path) -> None:
    (cell,) = tiny_cells(tmp_path, SPACE)
    for tally, text in (
        (Tally(trained=1, found=1), "trained 1 trial in 0 s of device time, 1 was in the ledger\n"),
        (Tally(trained=2, found=3), "trained 2 trials in 0 s of device time, 3 were in the ledger\n"),
        (Tally(found=1), "nothing to train: 1 trial is in the ledger\n"),
        (Tally(found=2), "nothing to train: all 2 trials are in the ledger\n"),
    ):
        out = io.StringIO()
        print_summary(Console(file=out, width=200), [cell], tally, False, None)
        assert out.getvalue() == f"{text}next: lawn-tune compare {cell.name.space}\n"
