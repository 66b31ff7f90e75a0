"""What part of many values a figure shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.catalogue.rows import Direction


def better_part(values: Sequence[float], direction: Direction) -> tuple[float, float]:
    """Returns the ends of the better three quarters, so that bad points do not squeeze the good; (0, 1) of nothing."""
    if not values:
        return 0.0, 1.0
    low, high = np.quantile(values, (0.25, 1.0) if direction == "maximize" else (0.0, 0.75))
    return float(low), float(high)
