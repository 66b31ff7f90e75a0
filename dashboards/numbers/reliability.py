"""Reliability diagrams: how often predictions of each confidence are right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from dashboards.numbers.dynamics import Chosen, chosen
from lawn_tune.cells import Cell
from lawn_tune.results import CalibrationBin, TrialRow
from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.losses import ECE_BINS


class ReliabilityLine(NamedTuple):
    """One trial's filled bins on the test split, and their expected calibration error as a fraction."""

    trial: Chosen
    bins: tuple[CalibrationBin, ...]
    examples: int
    ece: float


class ReliabilityInfo(NamedTuple):
    """The diagrams of several trials; `without` are those that recorded none, `bins` how many equal ones there are."""

    lines: tuple[ReliabilityLine, ...]
    without: tuple[Chosen, ...]
    bins: int


def reliability_info(cells: Sequence[Cell], rows: Sequence[TrialRow]) -> ReliabilityInfo:
    """Returns the diagrams of the trials in `rows`, in their order."""
    trials = chosen(cells, rows)
    lines = tuple(_line(trial, row) for trial, row in zip(trials, rows, strict=True) if row.calibration)
    without = tuple(trial for trial, row in zip(trials, rows, strict=True) if not row.calibration)
    return ReliabilityInfo(lines, without, ECE_BINS)


def ranks(cell: Cell) -> bool:
    """True for a task that ranks candidates: its scores are no probability of being right, so nothing is calibrated."""
    known = DATASETS.get(cell.task.dataset)
    return known is not None and "hr@10" in known.metrics


def _line(trial: Chosen, row: TrialRow) -> ReliabilityLine:
    examples = sum(b.examples for b in row.calibration)
    gaps = math.fsum(b.examples * abs(b.accuracy - b.confidence) for b in row.calibration)
    return ReliabilityLine(trial, row.calibration, examples, gaps / examples)
