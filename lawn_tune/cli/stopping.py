"""What signals do to a launch."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from lawn_tune.launching.launch import Launch

SAME_SECONDS = 1.0
"""A signal that comes again this soon is the same request (our choice): `timeout` and other parents send one to the
process and one to its group."""


class Stops:
    """Stops a launch: the first signal cleanly, the second one at once.

    Args:
        agenda: of the launch.
        console: its display.
    """

    def __init__(self, agenda: Launch, console: Console) -> None:
        self._agenda, self._console = agenda, console
        self._first: tuple[int, float] | None = None

    @property
    def exit_code(self) -> int:
        """The shell's code of a process that the first signal ended."""
        return 128 + (self._first[0] if self._first else signal.SIGINT)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler of every signal that stops a launch."""
        if signal.getsignal(signal.SIGALRM) is signal.SIG_DFL:
            signal.alarm(0)  # set by Ray's own handler, should the signal have come through it: see `executors.holding`
        now = time.monotonic()
        if number == signal.SIGHUP:
            self._console.quiet = True
        elif self._first and not (number == self._first[0] and now - self._first[1] < SAME_SECONDS):
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if self._first is None:
            self._first = number, now
            self._agenda.stop()
            self._console.print("[yellow]stopping: results so far are kept; press Ctrl-C again to quit immediately[/]")


@contextmanager
def stopped_by_signals(agenda: Launch, console: Console) -> Iterator[Stops]:
    """The first Ctrl-C (or SIGTERM) stops cleanly; the second ends the process as any program.

    A terminal that is closed (SIGHUP) stops it cleanly as well, and nothing more is shown; several of these signals may
    come for one terminal. Under nohup, which ignores them, the launch goes on.
    """
    stops = Stops(agenda, console)
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stops.handle) for number in numbers}
    try:
        yield stops
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
