"""Does LAWN beat weight decay: winners, confirmed values, paired differences. Pure; nothing is read or drawn here."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lawn_tune.cells import Cell, Phase, Protocol
from lawn_tune.comparison.flags import FEW, Flag, Note, cell_notes, in_order, pair_notes
from lawn_tune.comparison.inference import (
    Interval,
    SignFlip,
    bootstrap_interval,
    holm,
    mean_and_error,
    seeds_interval,
    sign_flip,
)
from lawn_tune.comparison.published import published
from lawn_tune.planning.selection import Point, Winner, best, score, search_series
from lawn_tune.results import ResultSource, TrialRow

T = TypeVar("T", bound=Hashable)

BOOTSTRAP_SEED = 0
"""Of every interval of a comparison, so that the same ledger gives the same table."""


class Verdict(StrEnum):
    """The conclusion about a pair, decided by whether the 95 % interval of the difference excludes zero.

    There is none for a pair of different tasks, for fewer than `FEW` seeds, and for a LAWN winner that never was LAWN.
    """

    BETTER = "LAWN better"
    WORSE = "LAWN worse"
    NOT_SEPARABLE = "not separable"
    TOO_FEW = "too few seeds for a verdict"
    NEVER_CONSTRAINED = "winner never constrained, no verdict"
    ONLY_LAWN = "weight decay diverged everywhere"
    ONLY_BASE = "LAWN diverged everywhere"
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
    """LAWN − base over the seeds both have, in the metric's unit (percentage points).

    Args:
        mean: of the differences.
        seeds: paired seeds.
        examples: test examples the interval also speaks of; None where it is over seeds only.
        interval: 95 %; None for one seed.
        test: exact sign-flip test over seeds; None for too many seeds.
        holm: the test's p-value adjusted for all pairs of the comparison.
    """

    mean: float
    seeds: tuple[int, ...]
    examples: int | None
    interval: Interval | None
    test: SignFlip | None
    holm: float | None = None

    @property
    def n(self) -> int:
        """Number of paired seeds."""
        return len(self.seeds)


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
        pairs=_adjusted(_pairs(results, examples)),
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


def _pairs(results: Sequence[CellResult], examples: Mapping[str, NDArray[np.bool_]]) -> list[PairResult]:
    found = [
        (base, challenger)
        for base in results
        for challenger in results
        if base.cell.name.optimizer in challenger.cell.baselines
        and base.cell.name.batch_size == challenger.cell.name.batch_size
    ]
    with ThreadPoolExecutor() as threads:  # nearly all of the time is the bootstrap's draws, which run without the GIL
        return list(threads.map(lambda pair: _pair(pair[0], pair[1], examples), found))


def _pair(base: CellResult, lawn: CellResult, examples: Mapping[str, NDArray[np.bool_]]) -> PairResult:
    difference, notes = None, list(pair_notes(base.cell, lawn.cell))
    comparable = all(note.flag is not Flag.DIFFERENT_TASKS for note in notes)
    if comparable and base.confirmed and lawn.confirmed:
        difference, caveats = _difference(base.confirmed, lawn.confirmed, examples)
        notes += caveats
    verdict = _verdict(base, lawn, difference) if comparable else Verdict.NOT_COMPARABLE
    return PairResult(baseline=base, challenger=lawn, difference=difference, verdict=verdict, notes=in_order(notes))


def _difference(
    base: Estimate, lawn: Estimate, examples: Mapping[str, NDArray[np.bool_]]
) -> tuple[Difference | None, list[Note]]:
    seeds = tuple(seed for seed in base.values if seed in lawn.values)
    if not seeds:
        return None, [Note(Flag.PARTIAL, "the two methods have no confirm seed in common yet")]
    notes = []
    if len(seeds) < max(base.n, lawn.n):
        notes.append(Note(Flag.PARTIAL, f"paired by the {len(seeds)} of {max(base.n, lawn.n)} seeds that both have"))
    per_seed = np.array([lawn.values[seed] - base.values[seed] for seed in seeds])
    per_example = _per_example(base, lawn, seeds, examples)
    if per_example is None:
        notes.append(Note(Flag.SEEDS_ONLY, "the interval is over seeds only: no outcome on each test example fits"))
    difference = Difference(
        mean=float(per_seed.mean()),
        seeds=seeds,
        examples=None if per_example is None else per_example.shape[1],
        interval=_interval(per_seed, per_example),
        test=sign_flip(per_seed),
    )
    return difference, notes


def _per_example(
    base: Estimate, lawn: Estimate, seeds: Sequence[int], examples: Mapping[str, NDArray[np.bool_]]
) -> NDArray[np.float64] | None:
    """Returns D [S, E] in percentage points, or None unless the outcomes are there and their means are the metric.

    The outcomes of an accuracy or a hit rate average to it; those of another metric, or of another epoch, do not.
    """
    keys = [(base, base.keys[seed], seed) for seed in seeds] + [(lawn, lawn.keys[seed], seed) for seed in seeds]
    if any(key not in examples or not len(examples[key]) for _, key, _ in keys):
        return None
    if len({len(examples[key]) for _, key, _ in keys}) > 1:
        return None
    if any(abs(100 * examples[key].mean() - estimate.values[seed]) > 0.01 for estimate, key, seed in keys):
        return None
    outcomes = np.stack([examples[key] for _, key, _ in keys]).astype(np.float64)
    return 100 * (outcomes[len(seeds) :] - outcomes[: len(seeds)])


def _interval(per_seed: NDArray[np.float64], per_example: NDArray[np.float64] | None) -> Interval | None:
    if len(per_seed) < 2:
        return None
    if per_example is None:
        return seeds_interval(per_seed)
    return bootstrap_interval(per_example, seed=BOOTSTRAP_SEED)


def _verdict(base: CellResult, lawn: CellResult, difference: Difference | None) -> Verdict:
    if base.all_diverged and lawn.all_diverged:
        return Verdict.NEITHER
    if base.all_diverged and lawn.confirmed:
        return Verdict.NEVER_CONSTRAINED if lawn.never_constrained else Verdict.ONLY_LAWN
    if lawn.all_diverged and base.confirmed:
        return Verdict.ONLY_BASE
    if difference is None:
        return Verdict.PENDING
    if lawn.never_constrained:
        return Verdict.NEVER_CONSTRAINED
    if difference.interval is None or difference.n < FEW:
        return Verdict.TOO_FEW
    if not difference.interval.excludes_zero():
        return Verdict.NOT_SEPARABLE
    gain = difference.mean if base.cell.protocol.direction == "maximize" else -difference.mean
    return Verdict.BETTER if gain > 0 else Verdict.WORSE


def _adjusted(pairs: Sequence[PairResult]) -> tuple[PairResult, ...]:
    """Returns the pairs with Holm's p-values over all of them that have one."""
    tests = [pair.difference.test.p for pair in pairs if pair.difference and pair.difference.test]
    adjusted = iter(holm(tests))
    return tuple(
        replace(pair, difference=replace(pair.difference, holm=next(adjusted)))
        if pair.difference and pair.difference.test
        else pair
        for pair in pairs
    )


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
