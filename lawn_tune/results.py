"""What can be read from a ledger, as typed rows; comparisons, figures and dashboards see only this."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lawn_tune.cells import Cell, Phase
from lawn_tune.errors import LedgerError
from trainables.examples import Outcomes

Outcome = Literal["complete", "diverged", "failed", "running"]
FINISHED: frozenset[Outcome] = frozenset({"complete", "diverged"})
"""Outcomes that are results and are never trained again; a failed trial is retried, a running one may be reclaimed."""

BINS = "calibration/"
"""What the names of a reliability diagram's values in a summary begin with; they belong together, not into a table."""

COMMIT = "commit"
"""Name in a trial's provenance: the commit that it ran at, where that was a checkout."""

UTILIZATION = "utilization"
"""Name in a trial's provenance: share of its device that its pack kept busy, 0 to 1, where the device can tell."""

DAMAGED = "damaged in the ledger: "
"""What the error of a trial begins with whose row cannot be read; it counts as failed, and no launch trains it."""

REPAIR = (
    "To repair it, put back a copy of the ledger, or delete the trial's rows from lawn_examples, lawn_curves and "
    "lawn_trials and launch the space again."
)


class DamagedCells(LedgerError):
    """The definitions of some cells of a space cannot be read.

    Args:
        damage: cell → why.
        readable: the other cells of the space, in plan order.
    """

    def __init__(self, damage: Mapping[str, str], readable: Sequence[Cell]) -> None:
        reasons = "; ".join(f"cell '{name}': {why}" for name, why in damage.items())
        super().__init__(
            f"{DAMAGED}{reasons}", "Launch the whole space again, which rewrites its cells; or restore a copy."
        )
        self.damage, self.readable = dict(damage), tuple(readable)


class CalibrationBin(NamedTuple):
    """Bin `place` of `ECE_BINS`: the predictions in it, their mean confidence, and the fraction that is right."""

    place: int
    examples: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial as the ledger holds it.

    Args:
        key: identity of the trial.
        cell: name of its cell, `space/optimizer/bs<batch>`.
        phase, seed, hyperparameters: as planned.
        outcome: complete, diverged, failed or running.
        epochs: epochs finished.
        total_epochs: epochs of its task.
        summary: "last/<series>" and "best/<series>" values ("validation/hr@10", "test/accuracy", "train_loss", ...),
            "ece", "seconds", "peak_memory_bytes"; "calibration/…", which `calibration` reads.
        pack: identity of the pack that trained it.
        attempts: how often its pack was started.
        error: text of the last failure, "" if none.
        provenance: code and library versions, device, hostname, start and end as ISO-8601 UTC.
    """

    key: str
    cell: str
    phase: Phase
    seed: int
    hyperparameters: Mapping[str, float]
    outcome: Outcome
    epochs: int
    total_epochs: int
    summary: Mapping[str, float | None]
    pack: str
    attempts: int
    error: str
    provenance: Mapping[str, Any]

    @property
    def damaged(self) -> bool:
        """True when the ledger's row of this trial cannot be read."""
        return self.error.startswith(DAMAGED)

    @property
    def calibration(self) -> tuple[CalibrationBin, ...]:
        """The filled bins of the reliability diagram on the test split; () where none was recorded."""
        filled = {name.rpartition("/")[2]: n for name, n in self.summary.items() if name.startswith(f"{BINS}examples/")}
        return tuple(
            CalibrationBin(int(b), int(n), self._bin("confidence", b), self._bin("accuracy", b))
            for b, n in sorted(filled.items())
            if n
        )

    def _bin(self, what: str, b: str) -> float:
        value = self.summary.get(f"{BINS}{what}/{b}")
        return math.nan if value is None else value


class ResultSource(Protocol):
    """The read side of a ledger. Every method may be called while drivers write."""

    def spaces(self) -> tuple[str, ...]:
        """Names of the spaces that have been launched, in alphabetical order."""
        ...

    def latest(self) -> str:
        """The space in which a trial started or ended last, "" if none was started."""
        ...

    def cells(self, space: str) -> tuple[Cell, ...]:
        """The cells of `space` as last launched, ordered by optimizer (plan order) and batch size."""
        ...

    def trials(self, space: str) -> tuple[TrialRow, ...]:
        """Every trial of `space`, whatever its budget or outcome, ordered by cell, phase and plan order."""
        ...

    def curves(self, keys: Sequence[str]) -> dict[str, dict[str, NDArray[np.float64]]]:
        """key → series → values [epochs] (NaN where not measured), for the keys that have a curve."""
        ...

    def examples(self, keys: Sequence[str]) -> Mapping[str, Outcomes]:
        """key → outcome on each test example [E], for the keys that have them."""
        ...

    def version(self, space: str) -> str:
        """A token that differs whenever `cells` or `trials` of the space would; cheap, so it may be asked often."""
        ...


def finite(value: float | None) -> float | None:
    """Returns a number, None for one that is not finite: JSON has no word for it, and nobody can sort it."""
    return value if value is not None and math.isfinite(value) else None


def readable_cells(source: ResultSource, spaces: Iterable[str]) -> list[Cell]:
    """Returns the cells of those spaces that a ledger holds, but not those that cannot be read."""
    found: list[Cell] = []
    for space in dict.fromkeys(space for space in spaces if space in source.spaces()):
        try:
            found += source.cells(space)
        except DamagedCells as error:
            found += error.readable
    return found
