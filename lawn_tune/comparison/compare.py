"""Does LAWN beat weight decay: winners, confirmed values, paired differences. Pure; nothing is read or drawn here."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lawn_tune.cells import Cell, Phase, Protocol
from lawn_tune.comparison.flags import Flag, Note, cell_notes, in_order, pair_notes
from lawn_tune.comparison.inference import Effect, Interval, crossed, mean_and_error, over_seeds
from lawn_tune.comparison.published import published
from lawn_tune.planning.selection import Point, Winner, best, score, search_series
from lawn_tune.results import ResultSource, TrialRow

T = TypeVar("T", bound=Hashable)


class Verdict(StrEnum):
    """The conclusion about a pair's challenger: whether the interval that is shown excludes zero, and nothing else.

    Of those that include it, an interval within the margin is equivalent. There is no verdict for a pair of different
    tasks, and for a LAWN winner that never was LAWN.
    """

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"
    NEVER_CONSTRAINED = "never constrained"
    ONLY_CHALLENGER = "baseline diverged everywhere"
    ONLY_BASELINE = "challenger diverged everywhere"
    NEITHER = "both diverged everywhere"
    NOT_COMPARABLE = "not comparable"
    PENDING = "not confirmed yet"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A cell's value.

    Args:
        phase: "confirm" for the test metric of fresh runs; "search" for the value that selected, the best of a grid.
        series: name of the value in a trial's summary.
        values: seed → value, in the order of the protocol's seeds.
        keys: seed → key of the trial.
        mean: over seeds, in the metric's unit.
        error: standard error of the mean; None for one seed and for a search value, which is shown without.
    """

    phase: Phase
    series: str
    values: Mapping[int, float]
    keys: Mapping[int, str]
    mean: float
    error: float | None

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What is known of one cell.

    Args:
        cell: as planned.
        points: its grid.
        winner: best point so far; None when none is complete.
        estimate: confirmed value of the winner, else its search value, else None.
        published: the paper's value for this cell, if it printed one.
        seconds: device time of all the cell's trials in the ledger.
        notes: caveats.
    """

    cell: Cell
    points: tuple[Point, ...]
    winner: Winner | None
    estimate: Estimate | None
    published: float | None
    seconds: float
    notes: tuple[Note, ...]

    @property
    def confirmed(self) -> Estimate | None:
        """The estimate if fresh runs support it."""
        return self.estimate if self.estimate is not None and self.estimate.phase == "confirm" else None

    @property
    def all_diverged(self) -> bool:
        """True when the method trains nowhere on its grid."""
        return all(point.status == "diverged" for point in self.points)

    @property
    def never_constrained(self) -> bool:
        """True when the winner of a LAWN cell is one whose free phase never ends."""
        return self.winner is not None and self.cell.never_constrained(self.winner.hyperparameters)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Challenger − baseline over the seeds both have, in the metric's unit (percentage points).

    Args:
        mean: of the differences.
        seeds: paired seeds.
        effect: the mean with its uncertainty; None for one seed, which has none.
        family: pairs whose intervals hold together: all of the comparison, measured already or not.
        margin: see `Protocol.margin`.
    """

    mean: float
    seeds: tuple[int, ...]
    effect: Effect | None
    family: int
    margin: float | None

    @property
    def n(self) -> int:
        """Number of paired seeds."""
        return len(self.seeds)

    @property
    def examples(self) -> int | None:
        """Test examples the interval also speaks of; None where it is over seeds only."""
        return self.effect.examples if self.effect else None

    @cached_property
    def interval(self) -> Interval | None:
        """The 95 % interval, simultaneous over the family; None for one seed."""
        return self.effect.interval(self.family) if self.effect else None

    @property
    def detectable(self) -> float | None:
        """True difference that as many runs would find in four of five repeats; None for one seed."""
        return self.effect.detectable(self.family) if self.effect else None

    @cached_property
    def seeds_needed(self) -> int | None:
        """Seeds that would decide, whatever they show; None without a margin, for one seed, or if no number would.

        An interval of half the margin to both sides excludes zero or lies within the margin, wherever its mean is.
        """
        if self.effect is None or self.margin is None:
            return None
        return self.effect.seeds_for(self.margin / 2, self.family)


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """A challenger, LAWN unless a space declares another, against its baseline at one batch size."""

    baseline: CellResult
    challenger: CellResult
    difference: Difference | None
    verdict: Verdict
    notes: tuple[Note, ...]

    @property
    def batch_size(self) -> int:
        """Examples per step."""
        return self.baseline.cell.name.batch_size


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that tables, figures and the report show of one space.

    Args:
        space: name.
        cells: in plan order.
        pairs: in plan order of the base optimizer, then batch size.
        provenance: name ("device", "versions.torch", …) → distinct values over all trials, in alphabetical order.
    """

    space: str
    cells: tuple[CellResult, ...]
    pairs: tuple[PairResult, ...]
    provenance: Mapping[str, tuple[str, ...]]

    @property
    def protocol(self) -> Protocol:
        """The protocol of the first cell; others may differ where a space was launched in parts (see `distinct`)."""
        return self.cells[0].cell.protocol

    def distinct(self, of: Callable[[Cell], T]) -> tuple[T, ...]:
        """Returns the different values that `of` has over the cells, in plan order."""
        return tuple(dict.fromkeys(of(result.cell) for result in self.cells))

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


def compare(cells: Sequence[Cell], trials: Sequence[TrialRow], examples: Mapping[str, NDArray[np.bool_]]) -> Comparison:
    """Returns the comparison of a space's cells.

    Args:
        cells: of one space, in plan order, at least one.
        trials: rows of the ledger in any order; those that no cell plans are ignored.
        examples: key → outcome on each test example [E], for confirm trials that have them.

    Raises:
        ValueError: there are no cells.
    """
    return _comparison(_cell_results(cells, trials), trials, examples)


def compare_space(source: ResultSource, space: str) -> Comparison:
    """Returns the comparison of one space of a ledger.

    Raises:
        ValueError: the ledger has no cell of that space.
    """
    cells, trials = source.cells(space), source.trials(space)
    results = _cell_results(cells, trials)
    keys = [key for result in results if result.confirmed for key in result.confirmed.keys.values()]
    return _comparison(results, trials, source.examples(keys))


def _comparison(
    results: tuple[CellResult, ...], trials: Sequence[TrialRow], examples: Mapping[str, NDArray[np.bool_]]
) -> Comparison:
    return Comparison(
        space=results[0].cell.name.space,
        cells=results,
        pairs=_pairs(results, examples),
        provenance=_provenance(trials),
    )


def _cell_results(cells: Sequence[Cell], trials: Sequence[TrialRow]) -> tuple[CellResult, ...]:
    if not cells:
        raise ValueError("a comparison needs at least one cell; launch the space first")
    rows = {row.key: row for row in trials}
    seconds = _seconds(trials)
    return tuple(_cell_result(cell, rows, seconds.get(str(cell.name), 0.0)) for cell in cells)


def _cell_result(cell: Cell, rows: Mapping[str, TrialRow], seconds: float) -> CellResult:
    scored = score(cell, rows)
    won = best(cell, scored)
    confirm = cell.confirm_trials(won.hyperparameters) if won else ()
    confirm_keys = {trial.seed: trial.key for trial in confirm}
    test_series = f"{cell.protocol.reported}/test/{cell.protocol.metric}"
    estimate = _estimate("confirm", test_series, confirm_keys, rows)
    if estimate is None and won is not None:
        search_keys = dict(zip(cell.protocol.search_seeds, won.keys, strict=True))
        estimate = _estimate("search", search_series(cell.protocol), search_keys, rows)
    return CellResult(
        cell=cell,
        points=scored,
        winner=won,
        estimate=estimate,
        published=published(cell),
        seconds=seconds,
        notes=cell_notes(cell, scored, won, confirm, rows),
    )


def _estimate(phase: Phase, series: str, keys: Mapping[int, str], rows: Mapping[str, TrialRow]) -> Estimate | None:
    complete = {seed: rows[key] for seed, key in keys.items() if key in rows and rows[key].outcome == "complete"}
    measured = {seed: row.summary.get(series) for seed, row in complete.items()}
    values = {seed: value for seed, value in measured.items() if value is not None and math.isfinite(value)}
    if not values:
        return None
    mean, error = mean_and_error(list(values.values()))
    return Estimate(
        phase=phase,
        series=series,
        values=values,
        keys={seed: keys[seed] for seed in values},
        mean=mean,
        error=error if phase == "confirm" else None,
    )


def _pairs(results: Sequence[CellResult], examples: Mapping[str, NDArray[np.bool_]]) -> tuple[PairResult, ...]:
    found = [
        (base, challenger)
        for base in results
        for challenger in results
        if base.cell.name.optimizer in challenger.cell.baselines
        and base.cell.name.batch_size == challenger.cell.name.batch_size
    ]
    notes = [pair_notes(base.cell, challenger.cell) for base, challenger in found]
    family = sum(map(_comparable, notes))
    return tuple(_pair(*pair, noted, family, examples) for pair, noted in zip(found, notes, strict=True))


def _comparable(notes: Iterable[Note]) -> bool:
    return all(note.flag is not Flag.DIFFERENT_TASKS for note in notes)


def _pair(
    base: CellResult,
    challenger: CellResult,
    noted: Sequence[Note],
    family: int,
    examples: Mapping[str, NDArray[np.bool_]],
) -> PairResult:
    difference, notes = None, list(noted)
    comparable = _comparable(noted)
    if comparable and base.confirmed and challenger.confirmed:
        margin = base.cell.protocol.margin
        difference, caveats = _difference(base.confirmed, challenger.confirmed, examples, family, margin)
        notes += caveats
    verdict = _verdict(base, challenger, difference) if comparable else Verdict.NOT_COMPARABLE
    return PairResult(
        baseline=base, challenger=challenger, difference=difference, verdict=verdict, notes=in_order(notes)
    )


def _difference(
    base: Estimate,
    challenger: Estimate,
    examples: Mapping[str, NDArray[np.bool_]],
    family: int,
    margin: float | None,
) -> tuple[Difference | None, list[Note]]:
    seeds = tuple(seed for seed in base.values if seed in challenger.values)
    if not seeds:
        return None, [Note(Flag.PARTIAL, "the two methods have no confirm seed in common yet")]
    notes = []
    if len(seeds) < (most := max(base.n, challenger.n)):
        notes.append(Note(Flag.PARTIAL, f"paired by the {len(seeds)} of {most} seeds that both have"))
    per_seed = [challenger.values[seed] - base.values[seed] for seed in seeds]
    effect = None
    if len(seeds) > 1:
        per_example = _per_example(base, challenger, seeds, examples)
        effect = over_seeds(per_seed) if per_example is None else crossed(per_example)
        if per_example is None:
            notes.append(Note(Flag.SEEDS_ONLY, "the interval is over seeds only: no outcome on each test example fits"))
    mean = effect.mean if effect else per_seed[0]
    return Difference(mean=mean, seeds=seeds, effect=effect, family=family, margin=margin), notes


def _per_example(
    base: Estimate, challenger: Estimate, seeds: Sequence[int], examples: Mapping[str, NDArray[np.bool_]]
) -> NDArray[np.float64] | None:
    """Returns D [S, E] in percentage points, or None unless the outcomes are there and their means are the metric.

    The outcomes of an accuracy or a hit rate average to it; those of another metric, or of another epoch, do not.
    """
    keys = [(of, of.keys[seed], seed) for of in (base, challenger) for seed in seeds]
    if any(key not in examples or len(examples[key]) < 2 for _, key, _ in keys):
        return None
    if len({len(examples[key]) for _, key, _ in keys}) > 1:
        return None
    if any(abs(100 * examples[key].mean() - estimate.values[seed]) > 0.01 for estimate, key, seed in keys):
        return None
    outcomes = np.stack([examples[key] for _, key, _ in keys]).astype(np.float64)
    return 100 * (outcomes[len(seeds) :] - outcomes[: len(seeds)])


def _verdict(base: CellResult, challenger: CellResult, difference: Difference | None) -> Verdict:
    if base.all_diverged and challenger.all_diverged:
        return Verdict.NEITHER
    if base.all_diverged and challenger.confirmed:
        return Verdict.NEVER_CONSTRAINED if challenger.never_constrained else Verdict.ONLY_CHALLENGER
    if challenger.all_diverged and base.confirmed:
        return Verdict.ONLY_BASELINE
    if difference is None:
        return Verdict.PENDING
    if challenger.never_constrained:
        return Verdict.NEVER_CONSTRAINED
    interval, margin = difference.interval, difference.margin
    if interval is None:
        return Verdict.UNDECIDED
    if not interval.excludes_zero():
        return Verdict.EQUIVALENT if margin is not None and interval.within(margin) else Verdict.UNDECIDED
    gain = difference.mean if base.cell.protocol.direction == "maximize" else -difference.mean
    return Verdict.BETTER if gain > 0 else Verdict.WORSE


def _seconds(trials: Iterable[TrialRow]) -> dict[str, float]:
    spent: dict[str, list[float]] = {}
    for row in trials:
        spent.setdefault(row.cell, []).append(row.summary.get("seconds") or 0.0)
    return {cell: math.fsum(values) for cell, values in spent.items()}


OF_ONE_RUN = ("start", "end", "finish", "created", "updated", "node", "resumed")
"""How names of provenance begin that differ for every trial."""


def _provenance(trials: Iterable[TrialRow]) -> dict[str, tuple[str, ...]]:
    found = {pair for row in trials for pair in _flat(row.provenance)}
    values: dict[str, list[str]] = {}
    for name, value in sorted(found):
        values.setdefault(name, []).append(value)
    return {name: tuple(listed) for name, listed in values.items()}


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yields dotted names and texts of nested values, without what is of one run alone: times, cluster node, resume."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None and not name.startswith(OF_ONE_RUN):
            yield f"{prefix}{name}", str(value)
