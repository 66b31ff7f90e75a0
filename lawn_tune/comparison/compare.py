"""Does LAWN beat weight decay: winners, confirmed values, paired differences. Pure; nothing is read or drawn here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from lawn_tune.cells import Cell, CellName, Protocol
from lawn_tune.comparison.alarms import pair_alarms, shared_points
from lawn_tune.comparison.comparison import CellResult, Comparison, Overall, PairResult, Verdict
from lawn_tune.comparison.differences import Difference, Paired, in_common, paired, supported
from lawn_tune.comparison.estimates import Estimate, estimate
from lawn_tune.comparison.flags import Flag, Note, cell_notes, in_order, outdated, pair_notes
from lawn_tune.comparison.provenance import provenance
from lawn_tune.comparison.published import published
from lawn_tune.comparison.stability import stability
from lawn_tune.planning.selection import Winner, best, score, search_series, test_series
from lawn_tune.results import FINISHED, ResultSource, TrialRow
from search_spaces.levels import is_word
from trainables.catalogue.methods import DECAY, LAWN
from trainables.examples import Outcomes
from trainables.tasks import Trial


def compare(cells: Sequence[Cell], trials: Sequence[TrialRow], examples: Mapping[str, Outcomes]) -> Comparison:
    """Returns the comparison of a space's cells.

    Args:
        cells: of one space, at least one; methods in plan order, whatever the order of batch sizes.
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
    results: tuple[CellResult, ...], trials: Sequence[TrialRow], examples: Mapping[str, Outcomes]
) -> Comparison:
    pairs = _pairs(results, examples)
    return Comparison(
        space=results[0].cell.name.space,
        cells=results,
        pairs=tuple(result for result, _ in pairs),
        overall=_overall(pairs),
        provenance=provenance(trials),
    )


def _cell_results(cells: Sequence[Cell], trials: Sequence[TrialRow]) -> tuple[CellResult, ...]:
    if not cells:
        raise ValueError("a comparison needs at least one cell; launch the space first")
    rows = {row.key: row for row in trials}
    seconds = _seconds(trials)
    found = {cell.name: _cell_result(cell, rows, seconds.get(str(cell.name), 0.0)) for cell in _ordered(cells)}
    return tuple(_with_outdated(result, found) for result in found.values())


def _ordered(cells: Sequence[Cell]) -> list[Cell]:
    """Returns cells by method and batch size: those of a space launched in parts come in the order of launches."""
    methods = list(dict.fromkeys(cell.name.optimizer for cell in cells))
    return sorted(cells, key=lambda cell: (methods.index(cell.name.optimizer), cell.name.batch_size))


def _with_outdated(result: CellResult, found: Mapping[CellName, CellResult]) -> CellResult:
    """Returns a result that says which of its levels is no longer that of the other batch size's winner."""
    cell = result.cell
    sources = {name: found.get(cell.at_batch(kept.batch_size)) for name, kept in cell.kept.items()}
    searched = {name: source for name, source in sources.items() if source and all(p.finished for p in source.points)}
    more = [note for name, source in searched.items() for note in outdated(cell, name, source.winner)]
    return replace(result, notes=in_order((*result.notes, *more))) if more else result


def _cell_result(cell: Cell, rows: Mapping[str, TrialRow], seconds: float) -> CellResult:
    scored = score(cell, rows)
    won = best(cell, scored)
    stable = stability(cell, scored, won)
    confirm = cell.confirm_trials(won.hyperparameters) if won else ()
    confirm_keys = {trial.seed: trial.key for trial in confirm}
    value = estimate("confirm", test_series(cell.protocol), confirm_keys, rows)
    if value is None and won is not None:
        search_keys = dict(zip(cell.protocol.search_seeds, won.keys, strict=True))
        value = estimate("search", search_series(cell.protocol), search_keys, rows)
    return CellResult(
        cell=cell,
        points=scored,
        winner=won,
        stability=stable,
        estimate=value,
        ece=estimate("confirm", "ece", confirm_keys, rows),
        published=published(cell),
        seconds=seconds,
        diverged=sum(trial.key in rows and rows[trial.key].outcome == "diverged" for trial in confirm),
        missing=_missing((*cell.search_trials, *confirm), rows) + (len(cell.dropped_seeds) if won else 0),
        notes=cell_notes(cell, scored, won, stable, confirm, rows),
        switched=_switched(cell, won, value, rows),
    )


def _switched(cell: Cell, won: Winner | None, value: Estimate | None, rows: Mapping[str, TrialRow]) -> bool:
    if won is None or value is None or not is_word(won.hyperparameters.get(cell.method.switch or "", 0.0)):
        return True
    summaries = [rows[key].summary for key in value.keys.values()]
    return any(cell.switch_epoch(won.hyperparameters, summary) is not None for summary in summaries)


def _missing(trials: Iterable[Trial], rows: Mapping[str, TrialRow]) -> int:
    return sum(trial.key not in rows or rows[trial.key].outcome not in FINISHED for trial in trials)


_Pair = tuple[PairResult, Paired | None]
"""A pair, and the data of its interval if it has one."""


def _pairs(results: Sequence[CellResult], examples: Mapping[str, Outcomes]) -> tuple[_Pair, ...]:
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
    examples: Mapping[str, Outcomes],
) -> _Pair:
    data, difference, notes = None, None, list(noted)
    comparable = _comparable(noted)
    if comparable and base.confirmed and challenger.confirmed:
        spread = sum(result.stability.variance or 0.0 for result in (base, challenger) if result.stability)
        bound = 100.0 if base.cell.metric.unit == "%" else math.inf
        data = paired(base.confirmed, challenger.confirmed, examples, spread, bound)
        notes += _pairing_notes(data, max(base.confirmed.n, challenger.confirmed.n))
    if data is not None:
        difference = _difference(data, family, base.cell.protocol.margin)
    verdict = _verdict(base, challenger, difference) if comparable else Verdict.NOT_COMPARABLE
    if comparable:
        shared = shared_points(base.cell, base.points, challenger.cell, challenger.points)
        worse = verdict is Verdict.WORSE
        notes += pair_alarms(base.cell, challenger.cell, shared, base.winner, family, worse=worse)
    result = PairResult(
        baseline=base, challenger=challenger, difference=difference, verdict=verdict, notes=in_order(notes)
    )
    return result, data


def _pairing_notes(data: Paired | None, most: int) -> list[Note]:
    """Returns which seeds a pair lacks, of the `most` that one of its cells has, and whether examples are unknown."""
    if data is None:
        return [Note(Flag.UNPAIRED, "the two methods have no confirm seed in common yet")]
    notes = []
    if (n := len(data.seeds)) < most:
        notes.append(
            Note(
                Flag.UNPAIRED,
                f"paired by the {n} of {most} seeds that both have; the means of the two are over all their own",
            )
        )
    if data.effect and data.examples is None:
        notes.append(
            Note(
                Flag.SEEDS_ONLY,
                "the interval is over seeds only: the metric is not a share of test examples whose outcomes are known",
            )
        )
    return notes


def _difference(data: Paired, family: int, margin: float | None) -> Difference:
    effect = data.effect
    mean = effect.mean if effect else float(data.by_seed.mean())
    return Difference(mean=mean, seeds=data.seeds, effect=effect, family=family, margin=margin)


def _verdict(base: CellResult, challenger: CellResult, difference: Difference | None) -> Verdict:
    if base.all_diverged and challenger.all_diverged:
        return Verdict.NEITHER
    if base.all_diverged and challenger.confirmed:
        return Verdict.NEVER_CONSTRAINED if challenger.never_constrained else Verdict.ONLY_CHALLENGER
    if challenger.all_diverged and base.confirmed:
        return Verdict.ONLY_BASELINE
    if difference is None:
        trained = base.missing == challenger.missing == 0
        return Verdict.LOST if trained and (base.diverged or challenger.diverged) else Verdict.PENDING
    return Verdict.NEVER_CONSTRAINED if challenger.never_constrained else _shown(difference, base.cell.protocol)


def _shown(difference: Difference, protocol: Protocol) -> Verdict:
    """Returns what the interval of a difference shows."""
    interval, margin = difference.interval, difference.margin
    if interval is None:
        return Verdict.UNDECIDED
    if not interval.excludes_zero():
        return Verdict.EQUIVALENT if margin is not None and interval.within(margin) else Verdict.UNDECIDED
    gain = difference.mean if protocol.direction == "maximize" else -difference.mean
    return Verdict.BETTER if gain > 0 else Verdict.WORSE


# --- all cells together ----------------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """What a pair compares: the controls of its two methods, the baseline's by what it stands for, and by which rules.

    Two methods of one rule differ by their controls alone. A baseline without a control stands for what it does to the
    loss, so that label smoothing and flooding are not averaged; a method with neither, as an imported one, for itself.
    """

    challenger: str
    baseline: str
    same_rule: bool


def _overall(pairs: Sequence[_Pair]) -> Overall | None:
    main = _main(pairs)
    if not main:
        return None
    known = [(pair, data) for pair, data in main if data and data.effect and pair.verdict in MEASURED]
    measured, layouts = tuple(pair for pair, _ in known), [data for _, data in known]
    protocol = main[0][0].baseline.cell.protocol
    mean = _together(layouts, [1 / len(known) for _ in known], protocol.margin)
    return Overall(
        pairs=tuple(pair for pair, _ in main),
        measured=measured,
        difference=mean,
        verdict=_shown(mean, protocol) if mean else _without_mean([pair.verdict for pair, _ in main]),
        trend=_together(layouts, _slope(measured), None),
    )


def _without_mean(verdicts: Sequence[Verdict]) -> Verdict:
    """Returns what holds of pairs of which none has an interval."""
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return Verdict.PENDING if Verdict.PENDING in verdicts else Verdict.UNDECIDED


MEASURED = (Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT, Verdict.UNDECIDED)
"""Verdicts of pairs whose difference is one of the two controls."""


def _main(pairs: Sequence[_Pair]) -> list[_Pair]:
    """Returns the pairs of one kind: LAWN if there is any, of one rule, against weight decay, else what most have."""
    kinds = [_kind(pair) for pair, _ in pairs]
    order = [
        (kind.challenger == LAWN.name, kind.same_rule, kind.baseline == DECAY.side, kinds.count(kind)) for kind in kinds
    ]
    main = kinds[order.index(max(order))] if kinds else None
    return [pair for pair, kind in zip(pairs, kinds, strict=True) if kind == main]


def _kind(pair: PairResult) -> _Kind:
    methods = pair.challenger.cell.method, pair.baseline.cell.method
    challenger, baseline = pair.challenger.cell.control, pair.baseline.cell.control
    return _Kind(
        challenger.name if challenger else methods[0].name,
        (baseline.side or baseline.name)
        if baseline
        else ", ".join(row.name for row in methods[1].loss) or methods[1].name,
        methods[0].rule == methods[1].rule,
    )


def _slope(pairs: Sequence[PairResult]) -> list[float]:
    """Returns the weights w of pairs for which Σ w·D is the slope of D over log2(batch size); [] if there is none.

    Each two methods have an offset, as one that is compared at large sizes only would pass for a trend.
    """
    sizes = [([result.cell.name.optimizer for result in pair.cells], math.log2(pair.batch_size)) for pair in pairs]
    centered = [x - float(np.mean([other for names, other in sizes if names == methods])) for methods, x in sizes]
    total = math.fsum(x * x for x in centered)
    return [x / total for x in centered] if total > 0 else []


def _together(data: Sequence[Paired], weights: Sequence[float], margin: float | None) -> Difference | None:
    if not weights:
        return None
    effect = supported(data, weights)
    mean = math.fsum(weight * float(found.by_seed.mean()) for weight, found in zip(weights, data, strict=True))
    shared = in_common(data)
    fewest = shared if effect and effect.seeds == len(shared) else min((found.seeds for found in data), key=len)
    return Difference(mean=effect.mean if effect else mean, seeds=fewest, effect=effect, family=1, margin=margin)


def _seconds(trials: Iterable[TrialRow]) -> dict[str, float]:
    spent: dict[str, list[float]] = {}
    for row in trials:
        spent.setdefault(row.cell, []).append(row.summary.get("seconds") or 0.0)
    return {cell: math.fsum(values) for cell, values in spent.items()}
