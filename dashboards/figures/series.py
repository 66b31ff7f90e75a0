"""Recorded series over epochs: reading those that can be read, and thinning long ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Curves = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""key → series → values [epochs], NaN where not measured."""


CURVE_POINTS = 300
"""Number of epochs that longer curves are thinned to; first and last are kept."""


def readable(read: Callable[[Sequence[str]], Curves], keys: Sequence[str]) -> tuple[Curves, dict[str, str]]:
    """Returns the curves that can be read, and key → why of the others: one that is damaged hides no other."""
    try:
        return read(keys), {}
    except ValueError:
        found: dict[str, Mapping[str, NDArray[np.float64]]] = {}
        broken: dict[str, str] = {}
        for key in keys:
            try:
                found |= read([key])
            except ValueError as error:
                broken[key] = str(error)
        return found, broken


def thinned(epochs: int, points: int) -> NDArray[np.int64]:
    """Returns the indices [<= points] of the epochs that are kept, evenly spread, first and last included."""
    return np.unique(np.linspace(0, epochs - 1, min(epochs, points)).round().astype(np.int64))
