"""What a pair of cells has shown so far: its tone, its difference in search, in print, and its test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from lawn_tune.comparison.compare import PairResult, Verdict
from lawn_tune.comparison.published import printed
from lawn_tune.words import p_value

Tone = Literal["better", "worse", "open", "none"]
"""LAWN better, LAWN worse, measured but not separable, and no verdict at all."""


TONES: Mapping[Verdict, Tone] = {
    Verdict.BETTER: "better",
    Verdict.ONLY_LAWN: "better",
    Verdict.WORSE: "worse",
    Verdict.ONLY_BASE: "worse",
    Verdict.NOT_SEPARABLE: "open",
}


def searched(pair: PairResult) -> float | None:
    """Returns the difference of the best values of the two searches, which no fresh run supports; None without one."""
    base, lawn = pair.baseline.winner, pair.challenger.winner
    comparable = pair.verdict is not Verdict.NOT_COMPARABLE
    return lawn.value - base.value if base and lawn and comparable else None


def paper_difference(pair: PairResult) -> float | None:
    """Returns LAWN − base as the paper prints them for this dataset, metric, loss and batch size."""
    base, lawn = printed(pair.baseline.cell), printed(pair.challenger.cell)
    if base is None or lawn is None or base.mean is None or lawn.mean is None:
        return None
    return lawn.mean - base.mean


def test_text(pair: PairResult) -> str:
    """Returns the p-values of a pair, or ""."""
    difference = pair.difference
    if difference is None or difference.test is None:
        return ""
    holm = "" if difference.holm is None else f"; Holm-adjusted for all pairs of the space {p_value(difference.holm)}"
    lowest = p_value(difference.test.lowest)
    return f"exact p {p_value(difference.test.p)} (lowest possible with {difference.n} seeds: {lowest}){holm}"
