"""Notices that processes of Ray are gone: Ray's own calls wait for them for a minute, deaf to signals."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence

from lawn_tune.errors import ExecutionError
from lawn_tune.words import duration

LOOK_SECONDS = 2.0
"""Time between two attempts to connect (our choice)."""

CONNECT_SECONDS = 2.0
"""How long a process has to accept a connection (our choice)."""

DEAD_SECONDS = 30.0
"""Silence after which a head is given up (our choice): Ray aborts the whole process after 60."""

STOPPING_SECONDS = 20.0
"""How long a launch that is stopping waits for Ray (our choice); jobs have 6 s of them to write their checkpoints."""

Address = tuple[str, int]


class HeadWatch:
    """Connects to some processes every few seconds.

    Args:
        addresses: of the head's store and of this machine's Ray process.
        stopping: whether the launch is stopping.
        answers: whether a process accepts a connection.
        clock: seconds.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        stopping: Callable[[], bool],
        answers: Callable[[Address], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._addresses, self._stopping, self._clock = addresses, stopping, clock
        self._answers = answers or accepts
        self._looked = self._alive = clock()
        self._stopped: float | None = None

    def check(self) -> bool:
        """Returns False once a stopping launch has waited long enough.

        Raises:
            ExecutionError: a process did not answer for long.
        """
        now = self._clock()
        if self._stopping():
            self._stopped = now if self._stopped is None else self._stopped
            return now - self._stopped < STOPPING_SECONDS
        if now - self._looked >= LOOK_SECONDS:
            silent = [address for address in self._addresses if not self._answers(address)]
            self._looked = now = self._clock()
            self._alive = self._alive if silent else now
            if silent and now - self._alive >= DEAD_SECONDS:
                names = " and ".join(f"{host}:{port}" for host, port in silent)
                raise ExecutionError(
                    f"Ray stopped: nothing answers at {names} for {duration(now - self._alive)}",
                    hint="Start it again if it is a cluster's head; the same command continues where it ended.",
                )
        return True


def accepts(address: Address) -> bool:
    """True if a process accepts a connection there in time."""
    try:
        socket.create_connection(address, CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
