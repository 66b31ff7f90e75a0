"""Ray's own processes get 30 s to start; a machine that is busy for longer does not end a launch."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import ModuleType
from typing import Any

import pytest
import ray
from ray._private import services, utils
from ray._private.node import Node

from lawn_tune.errors import ExecutionError
from lawn_tune.executors import patient_ray

LATE = "The current node timed out during startup. This could happen because ..."


class Ray:
    """Stands for Ray: starts a process each time, and is too late so many times."""

    def __init__(self, late: int) -> None:
        self.late, self.processes = late, list[subprocess.Popen[bytes]]()

    def init(self, **options: Any) -> None:
        self.processes.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        if len(self.processes) <= self.late:
            raise Exception(LATE)


def alive(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


@pytest.mark.parametrize("late", range(patient_ray.ATTEMPTS))
def test_a_start_that_came_too_late_is_tried_again_without_its_processes(
    late: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = Ray(late)
    monkeypatch.setattr(ray, "init", stand_in.init)
    patient_ray.init()
    *gone, last = stand_in.processes
    assert len(gone) == late
    assert not any(alive(process) for process in gone)
    assert alive(last)
    last.kill()
    last.wait()


def test_a_machine_that_is_too_busy_each_time_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = Ray(late=99)
    monkeypatch.setattr(ray, "init", stand_in.init)
    with pytest.raises(ExecutionError, match="did not start on this machine in 4 attempts"):
        patient_ray.init()
    assert not any(alive(process) for process in stand_in.processes)


def test_other_errors_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def refuse(**options: Any) -> None:
        calls.append(options)
        raise ConnectionError("no")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ConnectionError):
        patient_ray.init(address="nowhere:1")
    assert calls == [{"address": "nowhere:1"}]


@pytest.mark.parametrize("loaded", [False, True])
def test_a_ray_that_starts_here_finds_no_dashboard_to_wait_for(loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(patient_ray.DASHBOARD)
    if loaded:
        monkeypatch.setitem(sys.modules, patient_ray.DASHBOARD, module)
    else:
        monkeypatch.delitem(sys.modules, patient_ray.DASHBOARD, raising=False)
    with patient_ray.lean():
        assert isinstance(utils.get_dashboard_dependency_error(), ImportError)
    assert sys.modules.get(patient_ray.DASHBOARD) is (module if loaded else None)
    assert loaded == (patient_ray.DASHBOARD in sys.modules)
    assert utils.get_dashboard_dependency_error() is None, "the tests install the packages of ray[default]"


def test_a_ray_that_starts_here_does_not_mind_imports_meanwhile() -> None:
    """A launch imports Ray Tune in its main thread while Ray starts in another one."""
    done = threading.Event()

    def imports() -> None:
        while not done.is_set():
            for i in range(100):
                sys.modules[f"lawn_tune_imported_{i}"] = ModuleType("imported")
            for i in range(100):
                del sys.modules[f"lawn_tune_imported_{i}"]

    before = sys.getswitchinterval()
    importing = threading.Thread(target=imports)
    importing.start()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(300):
            with patient_ray.lean():
                pass
    finally:
        sys.setswitchinterval(before)
        done.set()
        importing.join()


def test_a_ray_that_starts_here_starts_what_a_launch_needs_alone_and_other_rays_later_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(Node, "start_monitor")  # as in a version of Ray that has none
    owners = [(Node, name) for name in patient_ray.SPARED] + [(services, "get_node")]
    before = [getattr(owner, name, None) for owner, name in owners]
    with patient_ray.lean():
        assert [getattr(owner, name, None) for owner, name in owners] == [
            None if name == "start_monitor" else patient_ray._start_nothing for name in patient_ray.SPARED
        ] + [patient_ray._get_node]
    assert [getattr(owner, name, None) for owner, name in owners] == before


def test_a_scheduler_is_looked_for_until_the_store_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[dict[str, str]] = []

    class State:
        def _initialize_global_state(self, options: object) -> None:
            assert options == "of here"

        def node_table(self) -> list[dict[str, str]]:
            known.append({"NodeID": "abc"[len(known)]})
            return known

    monkeypatch.setattr(services, "_get_gcs_client_options", lambda address: f"of {address}")
    monkeypatch.setattr(patient_ray, "_state", State)
    monkeypatch.setattr(patient_ray, "_ray_get_node", lambda address, node: (address, node, len(known)))
    assert patient_ray._get_node("here", "c") == ("here", "c", 3)
    monkeypatch.delattr(services, "_get_gcs_client_options")  # as in a version of Ray that has another name for it
    assert patient_ray._get_node("here", "c") == ("here", "c", 3)


ENDED = """
import os, time, psutil, ray
from lawn_tune.executors import patient_ray

@ray.remote
class Busy:
    def pid(self): return os.getpid()

def started(): return {process.pid for process in psutil.Process().children(recursive=True)}

def running(pids):
    alive = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return [process.name() for process in alive if process.status() != psutil.STATUS_ZOMBIE]

for attempt in range(2):
    with patient_ray.lean():
        patient_ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    busy = Busy.remote()
    pids = started() | {ray.get(busy.pid.remote())}
    assert len(running(pids)) > 3
    patient_ray.shutdown()
    assert not ray.is_initialized()
    limit = time.monotonic() + 20
    while running(pids) and time.monotonic() < limit: time.sleep(0.05)
    print(running(pids))
"""


def test_a_ray_that_was_started_here_ends_whole_with_its_workers_and_another_can_start() -> None:
    done = subprocess.run([sys.executable, "-c", ENDED], capture_output=True, text=True, timeout=180, check=False)
    assert done.stdout.split() == ["[]", "[]"], done.stderr
