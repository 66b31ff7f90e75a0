"""Signals to a launch that trains on Ray, or waits for it: everything is kept, and the exit code names the signal."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import ray

from lawn_tune.errors import ExecutionError, LawnTuneError, UsageError
from lawn_tune.executors.base import Event, Job, Nothing
from lawn_tune.executors.messages import WorkerSettings
from lawn_tune.executors.ray_tune import RayTuneExecutor
from lawn_tune.executors.slots import Slots
from tests.helpers.drivers import Driver, Study
from tests.helpers.machines import session
from tests.helpers.sufferings import leads_a_group, waits_for_ray
from tests.helpers.tiny import ENDLESS

STARTED = 300.0
"""Seconds that Ray and its first worker may take on a busy machine."""

pytestmark = pytest.mark.timeout(2 * STARTED)


@pytest.fixture
def study(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Study]:
    monkeypatch.setenv("LAWN_TUNE_CHECKPOINT_SECONDS", "3600")
    made = Study(tmp_path / "study", sqlite_url, ENDLESS)
    yield made
    made.stop_all()


def terminal_is_closed(driver: Driver) -> int:
    """To the process group."""
    os.killpg(driver.pid, signal.SIGHUP)
    return signal.SIGHUP


def service_is_stopped(driver: Driver) -> int:
    """To every process at once, as systemd does."""
    leader = psutil.Process(driver.pid)
    everyone = [leader, *leader.children(recursive=True)]
    assert any("raylet" in process.name() for process in everyone)
    for process in everyone:
        process.terminate()
    return signal.SIGTERM


@pytest.mark.ray
@pytest.mark.parametrize("happens", [terminal_is_closed, service_is_stopped], ids=lambda happens: happens.__name__)
def test_signals_to_many_processes_stop_training_with_a_checkpoint(
    study: Study, happens: Callable[[Driver], int]
) -> None:
    driver = study.start("--workers", "1", executor="ray", change=leads_a_group)
    study.wait_for(lambda: study.epochs() > 0, STARTED)
    number, began = happens(driver), time.monotonic()
    assert driver.end() == 128 + number, driver.errors
    assert time.monotonic() - began < 40, "Ray itself would wait for a minute"
    assert list(study.folder.rglob("*.safetensors")), "the time for one had not come: it is written for the stop"
    assert not study.leases(), "free at once"
    assert "Traceback" not in driver.errors
    assert "SIGTERM received" not in driver.errors, "Ray's own handler writes this"


def test_a_signal_while_ray_starts_waits_for_nothing(study: Study) -> None:
    driver = study.start("--workers", "1", executor="ray", change=waits_for_ray)
    study.wait_for((study.folder / "waiting").exists)
    os.killpg(driver.pid, signal.SIGTERM)
    began = time.monotonic()
    assert driver.end() == 128 + signal.SIGTERM, driver.errors
    assert time.monotonic() - began < 20
    assert not study.leases()
    assert not session(driver.pid)


@dataclass
class Agenda:
    """Has one job, and is asked to stop when Ray is first waited for."""

    asked: threading.Event = field(default_factory=threading.Event)

    def next_job(self) -> Job | Nothing:
        return Nothing.EVER

    def handle(self, event: Event) -> None: ...

    def wanted(self, job: Job) -> bool:
        return True

    @property
    def stopping(self) -> bool:
        return self.asked.is_set()


def executor(folder: Path, address: str | None) -> RayTuneExecutor:
    settings = WorkerSettings(data_dir="nowhere", checkpoint_dir=str(folder))
    return RayTuneExecutor(settings=settings, slots=Slots(1, 1, 0), work_dir=folder, address=address)


def test_a_dead_head_is_an_error_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"--ray-address: no cluster answers at .*:{port}.*: Connection refused"):
            executor(tmp_path, f"127.0.0.1:{port}").run(Agenda())


@pytest.mark.parametrize("address", [None, "a.cluster:6379"])
def test_a_stop_ends_the_wait_for_ray(address: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agenda, released = Agenda(), threading.Event()

    def deaf(**options: object) -> None:
        agenda.asked.set()
        released.wait()

    monkeypatch.setattr(ray, "init", deaf)
    monkeypatch.setattr("lawn_tune.executors.ray_tune._reach", lambda address: None)
    try:
        executor(tmp_path, address).run(agenda)
    finally:
        released.set()


@pytest.mark.parametrize(
    ("address", "text"),
    [(None, "Ray did not start on this machine: too slow"), ("a:1", "--ray-address: cannot join 'a:1': too slow")],
)
def test_a_start_that_fails_is_one_error(
    address: str | None, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(**options: object) -> None:
        raise Exception("too slow")  # as Ray does

    monkeypatch.setattr(ray, "init", slow)
    monkeypatch.setattr("lawn_tune.executors.ray_tune._reach", lambda address: None)
    with pytest.raises(LawnTuneError, match=text):
        executor(tmp_path, address).run(Agenda())


@pytest.mark.ray
def test_a_head_that_dies_ends_the_launch_with_one_error(study: Study) -> None:
    driver = study.start("--workers", "1", executor="ray")
    study.wait_for(lambda: study.epochs() > 0, STARTED)
    (store,) = [child for child in psutil.Process(driver.pid).children() if "gcs_server" in child.name()]
    store.kill()
    assert driver.end() == ExecutionError.exit_code, driver.errors
    assert "Ray stopped: nothing answers at " in driver.errors.replace("\n", " ")
    assert "the same command continues" in driver.errors.replace("\n", " ")
    assert "Traceback" not in driver.errors
    assert not study.leases()
