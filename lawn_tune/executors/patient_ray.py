"""Starts or joins Ray, with patience for a busy machine, and ends it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import ray
from ray._private import services, worker
from ray._private.node import Node
from ray._private.state import GlobalState

from lawn_tune.errors import ExecutionError

SLOW_START = "timed out during startup"
"""What Ray says if its own processes were not up within 30 s, a limit that it lets no one change."""

ATTEMPTS = 4
"""Two minutes in all (our choice)."""

DASHBOARD = "ray.dashboard.optional_deps"
"""Module that Ray imports to find out whether the packages of its dashboard are installed."""

SPARED = ("start_api_server", "start_monitor", "start_log_monitor")
"""Methods of Ray's node that start its dashboard, its autoscaler and its reader of logs."""

OFTEN_SECONDS = 5.0
"""How long a new scheduler is looked for often, before Ray looks once a second."""


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
def lean() -> Iterator[None]:
    """Lets a Ray that starts here start its store and its scheduler alone, which takes half the time.

    It waits for the server of its dashboard, looks for a scheduler that has just started once a second, and starts its
    autoscaler and its reader of logs, which import Ray while workers import torch. A launch needs none of them. With
    the packages of ray[default] it also waits four seconds for an agent that nobody asks, before it starts a worker.
    """
    replaced: list[tuple[Any, str, Any]] = [(Node, name, _start_nothing) for name in SPARED]
    with contextlib.ExitStack() as stack:
        for owner, name, function in (*replaced, (services, "get_node", _get_node)):
            stack.enter_context(_replaced(owner, name, function))
        stack.enter_context(_missing(DASHBOARD))
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, function: Any) -> Iterator[None]:
    """Replaces an attribute for a while; this version of Ray may have none of that name."""
    known = getattr(owner, name, None)
    if known is not None:
        setattr(owner, name, function)
    try:
        yield
    finally:
        if known is not None:
            setattr(owner, name, known)


@contextlib.contextmanager
def _missing(module: str) -> Iterator[None]:
    """Lets imports of a module fail for a while."""
    imported, before = module in sys.modules, sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if imported:
            sys.modules[module] = before  # type: ignore[assignment]
        else:
            del sys.modules[module]


def _start_nothing(*given: Any, **options: Any) -> None:
    """In place of a method of Ray's node that starts a process."""


_ray: Any = services  # which has no types
_state: Any = GlobalState
_ray_get_node = getattr(_ray, "get_node", None)


def _get_node(gcs_address: str, node_id: str) -> Any:
    """As Ray's function, once the node is known: before that, it would sleep for a second in C++."""
    with contextlib.suppress(AttributeError):  # of a version of Ray that has other names
        _await_node(gcs_address, node_id)
    assert _ray_get_node is not None, "what is not there is not replaced"
    return _ray_get_node(gcs_address, node_id)


def _await_node(gcs_address: str, node_id: str) -> None:
    state, limit = _state(), time.monotonic() + OFTEN_SECONDS
    state._initialize_global_state(_ray._get_gcs_client_options(gcs_address))
    while time.monotonic() < limit and all(node["NodeID"] != node_id for node in state.node_table()):
        time.sleep(0.02)


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
