"""Which level lies beyond the border of a grid that a winner is on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from lawn_tune.cells import Cell
from search_spaces.levels import split

if TYPE_CHECKING:  # its rows bring numpy, which planning does without
    from lawn_tune.planning.selection import Winner


class Widening(NamedTuple):
    """A hyperparameter on the edge of its grid.

    Args:
        name, value: the hyperparameter and the winner's level of it.
        levels: in the order of the space's file.
        add: the level to add, one that the space's file may hold; None if nothing.
        why: why nothing is to be added; "" where something is, and at zero, below which nothing lies.
    """

    name: str
    value: float
    levels: tuple[float, ...]
    add: float | None
    why: str


def widenings(cell: Cell, won: Winner | None, shortest: int | None = None) -> tuple[Widening, ...]:
    """Returns what to add to the grid of a cell, one entry per hyperparameter on the edge.

    Args:
        cell, won: the cell and its winner.
        shortest: epochs of the space's shortest budget, in which every warm-up must end; else the cell's own are taken.
    """
    if won is None or cell.task.dataset_row.imported:
        return ()
    epochs, point = min(shortest or cell.task.epochs, cell.task.epochs), won.hyperparameters
    found = [(name, *beyond(cell, name, point[name], epochs)) for name in won.edges]
    return tuple(Widening(name, point[name], cell.grid.values[name], add, why) for name, add, why in found)


def beyond(cell: Cell, name: str, value: float, shortest: int) -> tuple[float | None, str]:
    """Returns the level one step beyond a border, or between it and the next that never constrains, or why none.

    Args:
        cell: whose grid.
        name: a hyperparameter of it.
        value: its lowest or highest level; of the switch, of those that reach the constraint.
        shortest: epochs in which a warm-up must end.
    """
    epochs, switch = cell.task.epochs, cell.method.switch
    levels = sorted(cell.constraining_levels if name == switch else split(cell.grid.values[name])[0])
    if value == levels[0] and len(levels) > 1:
        return _as_levels(_below(levels), name, levels), ""
    above = _as_levels(_above(levels), name, levels)
    if name == "warmup_epochs" and above is not None and above >= shortest:
        why = f"the next warm-up, {above:g}, would not end within the {shortest} epochs of the shortest budget"
        return None, f"{why}; trying it needs more epochs"
    if above is not None and above >= 1 and any(row.name == name and row.below_one for _, row in cell.method.roles()):
        return _nearer_one(levels), ""
    if name != switch:
        return above, ""
    found = _as_levels(min(_above(levels), (value + epochs) / 2), name, levels)
    between = found is not None and value < found < epochs
    return (found, "") if between else (None, f"no level lies between {value:g} and the {epochs} epochs of the budget")


def _below(levels: Sequence[float]) -> float | None:
    if levels[0] <= 0:
        return None
    ratio = levels[1] / levels[0] if len(levels) > 1 else 3.0
    return levels[0] / ratio


def _above(levels: Sequence[float]) -> float:
    """Returns the next level by the ratio of the last two, or three times one without a positive neighbor."""
    last, before = levels[-1], levels[-2] if len(levels) > 1 else 0.0
    if last <= 0:
        return 1.0
    return last * (last / before if before > 0 else 3.0)


def _nearer_one(levels: Sequence[float]) -> float:
    """Returns the next level of what stays below 1: 1 − level goes on by the ratio of the last two, or by a third."""
    left, before = 1 - levels[-1], 1 - levels[-2] if len(levels) > 1 else 1.0
    ratio = min(left / before, 1 / 2) if before < 1 else 1 / 3
    return round(1 - float(f"{left * ratio:.1g}"), 10)


def _as_levels(value: float | None, name: str, levels: Sequence[float]) -> float | None:
    """Returns the value as a new level with the digits that the levels have, or a few more; epochs stay whole."""
    if value is None:
        return None
    shortest_digits = next((n for n in (1, 2) if all(float(f"{level:.{n}g}") == level for level in levels)), 3)
    found = [float(f"{value:.{digits}g}") for digits in range(shortest_digits, 5)]
    if name.endswith("_epochs") and all(level.is_integer() for level in levels):
        found = [float(round(level)) for level in found] if value >= 1 else [float(levels[0] > 1)]
    return next((level for level in found if level not in levels), None)
