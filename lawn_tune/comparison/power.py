"""How many confirm seeds each pair needs to find a difference of a given size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from lawn_tune.comparison.comparison import Comparison, PairResult, Verdict
from lawn_tune.comparison.inference import Effect

PRIOR_SPREAD = 0.5
"""Standard deviation of one method's runs in points, where the ledger has no pair to learn from (our choice)."""

Basis = Literal["ledger", "other pairs", "prior", "unknown"]


class Needed(NamedTuple):
    """What a pair needs.

    Args:
        baseline, challenger: names of its cells.
        seeds: confirm seeds with which four of five studies find the difference; None where no number would do.
        planned: confirm seeds now planned for both.
        detectable: difference that the planned seeds find; None for fewer than two.
        basis: where the spread is from: this pair in the ledger, the mean of the space's other pairs, or the prior;
            unknown for a metric that is not in percent, of which nothing is assumed: no number is given then.
        spread: standard deviation of the difference between runs, in points.
        limit: difference that is found with any number of seeds, for the test examples and the choice of the winners
            that there are; None if unknown.
    """

    baseline: str
    challenger: str
    seeds: int | None
    planned: int
    detectable: float | None
    basis: Basis
    spread: float | None
    limit: float | None


def needed(comparison: Comparison, difference: float) -> tuple[Needed, ...]:
    """Returns what each pair of a space needs to find a true `difference` (points), by the intervals that are shown.

    Args:
        comparison: of the cells as planned; those without results count as well.
        difference: more than 0.
    """
    pairs = [pair for pair in comparison.pairs if pair.verdict is not Verdict.NOT_COMPARABLE]
    known = [found for pair in pairs if (found := _effect(pair)) is not None]
    return tuple(_needed(pair, known, difference, len(pairs)) for pair in pairs)


def _needed(pair: PairResult, known: Sequence[Effect], difference: float, family: int) -> Needed:
    own = _effect(pair)
    cells = (pair.baseline.cell, pair.challenger.cell)
    percent = cells[0].metric.unit == "%"
    effect = own or _mean(known) or (prior() if percent else None)
    planned = min(len(cell.protocol.confirm_seeds) for cell in cells)
    limited = effect is not None and (effect.examples is not None or effect.by_selection > 0)
    return Needed(
        baseline=str(cells[0].name),
        challenger=str(cells[1].name),
        seeds=effect.seeds_to_detect(difference, family) if effect else None,
        planned=planned,
        detectable=effect.detectable(family, planned) if effect and planned > 1 else None,
        basis="ledger" if own else "other pairs" if known else "prior" if percent else "unknown",
        spread=math.sqrt(effect.by_seed * effect.seeds) if effect else None,
        limit=replace(effect, by_seed=0.0).detectable(family) if effect and limited else None,
    )


def _effect(pair: PairResult) -> Effect | None:
    """Returns what is known of a pair; None where runs collapsed, whose spread is not that of the others."""
    return pair.telling.effect if pair.telling else None


def _mean(known: Sequence[Effect]) -> Effect | None:
    """Returns an effect of the mean variances: of a run, of the choice of examples, and of that of winners; no mean."""
    if not known:
        return None
    examples = [effect.examples for effect in known if effect.examples is not None]

    def mean(values: Sequence[float]) -> float:
        return math.fsum(values) / len(known)

    return Effect(
        mean=math.nan,
        seeds=2,
        examples=min(examples) if examples else None,
        by_seed=mean([effect.by_seed * effect.seeds for effect in known]) / 2,
        by_example=mean([effect.by_example for effect in known]),
        by_selection=mean([effect.by_selection for effect in known]),
    )


def prior() -> Effect:
    """Returns the effect of two methods whose runs both have `PRIOR_SPREAD`; nothing is assumed of the test set."""
    return Effect(mean=math.nan, seeds=2, examples=None, by_seed=2 * PRIOR_SPREAD**2 / 2, by_example=0.0)
