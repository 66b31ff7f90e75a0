"""A comparison in sentences. A claim carries its interval and its n; if LAWN loses, the sentence says so."""

from __future__ import annotations

from collections import Counter

from lawn_tune.compare import Comparison, Difference, PairResult, Verdict
from lawn_tune.statistics import LEVEL
from lawn_tune.words import count, fixed, method, metric_of, signed


def headline(comparison: Comparison) -> str:
    """Returns the comparison in one sentence: how many pairs end how."""
    if not comparison.pairs:
        return "There is no pair of a base optimizer and its LAWN variant to compare."
    found = Counter(pair.verdict for pair in comparison.pairs)
    total = len(comparison.pairs)
    parts = [f"{_PHRASES[verdict]} in {found[verdict]} of {total}" for verdict in Verdict if found[verdict]]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]} comparison{'' if total == 1 else 's'}."


def chance(comparison: Comparison) -> str | None:
    """Returns what several intervals at 95 % imply, or None for fewer than two."""
    intervals = sum(1 for pair in comparison.pairs if pair.difference and pair.difference.interval)
    if intervals < 2:
        return None
    return (
        f"Verdicts rest on {intervals} intervals at {100 * LEVEL:.0f} % each, not adjusted for their number; "
        f"the Holm column is, over all pairs of this table."
    )


def sentence(pair: PairResult) -> str:
    """Returns one pair's outcome in words."""
    base, lawn = method(pair.base.cell.name.optimizer), method(pair.lawn.cell.name.optimizer)
    where = f"at batch {pair.batch_size:,}"
    if pair.verdict is Verdict.ONLY_LAWN:
        return f"{lawn} trains {where}, while every point of {base}'s grid diverged."
    if pair.verdict is Verdict.ONLY_BASE:
        return f"{base} trains {where}, while every point of {lawn}'s grid diverged: LAWN loses here."
    if pair.difference is None:
        return f"{lawn} against {base} {where}: no verdict yet, confirm runs are missing."
    return _measured(pair, pair.difference, f"{lawn} is", base, where)


def evidence(difference: Difference, digits: int) -> str:
    """Returns interval and n of a difference: "95 % interval -0.1 to 0.9, n = 3 seeds x 943 examples"."""
    over = count(difference.n, "seed")
    if difference.examples is not None:
        over += f" × {count(difference.examples, 'test example')}"
    if difference.interval is None:
        return f"n = {over}, no interval"
    low, high = signed(difference.interval.low, digits), signed(difference.interval.high, digits)
    return f"95 % interval {low} to {high}, n = {over}"


def _measured(pair: PairResult, difference: Difference, lawn_is: str, base: str, where: str) -> str:
    digits = metric_of(pair.base.cell.protocol.metric).digits
    shown = f"{fixed(abs(difference.mean), digits)} points"
    proof = evidence(difference, digits)
    maximize = pair.base.cell.protocol.direction == "maximize"
    side = "better" if (difference.mean > 0) == maximize else "worse"
    if pair.verdict in (Verdict.BETTER, Verdict.WORSE):
        return f"{lawn_is} {shown} {side} than {base} {where} ({proof})."
    if pair.verdict is Verdict.ONE_SEED:
        return f"{lawn_is} {shown} {side} than {base} {where} on the one seed both have ({proof}): no verdict."
    change = signed(difference.mean, digits)
    return f"{lawn_is} not separable from {base} {where}: LAWN − WD is {change} points ({proof})."


_PHRASES = {
    Verdict.BETTER: "LAWN is better",
    Verdict.WORSE: "LAWN is worse",
    Verdict.NOT_SEPARABLE: "the two are not separable",
    Verdict.ONE_SEED: "one seed allows no verdict",
    Verdict.ONLY_LAWN: "only LAWN trains",
    Verdict.ONLY_BASE: "only weight decay trains",
    Verdict.PENDING: "confirm runs are missing",
}
