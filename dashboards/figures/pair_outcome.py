"""What a pair of cells has shown so far: its tone, and its difference in search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from lawn_tune.comparison.comparison import PairResult, Verdict

Tone = Literal["better", "worse", "open", "none"]
"""The challenger better, worse, measured without a winner, and no verdict at all."""


TONES: Mapping[Verdict, Tone] = {
    Verdict.BETTER: "better",
    Verdict.ONLY_CHALLENGER: "better",
    Verdict.WORSE: "worse",
    Verdict.ONLY_BASELINE: "worse",
    Verdict.EQUIVALENT: "open",
    Verdict.UNDECIDED: "open",
}


def searched(pair: PairResult) -> float | None:
    """Returns the difference of the best values of the two searches, which no fresh run supports; None without one."""
    base, lawn = pair.baseline.winner, pair.challenger.winner
    comparable = pair.verdict is not Verdict.NOT_COMPARABLE
    return lawn.value - base.value if base and lawn and comparable else None
