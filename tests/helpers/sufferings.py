"""What a driver's process may be made to suffer before its command begins; each is called there."""

from __future__ import annotations

import functools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def slow(seconds: float = 0.04) -> None:
    """Every epoch takes longer, so that a fault finds a launch at work."""
    from trainables.training.loop import Training

    run = Training.steps

    def slowly(training: Training) -> Any:
        time.sleep(seconds)
        return run(training)

    Training.steps = slowly  # type: ignore[method-assign,assignment]


def elsewhere() -> None:
    """This process runs on another machine, of whose processes nobody here can say anything."""
    socket.gethostname = lambda: "elsewhere"


def impatient(seconds: float = 1.0, busy_seconds: float = 0.3) -> None:
    """A database is not waited for as long as usual, by SQLite and by the launch."""
    import lawn_tune.ledger
    from lawn_tune.ledger import database

    lawn_tune.ledger.Patience = functools.partial(lawn_tune.ledger.Patience, seconds=seconds)  # type: ignore[assignment,misc]
    database.BUSY_SECONDS = busy_seconds  # type: ignore[assignment]


def slow_and_impatient(seconds: float) -> None:
    slow()
    impatient(seconds)


def slow_elsewhere() -> None:
    slow()
    elsewhere()


def slow_under_nohup() -> None:
    slow(0.01)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def eager_checkpoints() -> None:
    """A checkpoint after every epoch."""
    import lawn_tune.executors.worker

    worker: Any = lawn_tune.executors.worker
    run: Any = worker.PackRun

    class Eager(run):  # type: ignore[misc]
        def __init__(self, config: object, **options: object) -> None:
            super().__init__(config, **(options | {"checkpoint_seconds": 0.0}))

    worker.PackRun = Eager


def wrong_clock(days: float) -> None:
    """The database's clock is set forward and back again by `days` every few seconds, while leases are held."""
    from sqlalchemy import Float, literal_column

    import lawn_tune.ledger.leases
    from lawn_tune.ledger import database

    slow()
    leases: Any = lawn_tune.ledger.leases

    def clock(connection: Any) -> Any:
        shift = 86400.0 * days * (int(time.monotonic() / 2.0) % 3 - 1)
        return literal_column(f"({database._CLOCKS[connection.dialect.name]} + {shift})", Float)

    leases.clock = clock


def broken_once() -> None:
    """The first epoch of every second pack raises an error, the first time."""
    from trainables.training.loop import Training

    run, seen = Training.steps, set[str]()

    def breaking(training: Training) -> Any:
        name = training.config.members[0].key
        if name not in seen:
            seen.add(name)
            if len(seen) % 2:
                raise ZeroDivisionError("out of luck")
        return run(training)

    Training.steps = breaking  # type: ignore[method-assign,assignment]


def leads_a_group() -> None:
    """A process group of its own, as a shell gives every command."""
    os.setsid()


def waits_for_ray() -> None:
    """A Ray that never starts."""
    import ray

    def start(**options: object) -> None:
        Path("waiting").touch()
        threading.Event().wait()

    leads_a_group()
    ray.init = start  # type: ignore[assignment]


def full_display() -> None:
    """Standard error is on a full disk."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), sys.stderr.fileno())


def unread_display() -> None:
    """Nobody reads what is shown any more, as after `2>&1 | head -1`."""
    reader, writer = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        os.dup2(writer, stream.fileno())
    os.close(reader)


def closed_streams() -> None:
    """As by `>&- 2>&-`."""
    for stream in (sys.stdout, sys.stderr):
        os.close(stream.fileno())


def small_memory(device: str = "cpu", most: int = 2) -> None:
    """A pack of more than this number of trials finds no memory left; torch's allocator answers, really."""
    from trainables.training.loop import Training

    run = Training.steps

    def greedy(training: Training) -> Any:
        if len(training.config.members) <= most:
            yield from run(training)
        else:
            with ballast(device):
                yield from run(training)

    Training.steps = greedy  # type: ignore[method-assign,assignment]


@contextmanager
def ballast(device: str) -> Iterator[None]:
    """Leaves no memory on a device, nor in its allocator; of a CPU's, more than it has is asked for instead."""
    import torch

    if device == "cpu":
        torch.empty(2**46)
    held = []
    try:
        for size in (2**30, 2**24, 2**20, 2**9):
            with suppress(torch.OutOfMemoryError):
                while True:
                    held.append(torch.empty(size, dtype=torch.uint8, device=device))
        yield
    finally:
        held.clear()  # a caught error keeps this frame, and so the list
