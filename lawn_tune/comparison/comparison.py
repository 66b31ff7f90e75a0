"""What a comparison says: of each cell, each pair, and all pairs of a space together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from lawn_tune.cells import Cell, CellName, Protocol
from lawn_tune.comparison.differences import Difference
from lawn_tune.comparison.estimates import Estimate
from lawn_tune.comparison.flags import Flag, Note
from lawn_tune.comparison.references import Reference, references
from lawn_tune.comparison.stability import Stability
from lawn_tune.planning.selection import Point, Winner

T = TypeVar("T", bound=Hashable)


class Verdict(StrEnum):
    """The conclusion about a pair's challenger: whether the interval that is shown excludes zero, and nothing else.

    Of those that include it, an interval within the margin is equivalent. There is no verdict for a pair of different
    tasks, for a LAWN winner that never was LAWN, and where all is trained and no seed is left with which both did.
    """

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"
    NEVER_CONSTRAINED = "never constrained"
    ONLY_CHALLENGER = "baseline diverged everywhere"
    ONLY_BASELINE = "challenger diverged everywhere"
    NEITHER = "both diverged everywhere"
    LOST = "confirm runs diverged"
    NOT_COMPARABLE = "not comparable"
    PENDING = "not confirmed yet"


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What is known of one cell.

    Args:
        cell: as planned.
        points: its grid.
        winner: best point so far; None when none is complete.
        stability: of the winner, over resamples of the search seeds; None for one seed, and without a winner.
        estimate: confirmed value of the winner, else its search value, else None.
        ece: expected calibration error on test of the runs that confirm the winner; None where it has none.
        published: the paper's value for this cell, if it printed one.
        seconds: device time of all the cell's trials in the ledger.
        diverged: confirm runs of the winner that diverged, which the estimate leaves out.
        missing: trials without a result that were planned, by the first launch or the last, as far as they are known.
        notes: caveats.
        switched: False where the winner switches by itself, and no run of `estimate` has done so.
    """

    cell: Cell
    points: tuple[Point, ...]
    winner: Winner | None
    stability: Stability | None
    estimate: Estimate | None
    ece: Estimate | None
    published: float | None
    seconds: float
    diverged: int
    missing: int
    notes: tuple[Note, ...]
    switched: bool = True

    @property
    def confirmed(self) -> Estimate | None:
        """The estimate if fresh runs support it."""
        return self.estimate if self.estimate is not None and self.estimate.phase == "confirm" else None

    @property
    def all_diverged(self) -> bool:
        """True when the method trains nowhere on its grid."""
        return all(point.status == "diverged" for point in self.points)

    @property
    def collapsed(self) -> bool:
        """True if confirm runs collapsed, so that their mean is no run's value."""
        return self.flagged(Flag.COLLAPSED)

    def flagged(self, flag: Flag) -> bool:
        """True if a caveat of this kind is noted."""
        return any(note.flag is flag for note in self.notes)

    @property
    def never_constrained(self) -> bool:
        """True when the winner of a LAWN cell is one whose free phase never ends, or did not end in its runs."""
        won = self.winner
        return won is not None and (self.cell.never_constrained(won.hyperparameters) or not self.switched)


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """A challenger, LAWN unless a space declares another, against its baseline at one batch size."""

    baseline: CellResult
    challenger: CellResult
    difference: Difference | None
    verdict: Verdict
    notes: tuple[Note, ...]

    @property
    def cells(self) -> tuple[CellResult, CellResult]:
        """Baseline and challenger."""
        return self.baseline, self.challenger

    @property
    def conditional(self) -> bool:
        """True where the interval takes the winners as given, since the search cannot tell how their choice varies."""
        return any(result.stability is None or result.stability.variance is None for result in self.cells)

    @property
    def interim(self) -> bool:
        """True while the difference is over fewer confirm seeds than were planned."""
        return self._flagged(Flag.PARTIAL)

    @property
    def collapsed(self) -> bool:
        """True if confirm runs of a side collapsed, so that the mean and its interval describe no run."""
        return self._flagged(Flag.COLLAPSED)

    @property
    def telling(self) -> Difference | None:
        """The difference, unless runs collapsed: their spread does not say how many seeds would decide."""
        return None if self.collapsed else self.difference

    @property
    def diverged(self) -> bool:
        """True if the difference leaves out confirm runs that diverged."""
        return self.difference is not None and any(result.diverged for result in self.cells)

    @property
    def seeds_added(self) -> bool:
        """True if the difference is over confirm seeds that were added after the first launch, too."""
        return self._flagged(Flag.ADDED)

    def _flagged(self, flag: Flag) -> bool:
        return self.difference is not None and any(result.flagged(flag) for result in self.cells)

    @property
    def batch_size(self) -> int:
        """Examples per step."""
        return self.baseline.cell.name.batch_size


@dataclass(frozen=True, kw_only=True)
class Overall:
    """One statement over the cells of a space.

    Args:
        pairs: what it is about: LAWN against one kind of baseline, as far as the space has it; in plan order.
        measured: pairs that the mean is over: those with an interval, of winners that their control reached.
        difference: mean of the measured pairs' differences, each with the same weight; its interval holds by itself.
            None if no pair is measured.
        verdict: what that interval shows; without one, what holds of all pairs.
        trend: change of the difference for twice the batch size: slope of the least-squares line over log2(batch size),
            with an offset for each two methods; None unless two are compared at two batch sizes. Its interval holds by
            itself.
    """

    pairs: tuple[PairResult, ...]
    measured: tuple[PairResult, ...]
    difference: Difference | None
    verdict: Verdict
    trend: Difference | None

    @property
    def verdicts(self) -> Counter[Verdict]:
        """Number of pairs by verdict."""
        return Counter(pair.verdict for pair in self.pairs)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that tables, figures and the report show of one space.

    Args:
        space: name.
        cells: in plan order.
        pairs: in plan order of the base optimizer, then batch size.
        overall: the statement over all its pairs of the main kind; None without a pair.
        provenance: name ("device", "versions.torch", …) → distinct values over all trials, in alphabetical order.
        storage: the arguments with which a command reads this ledger, "--storage sqlite:///my.db"; "" where it is the
            default. Holds no password.
        absent: cells that the space's file plans and no launch has begun, where that file is known.
    """

    space: str
    cells: tuple[CellResult, ...]
    pairs: tuple[PairResult, ...]
    overall: Overall | None
    provenance: Mapping[str, tuple[str, ...]]
    storage: str = ""
    absent: tuple[CellName, ...] = ()

    @property
    def protocol(self) -> Protocol:
        """The protocol of the first cell; others may differ where a space was launched in parts (see `distinct`)."""
        return self.cells[0].cell.protocol

    @property
    def about(self) -> tuple[str, ...]:
        """Description and notes of the space, by paragraph; () where the ledger keeps none."""
        return next(filter(None, (result.cell.about for result in self.cells)), ())

    def distinct(self, of: Callable[[Cell], T]) -> tuple[T, ...]:
        """Returns the different values that `of` has over the cells, in plan order."""
        return tuple(dict.fromkeys(of(result.cell) for result in self.cells))

    @property
    def references(self) -> tuple[Reference, ...]:
        """What the methods are shown next to that needs no training."""
        return references(self.provenance, self.protocol)

    @property
    def optimizers(self) -> tuple[str, ...]:
        """Methods in plan order, each baseline followed by its challengers."""
        against = {result.cell.name.optimizer: result.cell.baselines for result in self.cells}
        paired = [
            name
            for base in against
            if not set(against[base]) & set(against)
            for name in (base, *(other for other, baselines in against.items() if base in baselines))
        ]
        return tuple(dict.fromkeys((*paired, *against)))

    @property
    def empty(self) -> bool:
        """True while no trial of any cell's grid has a result."""
        return not any(point.finished for result in self.cells for point in result.points)

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Batch sizes, ascending."""
        return tuple(sorted({result.cell.name.batch_size for result in self.cells}))

    def cell(self, optimizer: str, batch_size: int) -> CellResult | None:
        """Returns one cell's result, if the space has that cell."""
        wanted = (optimizer, batch_size)
        return next((r for r in self.cells if (r.cell.name.optimizer, r.cell.name.batch_size) == wanted), None)
