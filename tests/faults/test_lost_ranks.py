"""A launch's pack on two and four logical GPUs of Ray loses one of its processes, and ends with the bits of one GPU."""

from __future__ import annotations

import os
import signal
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lawn_tune.executors.base import Event, Failed, Finished, Job, Nothing, Progress
from lawn_tune.executors.inline import InlineExecutor
from lawn_tune.executors.messages import WorkerSettings
from lawn_tune.executors.ray_tune import RayTuneExecutor
from lawn_tune.executors.slots import Slots
from tests.helpers.tasks import pack, point, task

MARK = "LAWN_TUNE_TEST_MARK"
JOB = Job(
    pack="a", config=pack(task(micro_batch=12, epochs=30), [point("adam-lawn"), point("adam-lawn", peak_lr=0.003)])
)


@dataclass
class Agenda:
    """Hands out a job again if it fails; kills one of its ranks once, after the third epoch."""

    victims: str = ""
    jobs: list[Job] = field(default_factory=lambda: [JOB])
    events: list[Event] = field(default_factory=list)
    stopping: bool = False

    def next_job(self) -> Job | Nothing:
        if self.jobs:
            return self.jobs.pop()
        return Nothing.EVER if any(isinstance(event, Finished) for event in self.events) else Nothing.NOW

    def handle(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Progress) and event.records and event.records[-1].epoch >= 3 and self.victims:
            os.kill(max(ranks_of(self.victims)), signal.SIGKILL)
            self.victims = ""
        if isinstance(event, Failed):
            assert not self.victims, event.error
            assert len(self.events) < 200, event.error
            self.jobs.append(event.job)

    def wanted(self, job: Job) -> bool:
        return True

    def end(self) -> Finished:
        (end,) = (event for event in self.events if isinstance(event, Finished))
        return end


def ranks_of(mark: str) -> list[int]:
    """Ids of the processes of ranks that inherited a mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if b"training.rank" in command and f"{MARK}={mark}".encode() in environment.split(b"\0"):
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize("count", [2, 4])
def test_a_lost_rank_ends_the_attempt_and_the_pack_resumes(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK, mark)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    places = {"data_dir": str(tmp_path / "nowhere"), "checkpoint_seconds": 0.0, "report_seconds": 0.0}
    several, one = Agenda(mark), Agenda()
    shared = {"checkpoint_dir": str(tmp_path / "several"), "ranks": count, "threads": count, "use_gpu": True}
    settings = WorkerSettings(**shared, **places)  # type: ignore[arg-type]
    slots = Slots(1, 2, float(count))
    RayTuneExecutor(settings=settings, slots=slots, total_gpus=count, work_dir=tmp_path).run(several)
    InlineExecutor(WorkerSettings(checkpoint_dir=str(tmp_path / "one"), **places)).run(one)  # type: ignore[arg-type]
    (failed,) = (event for event in several.events if isinstance(event, Failed))
    assert failed.reason == "error"
    assert f"of {count}: its process was ended by SIGKILL" in failed.error
    assert several.end().provenance["processes"] == count
    assert several.end().provenance["resumed from epoch"] >= 1
    for found, expected in zip(several.end().outcomes, one.end().outcomes, strict=True):
        assert found.examples == expected.examples
        assert found.summary["last/train_loss"] == expected.summary["last/train_loss"]
        assert found.summary["last/weight_norm"] == expected.summary["last/weight_norm"]
    assert not ranks_of(mark)
