"""A comparison in sentences. A claim carries its interval and its n; if LAWN loses, the sentence says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lawn_tune.cells import Cell, Protocol
from lawn_tune.comparison.comparison import Comparison, Overall, PairResult, Verdict
from lawn_tune.comparison.differences import Difference
from lawn_tune.comparison.flags import Flag, plain_base
from lawn_tune.comparison.inference import LEVEL, Interval
from lawn_tune.comparison.published import printed_difference
from lawn_tune.words import count, difference_text, every, fixed, method, metric_of, signed


def headline(comparison: Comparison) -> str:
    """Returns the comparison in one sentence: how many pairs end how."""
    if not comparison.pairs:
        return "There is no pair of a baseline and its challenger to compare."
    found = Counter(pair.verdict for pair in comparison.pairs)
    total = len(comparison.pairs)
    challenger, baseline = sides(comparison.pairs)
    parts = [
        f"{_PHRASES[verdict].format(challenger=challenger, baseline=baseline)} in {found[verdict]} of {total}"
        for verdict in Verdict
        if found[verdict]
    ]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]} comparison{'' if total == 1 else 's'}."


def sides(pairs: Sequence[PairResult]) -> tuple[str, str]:
    """Returns what challengers and baselines are called together: "LAWN" and "weight decay" where all of them are."""
    challengers = {side(pair.challenger.cell) for pair in pairs}
    baselines = {side(pair.baseline.cell) for pair in pairs}
    return (
        challengers.pop() if len(challengers) == 1 else "the challenger",
        baselines.pop() if len(baselines) == 1 else "the baseline",
    )


def side(cell: Cell) -> str:
    """Returns what a cell stands for in a comparison: "LAWN", "weight decay", or the name of its method."""
    return cell.side


def verdict_text(pair: PairResult) -> str:
    """Returns the verdict in a few words: "LAWN better"."""
    challenger, baseline = side(pair.challenger.cell), side(pair.baseline.cell)
    words = {
        Verdict.BETTER: f"{challenger} better",
        Verdict.WORSE: f"{challenger} worse",
        Verdict.ONLY_CHALLENGER: f"{baseline} diverged everywhere",
        Verdict.ONLY_BASELINE: f"{challenger} diverged everywhere",
        Verdict.NEVER_CONSTRAINED: "winner never constrained, no verdict",
    }
    return words.get(pair.verdict, pair.verdict.value)


def level_text(family: int) -> str:
    """Returns what the level of an interval means: "95 % interval", for several pairs with what it holds for."""
    level = f"{100 * LEVEL:.0f} % interval"
    return level if family == 1 else f"{level} for {every(family, 'pair')}"


BY_ITSELF = f"The interval of a mean over pairs, or of a trend, holds with {100 * LEVEL:.0f} % confidence by itself."
"""How the intervals of all cells together differ from those of pairs."""


ADDED = "Seeds were added when results were known; intervals do not allow for that."
"""What is said of a pair with confirm seeds that the first launch did not plan."""


def family_text(comparison: Comparison) -> str | None:
    """Returns what several intervals at 95 % imply, or None for a single one."""
    family = next((pair.difference.family for pair in comparison.pairs if pair.difference), 1)
    if family == 1:
        return None
    return (
        f"The intervals of {every(family, 'pair')} of the space hold together with {100 * LEVEL:.0f} % confidence; "
        f"each verdict says whether its interval excludes zero. {BY_ITSELF}"
    )


def sentence(pair: PairResult) -> str:
    """Returns one pair's outcome in words, and the paper's; a LAWN winner that never was constrained is named so."""
    difference = pair.difference
    useless = difference is not None and difference.effect is not None and pair.collapsed
    return " ".join(filter(None, (*_statement(pair), "" if useless else to_decide(pair), *_paper(pair))))


def _statement(pair: PairResult) -> list[str]:
    """Returns one pair's outcome, and what it is conditional on."""
    return [_outcome(pair), *_unconstrained(pair), *conditions(pair)]


def conditions(pair: PairResult) -> list[str]:
    """Returns what a reader of a pair's difference must know of its runs."""
    collapsed = ["Confirm runs collapsed: mean and interval describe no single run."] if pair.collapsed else []
    lost = [f"{_lost(pair)}, and the difference leaves them out."] if pair.diverged else []
    return [*lost, *collapsed, *_seeds([pair])]


def _lost(pair: PairResult) -> str:
    """Returns how many confirm runs of each side diverged: "2 of 3 confirm runs of Adam diverged"."""
    found = [
        f"{result.diverged} of {count(len(result.cell.protocol.confirm_seeds), 'confirm run')} of "
        f"{method(result.cell.name.optimizer)}"
        for result in pair.cells
        if result.diverged
    ]
    return f"{' and '.join(found)} diverged"


def _paper(pair: PairResult) -> list[str]:
    cells = pair.baseline.cell, pair.challenger.cell
    printed = printed_difference(*cells)
    if printed is None:
        return []
    size = difference_text(signed(printed, 2), cells[0].protocol.metric)
    return [f"The paper prints {size} for this pair, under its own setup."]


def _seeds(pairs: Sequence[PairResult]) -> list[str]:
    """Says where the confirm seeds of pairs are not those that the first launch planned."""
    interim = ["Interim: planned confirm runs are missing."] if any(pair.interim for pair in pairs) else []
    return interim + [ADDED] * any(pair.seeds_added for pair in pairs)


def _unconstrained(pair: PairResult) -> list[str]:
    if not pair.challenger.never_constrained:
        return []
    name, plain = method(pair.challenger.cell.name.optimizer), plain_base(pair.challenger.cell)
    return [f"The winner of {name} never reached its constraint: it is {plain}, not {side(pair.challenger.cell)}."]


def _outcome(pair: PairResult) -> str:
    base, challenger = method(pair.baseline.cell.name.optimizer), method(pair.challenger.cell.name.optimizer)
    where = f"at batch {pair.batch_size:,}"
    if pair.verdict is Verdict.NOT_COMPARABLE:
        why = "; ".join(note.text for note in pair.notes if note.flag is Flag.DIFFERENT_TASKS)
        return f"{challenger} and {base} {where} are not comparable: {why}."
    if pair.verdict is Verdict.NEITHER:
        return f"{challenger} against {base} {where}: both diverged everywhere."
    if pair.verdict is Verdict.NEVER_CONSTRAINED and pair.difference is None:
        return f"{challenger} against {base} {where}: no verdict, every point of {base}'s grid diverged."
    if pair.verdict is Verdict.ONLY_CHALLENGER:
        return f"{base} {where} diverged everywhere, {challenger} did not."
    if pair.verdict is Verdict.ONLY_BASELINE:
        return f"{challenger} {where} diverged everywhere, {base} did not: {side(pair.challenger.cell)} loses here."
    if pair.verdict is Verdict.LOST:
        return f"{challenger} against {base} {where}: no verdict, {_lost(pair)}, and no seed is left that both have."
    if pair.difference is None:
        unpaired = all(result.confirmed for result in pair.cells)
        why = "the two have no confirm seed in common" if unpaired else "confirm runs are missing"
        return f"{challenger} against {base} {where}: no verdict yet, {why}."
    return _measured(pair, pair.difference, challenger, f"{base} {where}")


def evidence(difference: Difference, digits: int) -> str:
    """Returns interval and n of a difference: "95 % interval -0.1 to 0.9, n = 3 seeds × 943 test examples"."""
    over = count(difference.n, "seed")
    if difference.examples is not None:
        over += f" × {count(difference.examples, 'test example')}"
    if difference.interval is None:
        return f"n = {over}, no interval"
    return f"{level_text(difference.family)} {interval_text(difference, digits)}, n = {over}"


def interval_text(difference: Difference, digits: int) -> str:
    """Returns an interval's ends: "−0.1 to 0.9"; "–" for one seed."""
    interval = difference.interval
    return " to ".join(interval_ends(difference, interval, digits)) if interval else "–"


def interval_ends(difference: Difference, interval: Interval, digits: int) -> tuple[str, str]:
    """Returns the lower and the upper end of the interval of a difference."""
    shown = enough_digits(difference, digits)
    return signed(interval.low, shown), signed(interval.high, shown)


def enough_digits(difference: Difference, digits: int) -> int:
    """Returns the digits, `digits` or a few more, at which the ends as printed show the same verdict as the numbers."""
    interval, margin = difference.interval, difference.margin

    def verdict(found: Interval) -> tuple[bool, bool]:
        return found.excludes_zero(), margin is not None and found.within(margin)

    return next(
        (
            n
            for n in range(digits, digits + 6)
            if interval is None
            or verdict(Interval(round(interval.low, n), round(interval.high, n))) == verdict(interval)
        ),
        digits,
    )


def _measured(pair: PairResult, difference: Difference, challenger: str, base: str) -> str:
    protocol = pair.baseline.cell.protocol
    proof, than = evidence(difference, metric_of(protocol.metric).digits), _than(difference, protocol)
    if pair.verdict is Verdict.NEVER_CONSTRAINED:
        return f"{challenger} is {than} {base} ({proof}): no verdict."
    if pair.verdict is Verdict.EQUIVALENT:
        margin = difference_text(f"±{difference.margin:g}", protocol.metric)
        return f"{challenger} is as good as {base} within {margin} ({proof})."
    if pair.verdict is Verdict.UNDECIDED:
        return f"{challenger} is {than} {base} in these runs ({proof}): undecided."
    return f"{challenger} is {than} {base} ({proof})."


def _than(difference: Difference, protocol: Protocol) -> str:
    """Returns a difference in words: "0.52 points better than", or "equal to" where that is zero as printed."""
    digits = enough_digits(difference, metric_of(protocol.metric).digits)
    word = "better" if (difference.mean > 0) == (protocol.direction == "maximize") else "worse"
    size = difference_text(fixed(abs(difference.mean), digits), protocol.metric)
    return f"{size} {word} than" if round(difference.mean, digits) else "equal to"


# --- all cells together ----------------------------------------------------------------------------------------------


def overall_sentence(overall: Overall) -> str:
    """Returns the statement over all cells in plain words: mean, verdicts by comparison, trend over batch size."""
    return " ".join(overall_sentences(overall))


def overall_sentences(overall: Overall) -> list[str]:
    """Returns the sentences of the statement over all cells, those that there are; of one pair, its outcome."""
    if len(overall.pairs) == 1:
        return _statement(overall.pairs[0])
    pairs = overall.measured
    parts = (_mean(overall), _counts(overall), _trend(overall), _diverged(pairs), _collapsed(pairs), *_seeds(pairs))
    return [text for text in parts if text]


def _diverged(pairs: Sequence[PairResult]) -> str:
    """Says in how many pairs runs diverged; "" for none."""
    which = _among([pair.diverged for pair in pairs])
    return f"In {which} confirm runs diverged, and mean and trend leave them out." if which else ""


def _collapsed(pairs: Sequence[PairResult]) -> str:
    """Says in how many pairs runs collapsed; "" for none."""
    which = _among([pair.collapsed for pair in pairs])
    return f"In {which} confirm runs collapsed, and mean and trend depend on them." if which else ""


def _among(pairs: Sequence[bool]) -> str:
    """Returns for how many of the pairs something is true, "" for none, and of one pair, of which there is no mean."""
    return f"{sum(pairs)} of these {len(pairs)}" if len(pairs) > 1 and any(pairs) else ""


def _counts(overall: Overall) -> str:
    """Returns "Of 4 comparisons: 1 better, 3 undecided." or "All 4 comparisons are undecided."."""
    found, number = overall.verdicts, len(overall.pairs)
    if found.keys() == {Verdict.UNDECIDED}:
        which = every(number, "comparison")
        return f"{which[0].upper()}{which[1:]} are undecided."
    counts = ", ".join(f"{found[verdict]} {verdict.value}" for verdict in Verdict if found[verdict])
    return f"Of {count(number, 'comparison')}: {counts}."


def _mean(overall: Overall) -> str:
    """Returns what holds on average; "" without an interval, and for one pair, whose own sentence says it."""
    difference = overall.difference
    if difference is None or len(overall.measured) < 2:
        return ""
    challenger, baseline = sides(overall.pairs)
    protocol = overall.pairs[0].baseline.cell.protocol
    where = f"on average over {count(len(overall.measured), 'comparison')}"
    proof = evidence(difference, metric_of(protocol.metric).digits)
    if overall.verdict is Verdict.EQUIVALENT:
        margin = difference_text(f"±{difference.margin:g}", protocol.metric)
        return f"{challenger} is as good as {baseline} within {margin} {where} ({proof})."
    end = " in these runs" if overall.verdict is Verdict.UNDECIDED else ""
    undecided = ": undecided" if end else ""
    return f"{challenger} is {_than(difference, protocol)} {baseline} {where}{end} ({proof}){undecided}."


def _trend(overall: Overall) -> str:
    """Returns how the difference changes with the batch size; "" for one batch size."""
    trend, protocol = overall.trend, overall.pairs[0].baseline.cell.protocol
    if trend is None or trend.interval is None:
        return ""
    digits = metric_of(protocol.metric).digits
    size = difference_text(signed(trend.mean, enough_digits(trend, digits)), protocol.metric)
    change = f"{size} ({evidence(trend, digits)})"
    start = f"Each doubling of the batch size changes the difference by {change}"
    if not trend.interval.excludes_zero():
        return f"{start}: no trend is settled."
    return f"{start}, in favor of {sides(overall.pairs)[(trend.mean > 0) != (protocol.direction == 'maximize')]}."


# --- what would decide -----------------------------------------------------------------------------------------------


def to_decide(pair: PairResult) -> str:
    """Returns what would decide an undecided pair: a larger difference, more seeds, or a larger test set; else ""."""
    difference = pair.difference
    if pair.verdict is not Verdict.UNDECIDED or difference is None:
        return ""
    if difference.detectable is None:
        if difference.n == 1:
            return "One seed has no interval; at least 2 are needed."
        return f"The {difference.n} seeds show the same difference, which does not tell how much runs vary."
    if pair.collapsed:
        return "As runs collapsed, no number of seeds is named that would decide."
    if difference.finds_nothing:
        return f"{count(difference.n, 'seed')} are too few to find a difference of any size."
    now = _found(difference, difference.detectable, pair.baseline.cell.protocol.metric)
    if difference.margin is None:
        return f"{now}."
    if (needed := difference.seeds_needed) is not None:
        return f"{now}; about {count(needed, 'seed')} would decide at a margin of {difference.margin:g}."
    if difference.examples is None:
        return f"{now}; no number of seeds that could be run is certain to decide at a margin of {difference.margin:g}."
    limit = f"the {count(difference.examples, 'test example')}"
    if difference.effect and difference.effect.by_selection:
        limit += " and the choice of the winners"
    none = f"no number of seeds is certain to decide at a margin of {difference.margin:g}"
    return f"{now}; {none}: {limit} are the limit."


def _found(difference: Difference, detectable: float, metric: str) -> str:
    """Returns which true difference so many seeds find, and how many would find one of this mean."""
    digits = metric_of(metric).digits
    size, mean = (difference_text(fixed(value, digits), metric) for value in (detectable, abs(difference.mean)))
    now = f"Four in five such studies would find a true difference of {size}"
    needed = difference.seeds_to_find
    return now if needed is None else f"{now}, and with about {count(needed, 'seed')} one of {mean}, as measured"


_PHRASES: dict[Verdict, str] = {
    Verdict.BETTER: "{challenger} is better",
    Verdict.WORSE: "{challenger} is worse",
    Verdict.EQUIVALENT: "the two are equivalent",
    Verdict.UNDECIDED: "undecided",
    Verdict.NEVER_CONSTRAINED: "the winner of {challenger} never reached its constraint, so no verdict,",
    Verdict.ONLY_CHALLENGER: "{baseline} diverged everywhere",
    Verdict.ONLY_BASELINE: "{challenger} diverged everywhere",
    Verdict.NEITHER: "both diverged everywhere",
    Verdict.LOST: "confirm runs diverged and none is left to compare,",
    Verdict.NOT_COMPARABLE: "not comparable, as the two are not of the same task,",
    Verdict.PENDING: "confirm runs are missing",
}
