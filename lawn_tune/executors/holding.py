"""A library's native processes, held by one thread: nobody waits for it in vain, and signals stay the launch's own."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Generic, TypeVar

from lawn_tune.errors import ABANDONED

POLL_SECONDS = 0.1

END_SECONDS = 10.0
"""How long a stopping launch waits for what it started to end, before it leaves that to the system (our choice)."""

T = TypeVar("T")


class Held(Generic[T]):
    """Starts something in a thread of its own, which uses and ends it too: Linux ends Ray's processes with that thread.

    The caller's thread stays in Python, where it hears signals.

    Args:
        name: of the thread.
        start: returns what `started` does.
        end: called in the end, however far `start` came.
        stopping: true once nothing is to be waited for.
    """

    def __init__(
        self, name: str, start: Callable[[], T], end: Callable[[], None], stopping: Callable[[], bool]
    ) -> None:
        self._start, self._end, self._stopping = start, end, stopping
        self._future: Future[T] = Future()
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._abandoned = False
        self._thread = threading.Thread(target=self._hold, name=name, daemon=True)
        self._thread.start()

    def started(self) -> T | None:
        """Waits for the start and returns its result, or raises its error; None as soon as the launch is stopping."""
        while not self._stopping():
            if wait([self._future], POLL_SECONDS).done:
                return self._future.result()
        return None

    def call(self, work: Callable[[], object], patient: Callable[[], bool]) -> None:
        """Does something in the thread and waits for its end, or raises its error.

        Args:
            work: what to do.
            patient: asked again and again; once it is False or raises, the thread is left to itself.
        """
        future: Future[object] = Future()
        self._work.put(lambda: _settle(future, work))
        self._abandoned = True
        while not wait([future], POLL_SECONDS).done:
            if not patient():
                return
        self._abandoned = False
        future.result()

    def close(self) -> None:
        """Waits for the end. A stopping launch does not wait for a start, nor long for an end: it leaves the thread."""
        self._work.put(None)
        if self._abandoned:
            self._thread.name = ABANDONED
            return
        began = time.monotonic()
        while self._thread.is_alive():
            self._thread.join(POLL_SECONDS)
            limit = END_SECONDS if self._future.done() else 0.0
            if self._stopping() and time.monotonic() - began > limit:
                self._thread.name = ABANDONED
                return

    def _hold(self) -> None:
        _own_sessions.wanted = True
        with _same_handler(signal.SIGTERM):
            _settle(self._future, self._start)
        while (work := self._work.get()) is not None:
            work()
        with _same_handler(signal.SIGTERM):
            self._end()


def _settle(future: Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


@contextmanager
def _same_handler(number: int) -> Iterator[None]:
    """Restores a signal's handler after a library's native code replaced it, from any thread.

    Ray's handler of SIGTERM writes a dump and aborts the process after three seconds. Python sets handlers in the main
    thread only, but `faulthandler` keeps the one that it found, and sets it again.
    """
    with open(os.devnull, "w") as nowhere:
        faulthandler.register(number, file=nowhere, chain=True)
        try:
            yield
        finally:
            faulthandler.unregister(number)


_own_sessions = threading.local()


def _stand_apart() -> None:
    if getattr(_own_sessions, "wanted", False):
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


if sys.platform == "linux":  # elsewhere Ray ends its processes by their group
    os.register_at_fork(after_in_child=_stand_apart)
    # What the thread starts is in sessions of its own and deaf to SIGTERM: neither a signal to the launch's process
    # group, as from a terminal or `timeout`, nor one to every process, as from systemd, ends a worker before its
    # checkpoint is written. Ray ends what does not hear it after a second.
