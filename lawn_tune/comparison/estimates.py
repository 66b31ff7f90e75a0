"""A cell's value over its seeds, from the trials of a ledger."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lawn_tune.cells import Phase
from lawn_tune.comparison.inference import mean_and_error
from lawn_tune.results import TrialRow


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A cell's value.

    Args:
        phase: "confirm" for the test metric of fresh runs; "search" for the value that selected, the best of a grid.
        series: name of the value in a trial's summary.
        values: seed → value, in the order of the protocol's seeds.
        keys: seed → key of the trial.
        mean: over seeds, in the metric's unit.
        error: standard error of the mean; None for one seed and for a search value, which is shown without.
    """

    phase: Phase
    series: str
    values: Mapping[int, float]
    keys: Mapping[int, str]
    mean: float
    error: float | None

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)


def estimate(phase: Phase, series: str, keys: Mapping[int, str], rows: Mapping[str, TrialRow]) -> Estimate | None:
    """Returns the mean of a series over the complete trials among `keys` (seed → key), None without any value."""
    complete = {seed: rows[key] for seed, key in keys.items() if key in rows and rows[key].outcome == "complete"}
    measured = {seed: row.summary.get(series) for seed, row in complete.items()}
    values = {seed: value for seed, value in measured.items() if value is not None and math.isfinite(value)}
    if not values:
        return None
    mean, error = mean_and_error(list(values.values()))
    return Estimate(
        phase=phase,
        series=series,
        values=values,
        keys={seed: keys[seed] for seed in values},
        mean=mean,
        error=error if phase == "confirm" else None,
    )
