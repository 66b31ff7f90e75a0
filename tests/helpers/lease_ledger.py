"""A ledger in memory for launches: leases by a fake clock, outages, and writes refused to who leases nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lawn_tune.cells import Cell, CellName, Packing, Phase
from lawn_tune.ledger import LeaseLost, Owner, PackRow, Unreachable
from lawn_tune.results import TrialRow
from tests.helpers.memory_ledger import row
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.tasks import Trial


@dataclass
class Clock:
    """A clock that only a test moves."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class LeaseLedger:
    """What a launch uses of a ledger.

    Args:
        down: spans of the clock in which the database cannot be reached; writes and reads wait for its end, as with
            patience, which moves the clock.
        finished: key → how often an outcome of it was stored.
    """

    cells: Sequence[Cell] = ()
    clock: Clock = field(default_factory=Clock)
    down: Sequence[tuple[float, float]] = ()
    ends: dict[CellName, tuple[str, float]] = field(default_factory=dict)
    rows: dict[str, TrialRow] = field(default_factory=dict)
    recorded: dict[tuple[CellName, Phase], tuple[PackRow, ...]] = field(default_factory=dict)
    finished: dict[str, int] = field(default_factory=dict)
    packed: dict[CellName, Packing] = field(default_factory=dict)

    def lease(self, cell: CellName, owner: Owner, seconds: float) -> bool:
        self._reach()
        token, end = self.ends.get(cell, ("", 0.0))
        if token not in ("", owner.token) and self.clock() < end:
            return False
        self.ends[cell] = (owner.token, self.clock() + seconds)
        return True

    def renew(self, owner: Owner, seconds: float) -> frozenset[CellName]:
        self._reach()
        kept = frozenset(cell for cell, (token, _) in self.ends.items() if token == owner.token)
        self.ends |= {cell: (owner.token, self.clock() + seconds) for cell in kept}
        return kept

    def release(self, cell: CellName, owner: Owner) -> None:
        self._wait()
        if self.ends.get(cell, ("", 0.0))[0] == owner.token:
            del self.ends[cell]

    def leases(self) -> Mapping[CellName, Any]:
        self._wait()
        return {}

    def outcomes(self, keys: Sequence[str]) -> dict[str, str]:
        self._wait()
        return {key: self.rows[key].outcome for key in keys if key in self.rows}

    def trials(self, space: str) -> tuple[TrialRow, ...]:
        self._wait()
        return tuple(self.rows.values())

    def assign(self, cell: CellName, phase: Phase, added: Sequence[Trial]) -> None:
        self._wait()

    def reconcile(self, cell: CellName, owner: Owner) -> None:
        self._check(cell, owner.token)

    def packings(self, cells: Sequence[Cell]) -> Mapping[CellName, Packing]:
        self._wait()
        return {cell.name: self.packed[cell.name] for cell in cells if cell.name in self.packed}

    def record_packings(self, cells: Sequence[Cell], replacing: bool = False) -> Mapping[CellName, Packing]:
        self._wait()
        new = {cell.name: cell.packing for cell in cells if cell.packing}
        self.packed = self.packed | new if replacing else new | self.packed
        return self.packed

    def record_packs(self, cell: CellName, phase: Phase, packed: Sequence[Sequence[Trial]]) -> tuple[PackRow, ...]:
        self._wait()
        known = {key for pack in self.recorded.get((cell, phase), ()) for key in pack.keys}
        new = [tuple(trial.key for trial in pack if trial.key not in known) for pack in packed]
        values: dict[str, Any] = {"cell": cell, "phase": phase, "attempts": 0, "state": "waiting", "error": ""}
        rows = tuple(PackRow(id="+".join(keys), keys=keys, **values) for keys in new if keys)
        self.recorded[cell, phase] = (*self.recorded.get((cell, phase), ()), *rows)
        return self.recorded[cell, phase]

    def begin(self, pack: PackRow, members: Sequence[Trial], owner: Owner) -> PackRow:
        self._check(pack.cell, owner.token)
        return replace(pack, holder=owner.token)

    def progress(self, pack: PackRow, records: Sequence[EpochRecord]) -> None:
        self._check(pack.cell, pack.holder)

    def finish(self, pack: PackRow, outcomes: Sequence[TrialOutcome], provenance: Mapping[str, Any]) -> None:
        self._check(pack.cell, pack.holder)
        (cell,) = (cell for cell in self.cells if cell.name == pack.cell)
        for outcome in outcomes:
            self.finished[outcome.key] = self.finished.get(outcome.key, 0) + 1
            (trial,) = (trial for trial in _all_trials(cell) if trial.key == outcome.key)
            self.rows[outcome.key] = replace(
                row(cell, trial), epochs=outcome.epochs, total_epochs=outcome.epochs, summary=outcome.summary
            )

    def _check(self, cell: CellName, token: str) -> None:
        self._wait()
        if self.ends.get(cell, ("", 0.0))[0] != token:
            raise LeaseLost(f"cell '{cell}' is another launch's by now")

    def _reach(self) -> None:
        if any(start <= self.clock() < end for start, end in self.down):
            raise Unreachable("the database is down")

    def _wait(self) -> None:
        self.clock.now = max([self.clock(), *(end for start, end in self.down if start <= self.clock() < end)])


def _all_trials(cell: Cell) -> list[Trial]:
    confirm = [trial for point in cell.search_trials for trial in cell.confirm_trials(point.hyperparameters)]
    return [*cell.search_trials, *confirm]
