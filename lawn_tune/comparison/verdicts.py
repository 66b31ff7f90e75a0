"""A comparison in sentences. A claim carries its interval and its n; if LAWN loses, the sentence says so."""

from __future__ import annotations

from collections import Counter

from lawn_tune.comparison.compare import Comparison, Difference, PairResult, Verdict
from lawn_tune.comparison.flags import Flag, plain_base
from lawn_tune.comparison.inference import LEVEL
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


def chance(comparison: Comparison, hidden: bool = False) -> str | None:
    """Returns what several intervals at 95 % imply, or None for fewer than two.

    Args:
        hidden: True if pairs of the space are not in the comparison.
    """
    intervals = sum(1 for pair in comparison.pairs if pair.difference and pair.difference.interval)
    if intervals < 2:
        return None
    over = "all pairs of the space, hidden ones included" if hidden else "all pairs of this table"
    return (
        f"Verdicts rest on {intervals} intervals at {100 * LEVEL:.0f} % each, not adjusted for their number; "
        f"p (Holm) is adjusted for {over}."
    )


def sentence(pair: PairResult) -> str:
    """Returns one pair's outcome in words; a LAWN winner that never was constrained is named as such."""
    return " ".join((_outcome(pair), *_unconstrained(pair)))


def _unconstrained(pair: PairResult) -> list[str]:
    if not pair.challenger.never_constrained:
        return []
    name, plain = method(pair.challenger.cell.name.optimizer), plain_base(pair.challenger.cell)
    return [f"The winner of {name} never reached its constraint: it is {plain}, not LAWN."]


def _outcome(pair: PairResult) -> str:
    base, lawn = method(pair.baseline.cell.name.optimizer), method(pair.challenger.cell.name.optimizer)
    where = f"at batch {pair.batch_size:,}"
    if pair.verdict is Verdict.NOT_COMPARABLE:
        why = "; ".join(note.text for note in pair.notes if note.flag is Flag.DIFFERENT_TASKS)
        return f"{lawn} and {base} {where} are not comparable: {why}."
    if pair.verdict is Verdict.NEITHER:
        return f"{lawn} against {base} {where}: both diverged everywhere."
    if pair.verdict is Verdict.NEVER_CONSTRAINED and pair.difference is None:
        return f"{lawn} against {base} {where}: no verdict, every point of {base}'s grid diverged."
    if pair.verdict is Verdict.ONLY_LAWN:
        return f"{base} {where} diverged everywhere, {lawn} did not."
    if pair.verdict is Verdict.ONLY_BASE:
        return f"{lawn} {where} diverged everywhere, {base} did not: LAWN loses here."
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
    digits = metric_of(pair.baseline.cell.protocol.metric).digits
    shown = f"{fixed(abs(difference.mean), digits)} points"
    proof = evidence(difference, digits)
    maximize = pair.baseline.cell.protocol.direction == "maximize"
    side = "better" if (difference.mean > 0) == maximize else "worse"
    than = f"{shown} {side} than" if round(difference.mean, digits) else "equal to"
    if pair.verdict in (Verdict.BETTER, Verdict.WORSE):
        return f"{lawn_is} {shown} {side} than {base} {where} ({proof})."
    if pair.verdict is Verdict.NEVER_CONSTRAINED:
        return f"{lawn_is} {than} {base} {where} ({proof}): no verdict."
    if pair.verdict is Verdict.TOO_FEW:
        seeds = "the one seed" if difference.n == 1 else f"the {difference.n} seeds"
        return f"{lawn_is} {than} {base} {where} on {seeds} both have ({proof}): too few seeds for a verdict."
    if than == "equal to":
        return f"{lawn_is} equal to {base} {where} in the mean ({proof}): not separable."
    change = signed(difference.mean, digits)
    return f"{lawn_is} not separable from {base} {where}: LAWN − WD is {change} points ({proof})."


_PHRASES = {
    Verdict.BETTER: "LAWN is better",
    Verdict.WORSE: "LAWN is worse",
    Verdict.NOT_SEPARABLE: "the two are not separable",
    Verdict.TOO_FEW: "too few seeds for a verdict",
    Verdict.NEVER_CONSTRAINED: "the winner of LAWN never reached its constraint, so no verdict,",
    Verdict.ONLY_LAWN: "weight decay diverged everywhere",
    Verdict.ONLY_BASE: "LAWN diverged everywhere",
    Verdict.NEITHER: "both diverged everywhere",
    Verdict.NOT_COMPARABLE: "not comparable, as the two are not of the same task,",
    Verdict.PENDING: "confirm runs are missing",
}
