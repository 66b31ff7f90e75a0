"""Reads of a ledger that all viewers share: one state of a space, kept until the ledger changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from lawn_tune.cells import Cell
from lawn_tune.comparison.compare import compare
from lawn_tune.comparison.comparison import Comparison
from lawn_tune.errors import LedgerError
from lawn_tune.results import DAMAGED, FINISHED, REPAIR, DamagedCells, ResultSource, TrialRow
from trainables.examples import Outcomes

FRESH_SECONDS, STALE_SECONDS = 2.0, 10.0
"""How old a snapshot may be before the ledger is asked whether it has changed: by the clock of an open page, which
waits for the new one; and by anything else, which is answered at once from the last one while a page keeps it fresh."""

KEPT = 16
"""Snapshots kept at once; the least recently viewed is dropped first."""

T = TypeVar("T")
Curve = dict[str, NDArray[np.float64]]


class Driver(NamedTuple):
    """Who trains a cell: "host:pid", and whether it is alive; a dead one leaves trials that look as if they ran."""

    owner: str
    active: bool


Drivers = Mapping[str, Driver]
"""Cell name → its driver, for the cells that are held."""


class Snapshot:
    """One state of one space: its cells and trials, and what follows from them, computed once.

    Args:
        space, version: what it is of; the version is `ResultSource.version`'s.
        cells: as last launched.
        trials: every trial.
        damaged: the cells that cannot be read; neither they nor their trials are among `cells` and `trials`.
    """

    def __init__(
        self,
        source: ResultSource,
        space: str,
        version: str,
        cells: tuple[Cell, ...],
        trials: tuple[TrialRow, ...],
        before: Snapshot | None = None,
        damaged: DamagedCells | None = None,
    ) -> None:
        self.space, self.version, self.cells, self.trials = space, version, cells, trials
        self._damaged = damaged
        self._source = source
        self._lock = threading.RLock()
        self._once: dict[str, Any] = {}
        self._finished: dict[str, Curve] = before._finished if before else {}
        self.results = hash((cells_text(cells), tuple((row.key, row.cell, row.outcome) for row in trials)))
        same = before is not None and before.results == self.results
        self._comparison: Comparison | None = before._comparison if before and same else None

    @property
    def comparison(self) -> Comparison:
        """The comparison of the space; an epoch more of a running trial does not recompute it.

        Raises:
            ValueError: the space has no cell.
        """
        with self._lock:
            if self._comparison is None:
                self._comparison = self._compared()
            return self._comparison

    @property
    def damage(self) -> tuple[str, ...]:
        """What of the space cannot be read, each in a sentence that ends with what to do."""
        return self.once("damage", self._find_damage)

    def _find_damage(self) -> tuple[str, ...]:
        cells = (f"{self._damaged.message}. {self._damaged.hint}",) if self._damaged else ()
        trials = [f"{row.cell}, {row.error.removeprefix(DAMAGED)}." for row in self.trials if row.damaged]
        return (*cells, *trials, *((f"Such a trial counts as failed. {REPAIR}",) if trials else ()))

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """Returns compute(), called once per snapshot and name."""
        with self._lock:
            if name not in self._once:
                self._once[name] = compute()
            value: T = self._once[name]
            return value

    @property
    def by_key(self) -> Mapping[str, TrialRow]:
        """The trials by key, in the ledger's order."""
        return self.once("rows by key", lambda: {row.key: row for row in self.trials})

    def rows_of(self, cell: Cell) -> tuple[TrialRow, ...]:
        """Returns the trials of a cell, in the ledger's order."""
        return self.once("rows by cell", self._by_cell).get(str(cell.name), ())

    def curves(self, keys: Sequence[str]) -> dict[str, Curve]:
        """Returns key → series → values [epochs]; whole curves of finished trials are read once."""
        with self._lock:
            missing = [key for key in keys if key not in self._finished]
        read = self._source.curves(missing) if missing else {}
        done = self.once("finished keys", lambda: {r.key for r in self.trials if r.outcome in FINISHED})
        with self._lock:
            if len(self._finished) > _MAX_CURVES:
                self._finished.clear()
            self._finished.update({key: curve for key, curve in read.items() if key in done})
            return {key: curve for key in keys if (curve := read.get(key) or self._finished.get(key)) is not None}

    def examples(self, keys: Sequence[str]) -> Mapping[str, Outcomes]:
        """Returns key → outcome on each test example [E]."""
        return self._source.examples(keys)

    def _by_cell(self) -> dict[str, tuple[TrialRow, ...]]:
        groups: dict[str, list[TrialRow]] = {}
        for row in self.trials:
            groups.setdefault(row.cell, []).append(row)
        return {cell: tuple(rows) for cell, rows in groups.items()}

    def warm(self) -> None:
        """Computes the comparison, whose errors are raised to each caller that asks for it."""
        with suppress(Exception):
            _ = self.comparison

    @property
    def compared(self) -> bool:
        """True once the comparison was asked for."""
        return self._comparison is not None

    def _compared(self) -> Comparison:
        # More than the winners' outcomes, so that they need not be known first: that would compare twice.
        keys = [row.key for row in self.trials if row.phase == "confirm" and row.outcome == "complete"]
        return compare(self.cells, self.trials, self._source.examples(keys))


_MAX_CURVES = 2_000


def cells_text(cells: Sequence[Cell]) -> str:
    """Returns the cells' definitions as one text, equal where they are."""
    return "\n".join(str(cell.to_dict()) for cell in cells)


class Snapshots:
    """The snapshots of a ledger; safe to use from many threads.

    Args:
        source: the ledger's read side.
        drivers: cell → (owner, alive) of those that are held; None where that cannot be known.
        storage: arguments that make a command read this ledger, such as "--storage sqlite:///my.db"; "" where it finds
            it by itself. Holds no password.
        shown: where the ledger is, as displayed; holds no password.
        base_path: what precedes every path in a browser, "/lawn"; "" where a server has one dashboard.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        source: ResultSource,
        drivers: Callable[[], Mapping[str, tuple[str, bool]]] | None = None,
        *,
        storage: str = "",
        shown: str = "",
        base_path: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.storage, self.shown, self.base_path = storage, shown, base_path
        self._source, self._drivers, self._clock = source, drivers, clock
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._kept: dict[str, tuple[float, Snapshot]] = {}
        self._spaces: tuple[float, tuple[str, ...]] | None = None
        self._latest: tuple[float, str] | None = None
        self._held: tuple[float, Drivers] | None = None

    def spaces(self) -> tuple[str, ...]:
        """Returns the names of the ledger's spaces."""
        if self._spaces is None or self._old(self._spaces[0]):
            self._spaces = (self._clock(), self._source.spaces())
        return self._spaces[1]

    def first(self) -> str:
        """Returns the space that is shown unless another is asked for: the one that trains or trained last."""
        spaces = self.spaces()
        if len(spaces) < 2:
            return next(iter(spaces), "")
        if self._latest is None or self._old(self._latest[0]):
            self._latest = (self._clock(), self._source.latest())
        return self._latest[1] if self._latest[1] in spaces else spaces[0]

    def drivers(self) -> Drivers:
        """Returns who holds which cell."""
        if self._held is None or self._old(self._held[0]):
            found = self._drivers() if self._drivers else {}
            self._held = (self._clock(), {cell: Driver(*held) for cell, held in found.items()})
        return self._held[1]

    def alive(self, cell: str) -> bool:
        """Returns whether a driver works on a cell; True where that cannot be known."""
        if self._drivers is None:
            return True
        driver = self.drivers().get(cell)
        return driver is not None and driver.active

    def snapshot(self, space: str) -> Snapshot:
        """Returns the state of a space, at most `STALE_SECONDS` old, without waiting for a reader at work."""
        kept = self._kept.get(space)
        return kept[1] if kept and not self._old(kept[0], STALE_SECONDS) else self.refreshed(space)

    def refreshed(self, space: str) -> Snapshot:
        """Returns the state of a space, at most `FRESH_SECONDS` old; one reader reads for all.

        What viewers look at is computed before the new state takes the old one's place, so that no click waits for it.
        """
        with self._lock:
            lock = self._locks.setdefault(space, threading.Lock())
        with lock:
            kept = self._kept.get(space)
            if kept is None or self._old(kept[0]):
                before = kept[1] if kept else None
                kept = (self._clock(), self._read(space, before))
                if before is not None and before.compared:
                    kept[1].warm()
                self._keep(space, kept)
            return kept[1]

    def warm(self) -> None:
        """Reads and compares the space that is shown first, so that the first viewer need not wait for it."""
        with suppress(Exception):
            self.refreshed(self.first()).warm()
            self.drivers()

    def _keep(self, space: str, kept: tuple[float, Snapshot]) -> None:
        with self._lock:
            self._kept.pop(space, None)
            self._kept[space] = kept
            while len(self._kept) > KEPT:
                self._kept.pop(next(iter(self._kept)))

    def _read(self, space: str, before: Snapshot | None) -> Snapshot:
        try:
            return self._read_rows(space, before)
        except (ValueError, TypeError, KeyError) as error:
            raise LedgerError(
                f"the ledger holds a row of space '{space}' that cannot be read: {type(error).__name__}",
                "It was damaged, or written by another program; take the row out, or put back a copy of the ledger.",
            ) from error

    def _read_rows(self, space: str, before: Snapshot | None) -> Snapshot:
        version = self._source.version(space)  # first, so that what is read may be newer than the version, never older
        if before is not None and before.version == version and not before.damage:  # a repair changes no version
            return before
        cells, damaged = self._cells(space)
        if before is not None and before.cells == cells:
            cells = before.cells  # they carry the keys of their trials, which are slow to hash
        trials = self._source.trials(space)
        if damaged is not None:
            known = {str(cell.name) for cell in cells}
            trials = tuple(row for row in trials if row.cell in known)
        return Snapshot(self._source, space, version, cells, trials, before, damaged)

    def _cells(self, space: str) -> tuple[tuple[Cell, ...], DamagedCells | None]:
        try:
            return self._source.cells(space), None
        except DamagedCells as error:
            if not error.readable:
                raise
            return error.readable, error

    def _old(self, since: float, limit: float = FRESH_SECONDS) -> bool:
        return self._clock() - since >= limit


class Remembered(Snapshots):
    """What other snapshots read last, however old. It reads nothing and waits for no reader.

    Its methods raise LedgerError for what was never read.
    """

    def __init__(self, known: Snapshots) -> None:
        self.__dict__.update(known.__dict__)
        self._source, self._drivers = cast(ResultSource, _Unread()), _unread

    def snapshot(self, space: str) -> Snapshot:
        """See `Snapshots.snapshot`; one that is not compared yet counts as not read."""
        found = super().snapshot(space)
        return found if found.compared else _unread()

    def refreshed(self, space: str) -> Snapshot:
        """See `Snapshots.refreshed`."""
        _unread()

    def _old(self, since: float, limit: float = FRESH_SECONDS) -> bool:
        return False


class _Unread:
    """In place of a ledger."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        return _unread


def _unread(*_: object) -> NoReturn:
    raise LedgerError("this has not been read yet")
