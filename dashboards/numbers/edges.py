"""Where a winner sits on the border of its grid, and which levels would tell more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lawn_tune.compare import CellResult


class Widening(NamedTuple):
    """A hyperparameter on the edge: its levels in the order of the space's file, and what to add; None if nothing."""

    name: str
    value: float
    levels: tuple[float, ...]
    add: float | None

    @property
    def toml(self) -> str:
        """The line of the space's file, with the level to add in its place."""
        levels = self.levels if self.add is None else tuple(sorted((*self.levels, self.add)))
        return f"{self.name} = [{', '.join(f'{level:g}' for level in levels)}]"


def widenings(result: CellResult) -> tuple[Widening, ...]:
    """Returns what to add to the grid of a cell, one entry a hyperparameter on the edge."""
    won = result.winner
    if won is None:
        return ()
    values = result.cell.grid.values
    return tuple(Widening(name, won.hyperparameters[name], values[name], _next(result, name)) for name in won.edges)


def table_name(result: CellResult) -> str:
    """Returns the table of the space's file that holds a cell's grid."""
    return f"[optimizers.{result.cell.name.optimizer}]"


def _next(result: CellResult, name: str) -> float | None:
    """Returns the level one step beyond the winner's, or between it and the next that never constrains."""
    won, epochs = result.winner, result.cell.task.epochs
    if won is None:
        return None
    value, levels = won.hyperparameters[name], sorted(result.cell.grid.values[name])
    if name == "free_epochs":
        levels = [level for level in levels if level < epochs]
    if value == levels[0] and len(levels) > 1:
        return _below(levels)
    if name not in ("free_epochs", "warmup_epochs"):
        return _rounded(_above(levels), levels)
    found = _rounded(min(_above(levels), (value + epochs) / 2), levels)
    return found if value < found < epochs else None


def _below(levels: Sequence[float]) -> float | None:
    if levels[0] <= 0:
        return None
    ratio = levels[1] / levels[0] if len(levels) > 1 else 3.0
    return _rounded(levels[0] / ratio, levels)


def _above(levels: Sequence[float]) -> float:
    """Returns the next level by the ratio of the last two, or three times one without a positive neighbour."""
    last, before = levels[-1], levels[-2] if len(levels) > 1 else 0.0
    if last <= 0:
        return 1.0
    return last * (last / before if before > 0 else 3.0)


def _rounded(value: float, levels: Sequence[float]) -> float:
    """Returns the value with as many digits as the levels have, at most three."""
    digits = next((n for n in (1, 2) if all(float(f"{level:.{n}g}") == level for level in levels)), 3)
    return float(f"{value:.{digits}g}")
