"""Runs of one setting with different seeds as one: mean, lowest and highest of their curves, and their bins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lawn_tune.results import BINS, TrialRow

LOWEST, HIGHEST = "lowest of ", "highest of "
"""What the names of a series over seeds begin with, next to the name of its mean."""

Curve = dict[str, NDArray[np.float64]]


def mean_row(rows: Sequence[TrialRow]) -> TrialRow:
    """Returns runs of one cell's winner as one row with the cell's name as its key.

    Values are means over the runs that have all of them; the bins of reliability diagrams hold the predictions of all.
    """
    names = dict.fromkeys(name for row in rows for name in row.summary if not name.startswith(BINS))
    summary = {name: _mean([row.summary.get(name) for row in rows]) for name in names}
    epochs = max(row.epochs for row in rows)
    return replace(rows[0], key=rows[0].cell, summary=summary | _pooled(rows), epochs=epochs)


def mean_curve(curves: Sequence[Mapping[str, NDArray[np.float64]]]) -> Curve:
    """Returns series → mean over runs [epochs], and their lowest and highest under `LOWEST` and `HIGHEST`.

    An epoch that a run did not measure is left out of its mean.
    """
    found: Curve = {}
    for name in dict.fromkeys(name for curve in curves for name in curve):
        known = [curve[name] for curve in curves if name in curve]
        length = max(map(len, known))
        padded = np.stack([np.pad(values, (0, length - len(values)), constant_values=np.nan) for values in known])
        measured = np.ma.masked_invalid(padded)
        for prefix, value in (
            ("", measured.mean(axis=0)),
            (LOWEST, measured.min(axis=0)),
            (HIGHEST, measured.max(axis=0)),
        ):
            found[f"{prefix}{name}"] = np.ma.filled(np.ma.asarray(value, dtype=np.float64), np.nan)
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


def _pooled(rows: Sequence[TrialRow]) -> dict[str, float | None]:
    bins = [b for row in rows for b in row.calibration]
    found: dict[str, float | None] = {}
    for place in sorted({b.place for b in bins}):
        here = [b for b in bins if b.place == place]
        n = sum(b.examples for b in here)
        found |= {
            f"{BINS}examples/{place:02d}": float(n),
            f"{BINS}confidence/{place:02d}": math.fsum(b.examples * b.confidence for b in here) / n,
            f"{BINS}accuracy/{place:02d}": math.fsum(b.examples * b.accuracy for b in here) / n,
        }
    return found
