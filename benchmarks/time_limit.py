"""A bound on the time of a part of a benchmark, compilers included."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class OutOfTime(BaseException):
    """Not an `Exception`, which compilers catch."""


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raises `OutOfTime` in what takes longer; in the main thread, as only there signals arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise OutOfTime(f"not done after {seconds:.0f} s")

    handler, start = signal.signal(signal.SIGALRM, over), time.monotonic()
    outer, _ = signal.getitimer(signal.ITIMER_REAL)
    signal.setitimer(signal.ITIMER_REAL, max(min(seconds, outer or seconds), 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - start), 1e-3))
