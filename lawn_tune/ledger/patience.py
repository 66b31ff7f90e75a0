"""Waiting for a database that cannot be reached for now: restarted, disconnected, or locked by another program.

Not by tenacity: one outage spans many calls and is reported once at its start and once at its end, which its retries of
single calls do not know.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from lawn_tune.errors import LedgerError
from lawn_tune.ledger.database import Unreachable
from lawn_tune.words import duration

OUTAGE_SECONDS = 300.0
"""How long a launch waits for its ledger to come back (our choice); workers train on up to their next report."""

PAUSE_SECONDS = (0.1, 5.0)
"""First and longest pause between two tries; each one is twice as long as the one before."""

P = ParamSpec("P")
Result = TypeVar("Result")


class Patience:
    """Tries again what failed because the database could not be reached; for calls that may be repeated.

    Args:
        say: called once when the waiting begins, with the reason, and once when it is over.
        stopping: called between two tries; True ends the waiting.
        seconds: how long one outage is waited for.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        stopping: Callable[[], bool] = lambda: False,
        seconds: float = OUTAGE_SECONDS,
    ) -> None:
        self.say, self.stopping, self.seconds = say, stopping, seconds
        self._since: float | None = None

    def repeat(self, action: Callable[[], Result]) -> Result:
        """Returns what the action returns, once it can.

        Raises:
            LedgerError: the database was not back in time, or failed for another reason.
        """
        pause, longest = PAUSE_SECONDS
        while True:
            try:
                result = action()
            except Unreachable as error:
                self._wait(error, pause)
                pause = min(2 * pause, longest)
            else:
                if self._since is not None:
                    self.say(f"the ledger is back after {duration(time.monotonic() - self._since)}")
                    self._since = None
                return result

    def _wait(self, error: Unreachable, pause: float) -> None:
        """Waits once; an outage that was waited for in vain is not waited for again."""
        if self._since is None:
            self._since = time.monotonic()
            self.say(f"{error}; waiting for it, up to {duration(self.seconds)}")
        if self.stopping() or time.monotonic() - self._since >= self.seconds:
            waited = time.monotonic() - self._since
            kept = "What was stored is kept: once the database is back, the same command continues."
            raise LedgerError(f"{error} (waited {duration(waited)})", f"{error.hint} {kept}")
        time.sleep(pause)


class _Patient(Protocol):
    patience: Patience | None


Self = TypeVar("Self", bound=_Patient)


def patient(method: Callable[Concatenate[Self, P], Result]) -> Callable[Concatenate[Self, P], Result]:
    """Makes a method of a ledger wait for its database if the ledger was given patience."""

    @wraps(method)
    def call(ledger: Self, /, *args: P.args, **options: P.kwargs) -> Result:
        if ledger.patience is None:
            return method(ledger, *args, **options)
        return ledger.patience.repeat(lambda: method(ledger, *args, **options))

    return call
