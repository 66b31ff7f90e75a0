"""The leases of one launch: taken and given back by its driver, renewed by a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from lawn_tune.cells import CellName
from lawn_tune.errors import LedgerError
from lawn_tune.ledger import Ledger, Owner

LEASE_SECONDS = 30.0
RENEWALS = 4
"""Renewals in the time of one lease: it outlasts two that fail (our choice)."""

AFTER_OUTAGE = 1.0
"""Seconds between two tries to renew while the ledger cannot be reached: once it is back, the leases come first."""


class HeldLeases:
    """Which cells a launch holds now. Every method may be called from any thread.

    Each lease has a number of its own, so that a renewal that took long cannot take a cell for lost that was given
    back and leased again meanwhile.
    """

    def __init__(self, ledger: Ledger, owner: Owner) -> None:
        self._ledger, self._owner = ledger, owner
        self._lock = threading.Lock()
        self._held: dict[CellName, int] = {}
        self._count = 0

    def take(self, cell: CellName) -> bool:
        """Leases a cell; False if another launch works on it.

        Raises:
            Unreachable: the database cannot be reached for now.
        """
        if not self._ledger.lease(cell, self._owner, LEASE_SECONDS):
            return False
        with self._lock:
            self._count += 1
            self._held[cell] = self._count
        return True

    def holds(self, cell: CellName) -> bool:
        """True from `take` until the cell is given back, or was found to be another launch's."""
        with self._lock:
            return cell in self._held

    def lose(self, cell: CellName) -> None:
        """Records that the ledger refused a write, as another launch leases the cell."""
        with self._lock:
            self._held.pop(cell, None)

    def give_back(self, cell: CellName) -> None:
        """Releases a cell; nothing happens in the ledger if it is another launch's."""
        self.lose(cell)
        self._ledger.release(cell, self._owner)

    def renew(self) -> None:
        """Extends every lease; cells that another launch has taken are no longer held.

        Raises:
            Unreachable: the database cannot be reached for now.
        """
        with self._lock:
            before = dict(self._held)
        kept = self._ledger.renew(self._owner, LEASE_SECONDS)
        with self._lock:
            for cell, number in before.items():
                if cell not in kept and self._held.get(cell) == number:
                    del self._held[cell]


class Heartbeat:
    """Renews leases from a thread until it is left; used as a context manager.

    Args:
        leases: to renew.
        wait: waits for the given seconds; returns True, at once, when the heartbeat should end.
    """

    def __init__(self, leases: HeldLeases, wait: Callable[[float], bool] | None = None) -> None:
        self._leases = leases
        self._done = threading.Event()
        self._wait = wait or self._done.wait
        self._thread = threading.Thread(target=self._beat, name="lease-heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _beat(self) -> None:
        pause = LEASE_SECONDS / RENEWALS
        while not self._wait(pause):
            pause = LEASE_SECONDS / RENEWALS
            try:
                self._leases.renew()
            except LedgerError:  # the driver's own writes report it
                pause = min(AFTER_OUTAGE, pause)
