"""Starts or joins Ray, with patience for a busy machine, and ends it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import ray
from ray._private import worker

from lawn_tune.errors import ExecutionError

SLOW_START = "timed out during startup"
"""What Ray says if its own processes were not up within 30 s, a limit that it lets no one change."""

ATTEMPTS = 4
"""Two minutes in all (our choice)."""

DASHBOARD = "ray.dashboard.optional_deps"
"""Module that Ray imports to find out whether the packages of its dashboard are installed."""


def init(**options: Any) -> None:
    """Calls `ray.init(**options)`, again if this machine was too busy to start Ray's processes in time.

    Raises:
        ExecutionError: it was too busy each time; other errors are Ray's.
    """
    for _ in range(ATTEMPTS):
        before = _children()
        try:
            ray.init(**options)
            return
        except Exception as error:  # Ray raises no class of its own here
            if SLOW_START not in str(error):
                raise
            _end(_children() - before)
    raise ExecutionError(
        f"Ray did not start on this machine in {ATTEMPTS} attempts of 30 s",
        hint="Free processor time or memory; Ray's logs in session_latest/logs (/tmp/ray or RAY_TMPDIR) say more.",
    )


@contextlib.contextmanager
def without_dashboard() -> Iterator[None]:
    """Lets a Ray that starts here find no packages of its dashboard, as after `pip install 'ray[tune]'`.

    With those of ray[default], it waits four seconds for the server of an agent that nobody asks, before it starts a
    worker.
    """
    known = {name: module for name, module in sys.modules.items() if name == DASHBOARD}
    sys.modules[DASHBOARD] = None  # type: ignore[assignment]  # an import of it fails then
    try:
        yield
    finally:
        del sys.modules[DASHBOARD]
        sys.modules.update(known)


def shutdown() -> None:
    """Ends Ray: as `ray.shutdown()` where one was joined, and one that was started here at once.

    Ray gives each of its processes a second after a SIGTERM, which none of them hears here (see `holding`). With them
    end its workers, whose jobs are over: they would notice in their own time, and keep a GPU until then.
    """
    node: Any = worker._global_node
    if node is None or not node.all_processes:
        ray.shutdown()
        return
    pids = [found.process.pid for kind in node.all_processes.values() for found in kind]
    below = {child for pid in pids for child in _below(pid)}
    worker._global_node = None  # of which Ray would end the processes: so it only disconnects
    ray.shutdown()
    node.destroy_external_storage()
    node.kill_all_processes(check_alive=False)
    _kill(below)


def _children() -> set[psutil.Process]:
    return _below(os.getpid())


def _below(pid: int) -> set[psutil.Process]:
    try:
        return set(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def _end(processes: set[psutil.Process]) -> None:
    """Ends what an attempt left behind, so that the next does not share the machine with it."""
    _kill(processes)
    psutil.wait_procs(list(processes), timeout=5.0)


def _kill(processes: set[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
