"""Workers under Ray: one hangs, one trains what nobody wants any more; the others go on, and the launch with them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lawn_tune.executors.base import Event, Failed, Finished, Job, Nothing, Progress
from lawn_tune.executors.messages import WorkerSettings
from lawn_tune.executors.ray_tune import RayTuneExecutor
from lawn_tune.executors.slots import Slots
from trainables.tasks import PackConfig, Task, Trial, model_config

MANY = 100_000


def job(name: str, epochs: int = 2) -> Job:
    task = Task(
        dataset="synthetic",
        model=model_config("small-vgg", width=2),
        loss="cross-entropy",
        optimizer="adam",
        batch_size=96,
        epochs=epochs,
    )
    point = {"peak_lr": 0.01, "warmup_epochs": 1.0, "weight_decay": 0.1}
    return Job(pack=name, config=PackConfig(task=task, members=(Trial(key=name, seed=0, hyperparameters=point),)))


@dataclass
class Agenda:
    """Hands out jobs, and one that failed again; wants `unwanted` no more once it has begun."""

    jobs: list[Job]
    pipe: Path
    events: list[Event] = field(default_factory=list)
    open: int = 0
    stopping: bool = False

    def next_job(self) -> Job | Nothing:
        if not self.jobs:
            return Nothing.NOW if self.open else Nothing.EVER
        self.open += 1
        return self.jobs.pop(0)

    def handle(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Progress):
            return
        self.open -= 1
        if isinstance(event, Failed) and event.reason == "error":
            self.pipe.unlink(missing_ok=True)
            self.jobs.append(event.job)

    def wanted(self, job: Job) -> bool:
        return job.pack != "unwanted"

    def ends(self, pack: str) -> list[Event]:
        return [event for event in self.events if event.job.pack == pack and not isinstance(event, Progress)]


@pytest.mark.ray
def test_a_worker_that_hangs_and_one_that_is_not_wanted_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    pipe = checkpoints / "hanging.safetensors"
    os.mkfifo(pipe)  # who opens it waits for a writer: a file system that does not answer
    settings = WorkerSettings(data_dir="nowhere", checkpoint_dir=str(checkpoints), progress_seconds=15.0)
    agenda = Agenda([job("hanging"), job("unwanted", MANY), job("a"), job("b")], pipe)
    RayTuneExecutor(settings=settings, slots=Slots(2, 1, 0), work_dir=tmp_path).run(agenda)
    hung, then = agenda.ends("hanging")
    assert isinstance(hung, Failed)
    assert "the worker process ended: no step ended for" in hung.error
    assert isinstance(then, Finished)
    (unwanted,) = agenda.ends("unwanted")
    assert isinstance(unwanted, Failed)
    assert unwanted.reason == "stopped"
    for name in ("a", "b"):
        (end,) = agenda.ends(name)
        assert isinstance(end, Finished)


@pytest.mark.ray
def test_a_worker_that_ray_ends_for_its_memory_leaves_a_pack_that_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")  # more than that of any machine is in use
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "250")
    agenda = Agenda([job("large", MANY)], tmp_path)
    settings = WorkerSettings(data_dir="nowhere", checkpoint_dir=str(tmp_path))
    RayTuneExecutor(settings=settings, slots=Slots(1, 1, 0), work_dir=tmp_path).run(agenda)
    (end,) = agenda.ends("large")
    assert isinstance(end, Failed)
    assert (end.reason, end.error) == ("memory", "the worker process ended: its machine ran out of memory")
