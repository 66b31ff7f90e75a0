"""Ends a worker that hangs: in its data, in a kernel, in a deadlock."""

from __future__ import annotations

import faulthandler
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_SILENCES = 10
"""Times the longest time without progress so far that the next one may take, where that is longer than the timeout (our
choice)."""


class Watchdog:
    """Ends this process, with a traceback in its log, when nothing moves on for too long; used as a context manager.

    Progress is an epoch or some of its steps, as an epoch may take hours.
    The interpreter's own watchdog does it, a thread in C: a hang may hold Python's lock, and then no Python runs.

    Args:
        seconds: how long what is not progress may take, as what comes before the first step; 0 waits forever. Ten times
            the longest such time so far is waited for in any case.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._longest = 0.0
        self._began: float | None = None

    def __enter__(self) -> Watchdog:
        self._arm()
        return self

    def __exit__(self, *error: object) -> None:
        if self.seconds:
            faulthandler.cancel_dump_traceback_later()

    def moved(self) -> None:
        """Gives the next steps their time."""
        now = time.monotonic()
        if self._began is not None:
            self._longest = max(self._longest, now - self._began)
        self._began = now
        self._arm()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around waiting for another process, which may take any time."""
        self.__exit__()
        try:
            yield
        finally:
            self._began = time.monotonic()
            self._arm()

    def _arm(self) -> None:
        if self.seconds:
            limit = max(self.seconds, LONGEST_SILENCES * self._longest)
            faulthandler.dump_traceback_later(limit, exit=True, file=sys.__stderr__ or sys.stderr)
