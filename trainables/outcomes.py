"""What training reports: an epoch of a pack, and what remains of a finished trial. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

SERIES = (
    "train_loss",
    "learning_rate",
    "grad_norm",
    "weight_norm",
    "last_layer_norm",
    "last_bn_gamma_norm",
    "margin_p10",
    "margin_p50",
    "margin_p90",
)
"""Measured for every trial each epoch, as are "validation/<metric>" and "test/<metric>" of the dataset's metrics."""

SWITCH_EPOCH = "switch_epoch"
"""Epochs before the control of a trial that switches by itself began; None before, and where it never did."""


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch's measurements of a whole pack.

    Args:
        epoch: epochs finished, from 1.
        series: name → one value per member in the order of the pack; None where not measured or already diverged.
    """

    epoch: int
    series: Mapping[str, list[float | None]]


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """What remains of one finished trial.

    Args:
        key: the trial's key.
        outcome: "complete", or "diverged" when a loss or weight stopped being finite.
        epochs: epochs finished by this trial.
        summary: "last/<series>", "best/<series>" and "ece" values; "seconds" (device time of the pack over its
            members), "peak_memory_bytes"; of classifiers "calibration/<examples, confidence or accuracy>/<bin from 00>"
            of the reliability diagram's bins that hold an example of the test split.
        examples: outcome on each test example, see `trainables.examples`. Empty if diverged.
        example_count: number of test examples, as the last byte may be padded.
        constrained: names of the tensors whose norm LAWN holds in the constrained phase; () for base optimizers.
    """

    key: str
    outcome: Literal["complete", "diverged"]
    epochs: int
    summary: Mapping[str, float | None]
    examples: bytes = b""
    example_count: int = 0
    constrained: tuple[str, ...] = ()


def diverged(outcomes: Iterable[TrialOutcome]) -> int:
    """Returns how many of some finished trials diverged."""
    return sum(outcome.outcome == "diverged" for outcome in outcomes)
