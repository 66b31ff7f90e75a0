"""The Optuna studies, written by a thread of their own: a trial takes Optuna tens of milliseconds, training none."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from lawn_tune.cells import Cell, Phase
from lawn_tune.ledger.database import Database

if TYPE_CHECKING:
    from lawn_tune.ledger.mirror import Mirror


class MirrorThread:
    """A `Mirror` whose every call runs in one thread, in the order of the calls; Optuna is imported by the first.

    Args:
        database: where the studies are.
        behind: calls return at once; what they wrote is certain after `close`, and an error is raised by a later call.
            Whatever is lost with the process, the next `sync` of that cell writes.
    """

    def __init__(self, database: Database, behind: bool) -> None:
        self._database, self._behind = database, behind
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="studies")
        self._asked: deque[Future[None]] = deque()
        self._mirror: Mirror | None = None

    def add(self, cell: Cell, phase: Phase, keys: Sequence[str]) -> None:
        """See `Mirror.add`."""
        self._ask(lambda mirror: mirror.add(cell, phase, keys))

    def sync(self, cell: Cell, phase: Phase) -> None:
        """See `Mirror.sync`."""
        self._ask(lambda mirror: mirror.sync(cell, phase))

    def close(self) -> None:
        """Waits for all that was asked and closes Optuna's connections; may be called twice.

        Raises:
            LedgerError: a call that was behind failed.
        """
        self._thread.shutdown()
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None
        self._tell()

    def _ask(self, call: Callable[[Mirror], None]) -> None:
        self._tell()
        self._asked.append(self._thread.submit(lambda: call(self._opened())))
        if not self._behind:
            self._asked.pop().result()

    def _tell(self) -> None:
        """Raises the first error of the calls that have ended."""
        while self._asked and self._asked[0].done():
            self._asked.popleft().result()

    def _opened(self) -> Mirror:
        if self._mirror is None:
            from lawn_tune.ledger.mirror import Mirror  # brings Optuna, which readers do without

            self._mirror = Mirror(self._database)
        return self._mirror
