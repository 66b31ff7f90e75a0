"""Every executor works an agenda off; Ray shares the GPUs it is given, and refuses those that it lacks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.tabulated import TabulatedExecutor
from lawn_tune.cli.main import app
from lawn_tune.errors import ExecutionError, UsageError
from lawn_tune.executors import ray_tune
from lawn_tune.executors.base import Event, Executor, Failed, Finished, Job, Nothing, Progress
from lawn_tune.executors.build import machine_slots
from lawn_tune.executors.inline import InlineExecutor
from lawn_tune.executors.machine import machine_gpus
from lawn_tune.executors.messages import WorkerSettings
from lawn_tune.executors.ray_tune import RayTuneExecutor
from lawn_tune.executors.slots import Slots, slots_of
from lawn_tune.settings import resolve
from tests.helpers.fakes import succeed
from trainables.tasks import PackConfig, Task, Trial, model_config


def job(name: str, dataset: str = "synthetic") -> Job:
    model = model_config("small-vgg", width=2)
    task = Task(dataset=dataset, model=model, loss="cross-entropy", optimizer="adam", batch_size=96, epochs=2)
    point = {"peak_lr": 0.01, "warmup_epochs": 1.0, "weight_decay": 0.1}
    member = Trial(key=name, seed=0, hyperparameters=point)
    return Job(pack=name, config=PackConfig(task=task, members=(member,)))


@dataclass
class Agenda:
    jobs: list[Job]
    events: list[Event] = field(default_factory=list)
    stopping: bool = False

    def next_job(self) -> Job | Nothing:
        return self.jobs.pop(0) if self.jobs else Nothing.EVER

    def handle(self, event: Event) -> None:
        self.events.append(event)

    def wanted(self, job: Job) -> bool:
        return True

    def ends(self) -> dict[str, Event]:
        return {event.job.pack: event for event in self.events if not isinstance(event, Progress)}


def worker(folder: Path) -> WorkerSettings:
    return WorkerSettings(data_dir=str(folder / "nowhere"), checkpoint_dir=str(folder / "checkpoints"))


def inline(folder: Path) -> Executor:
    return InlineExecutor(worker(folder))


def ray_with_logical_gpus(folder: Path) -> Executor:
    return RayTuneExecutor(settings=worker(folder), slots=Slots(2, 1, 0.5), total_gpus=1, work_dir=folder)


def tabulated(folder: Path) -> Executor:
    return TabulatedExecutor(table_of_synthetic, slots=2)


def table_of_synthetic(job: Job) -> Iterator[tuple[float, Event]]:
    if job.config.task.dataset != "synthetic":
        yield 0.0, Failed(job, "error", f"no outcome of {job.config.task.dataset}")
        return
    *progress, end = succeed(job)
    yield from ((float(i), event) for i, event in enumerate(progress))
    assert isinstance(end, Finished)
    yield 2.0, Finished(job, end.outcomes, {"device": "cpu: simulated"})


@pytest.mark.ray
@pytest.mark.parametrize("build", [inline, ray_with_logical_gpus, tabulated])
def test_every_job_ends_once_and_an_error_ends_its_job_only(
    build: Callable[[Path], Executor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2])]))
    agenda = Agenda([job("a"), job("broken", dataset="movielens-100k"), job("b")])
    build(tmp_path).run(agenda)
    ends = agenda.ends()
    assert sorted(ends) == ["a", "b", "broken"]
    assert len([event for event in agenda.events if not isinstance(event, Progress)]) == 3
    for name in ("a", "b"):
        end = ends[name]
        assert isinstance(end, Finished)
        assert end.outcomes[0].outcome == "complete"
        assert end.provenance["device"].startswith("cpu")
        epochs = [r.epoch for e in agenda.events if isinstance(e, Progress) and e.job.pack == name for r in e.records]
        assert epochs == [1, 2]
    broken = ends["broken"]
    assert isinstance(broken, Failed)
    assert broken.reason == "error"
    assert "movielens-100k" in broken.error
    assert not list(tmp_path.glob("ray-*")), "Tune's own files go"


@pytest.mark.long
@pytest.mark.ray
def test_ray_refuses_gpus_it_has_not(tmp_path: Path) -> None:
    executor = RayTuneExecutor(settings=worker(tmp_path), slots=Slots(1, 1, 1), total_gpus=0, work_dir=tmp_path)
    with pytest.raises(ExecutionError, match="a job needs 1 GPU, and Ray has 0"):
        executor.run(Agenda([job("a")]))


@pytest.mark.ray
def test_an_address_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    executor = RayTuneExecutor(settings=worker(tmp_path), slots=Slots(1, 1, 0), work_dir=tmp_path, address="nonsense")
    with pytest.raises(UsageError, match="--ray-address: 'nonsense'"):
        executor.run(Agenda([job("a")]))


@pytest.mark.parametrize(
    "error", [ValueError, ImportError, PermissionError, RuntimeError, ray.exceptions.RaySystemError]
)
def test_what_keeps_ray_from_starting_here_is_no_address(
    error: Callable[[str], Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: Any) -> None:
        raise error("something is wrong here")

    monkeypatch.setattr(ray, "init", refuse)
    executor = RayTuneExecutor(settings=worker(tmp_path), slots=Slots(1, 1, 0), work_dir=tmp_path)
    with pytest.raises(ExecutionError, match="something is wrong here") as caught:
        executor.run(Agenda([job("a")]))
    assert "address" not in f"{caught.value} {caught.value.hint}"


def test_a_cluster_with_another_token_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: Any) -> None:
        raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379")  # all that Ray says of a wrong token

    monkeypatch.setattr(ray, "init", refuse)
    with socket.create_server(("", 0)) as head:  # everywhere: Ray takes 127.0.0.1 for the machine's other address
        address = f"127.0.0.1:{head.getsockname()[1]}"
        executor = RayTuneExecutor(settings=worker(tmp_path), slots=Slots(1, 1, 0), work_dir=tmp_path, address=address)
        with pytest.raises(UsageError, match=address) as caught:
            executor.run(Agenda([job("a")]))
    assert "RAY_AUTH_TOKEN_PATH" in str(caught.value.hint)


@pytest.mark.long
@pytest.mark.ray
def test_a_local_launch_joins_no_other_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:  # short, as Ray has its sockets there
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")  # as a head that was killed leaves it
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        executor = RayTuneExecutor(settings=worker(tmp_path), slots=Slots(1, 1, 0), work_dir=tmp_path)
        agenda = Agenda([job("a")])
        executor.run(agenda)
        assert isinstance(agenda.ends()["a"], Finished)
        assert (Path(folder) / "ray" / "ray_current_cluster").read_text() == "127.0.0.1:1", "it is another's"


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.parametrize("address", [None, "nonsense"])
def test_what_was_prepared_and_never_run_is_ended(address: str | None, tmp_path: Path) -> None:
    executor = RayTuneExecutor(settings=worker(tmp_path), slots=Slots(1, 1, 0), work_dir=tmp_path, address=address)
    executor.prepare(Agenda([]))
    executor.close()
    executor.close()
    assert not ray.is_initialized()
    assert "ray" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("executor", ["inline", "ray"])
@pytest.mark.parametrize("smoke", [True, False])
def test_gpus_that_the_machine_lacks_are_refused_at_once(
    executor: str, smoke: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = resolve({"gpus": machine_gpus() + 1, "executor": executor}, environ={}, directory=tmp_path)
    with pytest.raises(UsageError, match=r"--gpus: this machine has \d+ NVIDIA GPUs"):
        machine_slots(settings)
    command = ["launch", "quickstart", "--gpus", str(settings.gpus), "--executor", executor, *["--smoke"] * smoke]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert f"NVIDIA GPUs, got {settings.gpus}" in result.stderr
    assert result.stdout == ""
    assert not ray.is_initialized()


@given(st.one_of(st.none(), st.integers(1, 64)), st.integers(1, 64), st.integers(0, 16))
def test_slots_never_promise_more_than_there_is(workers: int | None, cpus: int, gpus: int) -> None:
    slots = slots_of(workers, cpus, gpus)
    assert slots.count == (workers or gpus or cpus)
    assert slots.cpus >= 1
    assert slots.cpus * slots.count <= max(cpus, slots.count)
    if gpus == 0:
        assert slots.gpus == 0
    else:
        jobs_a_gpu = round(1 / slots.gpus)
        assert 1 / jobs_a_gpu == slots.gpus, "whole jobs share a GPU"
        assert jobs_a_gpu * gpus >= slots.count, "every job has its place"


def test_only_the_folders_of_this_machine_s_dead_launches_are_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    here = socket.gethostname()
    kept = [f"ray-{os.getpid()}@{here}-1", f"ray-{dead.pid}@elsewhere-1", f"ray-other@{here}-1", "trials"]
    for name in (f"ray-{dead.pid}@{here}-1", *kept):
        (tmp_path / name / "deep").mkdir(parents=True)
    ray_tune._remove_leftovers(tmp_path)
    assert {folder.name for folder in tmp_path.iterdir()} == {*kept}
