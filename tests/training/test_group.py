"""A pack trained by several processes, real ones: their events, outcomes and ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.tasks import CPU, events_of, pack, point, task
from trainables.data import DataError
from trainables.tasks import PackConfig
from trainables.training.group import GroupRun, RankError
from trainables.training.trial import EpochEnded, Event, PackRun, Records, Resumed, Saved

pytestmark = pytest.mark.long


def config(**changes: Any) -> PackConfig:
    return pack(
        task(**{"micro_batch": 12, "epochs": 5, **changes}), [point("adam-lawn", free_epochs=x) for x in (1, 9)]
    )


def group(what: PackConfig, checkpoint: Path | None = None, **options: Any) -> GroupRun:
    usual: dict[str, Any] = {"checkpoint_seconds": 30.0, "checkpoint_steps": 0, "report_seconds": 0.5}
    usual |= {"flattening": False, "threads": 1, "code": b"", "named": ""}
    return GroupRun(what, 2, data_dir=Path("nowhere"), device=CPU, checkpoint=checkpoint, **usual | options)


def results(events: list[Event], run: PackRun | GroupRun) -> Any:
    curves = [dict(record.series) for event in events if isinstance(event, Records) for record in event.records]
    timed = ("seconds", "peak_memory_bytes")
    ends = [
        vars(end) | {"summary": {name: x for name, x in end.summary.items() if name not in timed}}
        for end in run.outcomes or ()
    ]
    return curves, ends


def processes() -> list[int]:
    """Ids of this process's children."""
    return [int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = set(processes())
    yield
    assert set(processes()) <= before


def test_a_group_reports_what_one_process_reports_and_has_used_as_many_devices(tmp_path: Path) -> None:
    alone = PackRun(config(), data_dir=Path("nowhere"), device=CPU)
    expected = results(list(alone), alone)
    run = group(config(), tmp_path / "checkpoint", checkpoint_seconds=0.0)
    began = time.monotonic()
    events = list(run)
    assert results(events, run) == expected
    assert [event.epoch for event in events if isinstance(event, EpochEnded)] == [1, 2, 3, 4, 5]
    assert sum(isinstance(event, Saved) for event in events) == 4
    assert run.outcomes is not None
    assert sum(end.summary["seconds"] or 0.0 for end in run.outcomes) < 2 * (time.monotonic() - began)


def test_a_killed_rank_ends_the_attempt_and_the_next_one_resumes_with_the_same_bits(tmp_path: Path) -> None:
    expected = results(*_all_of(PackRun(config(), data_dir=Path("nowhere"), device=CPU)))
    for victim in (0, 1):
        file = tmp_path / f"{victim}"
        run = group(config(), file, checkpoint_seconds=1e9, checkpoint_steps=3)
        with pytest.raises(RankError, match=f"rank {victim} of 2: its process was ended by SIGKILL"):
            kill_once_saved(run, victim)
        assert run.outcomes is None
        events, outcomes = events_of(config(), checkpoint=file)  # by one process: its bits are the same
        assert isinstance(events[0], Resumed)
        assert events[0].epoch * 12 % 9 == 0, "after 3 of 4 steps an epoch, or a multiple of them"
        again = group(config(), file)
        assert results(*_all_of(again)) == expected
        assert outcomes is not None


def kill_once_saved(run: GroupRun, victim: int) -> None:
    before = processes()
    for event in run:
        if isinstance(event, Saved):
            os.kill([child for child in processes() if child not in before][victim], signal.SIGKILL)


def _all_of(run: PackRun | GroupRun) -> tuple[list[Event], PackRun | GroupRun]:
    return list(run), run


def test_a_stopped_group_leaves_a_checkpoint(tmp_path: Path) -> None:
    run = group(config(), tmp_path / "file", checkpoint_seconds=1e9)
    seen = []
    for event in run:
        seen.append(event)
        if isinstance(event, EpochEnded):
            run.stop()
    assert [type(event) for event in seen if isinstance(event, EpochEnded | Saved)] == [EpochEnded, Saved]
    assert run.outcomes is None
    assert (tmp_path / "file").exists()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"dataset": "fashion-mnist"}, DataError, "lawn-tune data fetch"),
        ({"micro_batch": 47}, RankError, "micro_batch 47 leaves a single image"),
    ],
)
def test_the_error_of_a_rank_is_the_error_of_the_run_as_soon_as_all_have_ended(
    changes: dict[str, Any], error: type, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.training.group.GRACE_SECONDS", 60.0)
    began = time.monotonic()
    with pytest.raises(error, match=words):
        list(group(config(**changes)))
    assert time.monotonic() - began < 50


def test_memory_that_ends_in_one_rank_is_what_the_run_ended_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 1 asks for more than there is; rank 0 only notices that the other is gone."""
    greedy = (
        "import sys, torch; from trainables import ranks; from trainables.training.loop import Training\n"
        "steps = Training.steps\n"
        "Training.steps = lambda self: torch.empty(2**46) if ranks.rank() else steps(self)\n"
        "from trainables.training.rank import main; main(int(sys.argv[1]))"
    )
    monkeypatch.setattr("trainables.training.group.START", greedy)
    with pytest.raises(torch.OutOfMemoryError, match="can't allocate memory"):
        list(group(config()))
