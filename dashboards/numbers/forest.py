"""Paired differences LAWN − weight decay of many pairs, as a forest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from lawn_tune.comparison.compare import PairResult, Verdict
from lawn_tune.comparison.published import printed
from lawn_tune.comparison.verdicts import sentence
from lawn_tune.words import metric_name, metric_of, p_value

Tone = Literal["better", "worse", "open", "none"]
"""LAWN better, LAWN worse, measured but not separable, and no verdict at all."""

TONES: Mapping[Verdict, Tone] = {
    Verdict.BETTER: "better",
    Verdict.ONLY_LAWN: "better",
    Verdict.WORSE: "worse",
    Verdict.ONLY_BASE: "worse",
    Verdict.NOT_SEPARABLE: "open",
}


class ForestRow(NamedTuple):
    """One pair.

    Args:
        space, base, lawn, batch_size: which one.
        mean: LAWN − base in the metric's unit: paired over fresh seeds, else of the searches' best values, else None.
        low, high: of the 95 % interval; None where there is none.
        confirmed: the mean is over fresh seeds.
        verdict, tone: what can be said.
        sentence: the pair's outcome in words.
        test: "p = 0.250, Holm 0.500", or "".
        paper: the paper's difference on test; None where it prints none, or where ours is not on test.
    """

    space: str
    base: str
    lawn: str
    batch_size: int
    mean: float | None
    low: float | None
    high: float | None
    confirmed: bool
    verdict: Verdict
    tone: Tone
    sentence: str
    test: str
    paper: float | None


class ForestInfo(NamedTuple):
    """Pairs by space, base optimizer and batch size; `maximize` is False where lower is better."""

    metric: str
    digits: int
    maximize: bool
    rows: tuple[ForestRow, ...]

    @property
    def several(self) -> bool:
        """True where the pairs are of more than one space."""
        return len({row.space for row in self.rows}) > 1


def forest_info(pairs: Sequence[PairResult]) -> ForestInfo:
    """Returns the differences of pairs, in the order of space, base optimizer and batch size.

    Pairs whose metric has another direction than the first one's are left out: their axis would point elsewhere.
    """
    first = pairs[0].base.cell.protocol if pairs else None
    same = [pair for pair in pairs if first and pair.base.cell.protocol.direction == first.direction]
    names = dict.fromkeys(metric_name(pair.base.cell.protocol.metric) for pair in same)
    return ForestInfo(
        metric=" or ".join(names),
        digits=metric_of(first.metric).digits if first else 2,
        maximize=first is None or first.direction == "maximize",
        rows=tuple(map(_row, sorted(same, key=_order(same)))),
    )


def _order(pairs: Sequence[PairResult]) -> Callable[[PairResult], tuple[int, int, int]]:
    spaces = list(dict.fromkeys(pair.base.cell.name.space for pair in pairs))
    bases = list(dict.fromkeys(pair.base.cell.name.optimizer for pair in pairs))

    def place(pair: PairResult) -> tuple[int, int, int]:
        name = pair.base.cell.name
        return spaces.index(name.space), bases.index(name.optimizer), name.batch_size

    return place


def _row(pair: PairResult) -> ForestRow:
    name, difference, found = pair.base.cell.name, pair.difference, searched(pair)
    alike = difference is not None or found is None or pair.base.cell.protocol.selection == "test"
    interval = difference.interval if difference else None
    return ForestRow(
        space=name.space,
        base=name.optimizer,
        lawn=pair.lawn.cell.name.optimizer,
        batch_size=name.batch_size,
        mean=difference.mean if difference else found,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        confirmed=difference is not None,
        verdict=pair.verdict,
        tone=TONES.get(pair.verdict, "none"),
        sentence=sentence(pair),
        test=test_text(pair),
        paper=paper_difference(pair) if alike else None,
    )


def searched(pair: PairResult) -> float | None:
    """Returns the difference of the best values of the two searches, which no fresh run supports; None without one."""
    base, lawn = pair.base.winner, pair.lawn.winner
    comparable = pair.verdict is not Verdict.NOT_COMPARABLE
    return lawn.value - base.value if base and lawn and comparable else None


def paper_difference(pair: PairResult) -> float | None:
    """Returns LAWN − base as the paper prints them for this dataset, metric, loss and batch size."""
    base, lawn = printed(pair.base.cell), printed(pair.lawn.cell)
    if base is None or lawn is None or base.mean is None or lawn.mean is None:
        return None
    return lawn.mean - base.mean


def test_text(pair: PairResult) -> str:
    """Returns the p-values of a pair in words, or ""."""
    difference = pair.difference
    if difference is None or difference.test is None:
        return ""
    holm = "" if difference.holm is None else f"; Holm over all pairs of the space {p_value(difference.holm)}"
    least = p_value(difference.test.least)
    return f"exact p {p_value(difference.test.p)} (least with {difference.n} seeds {least}){holm}"
