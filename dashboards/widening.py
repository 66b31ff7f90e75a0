"""Where a winner sits on the border of its grid, and which levels to add."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lawn_tune.comparison.compare import CellResult, Comparison
from search_spaces.levels import split, toml


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


def widenings(result: CellResult, shortest: int | None = None) -> tuple[Widening, ...]:
    """Returns what to add to the grid of a cell, one entry per hyperparameter on the edge.

    Args:
        result: of the cell.
        shortest: epochs of the space's shortest budget, in which every warm-up must end; else the cell's own are taken.
    """
    won, epochs = result.winner, result.cell.task.epochs
    if won is None:
        return ()
    values = result.cell.grid.values
    found = [(name, *_next(result, name, min(shortest or epochs, epochs))) for name in won.edges]
    return tuple(Widening(name, won.hyperparameters[name], values[name], add, why) for name, add, why in found)


def shortest_budget(comparison: Comparison) -> int:
    """Returns the fewest epochs that a cell of a space trains, 0 without a cell."""
    return min((result.cell.task.epochs for result in comparison.cells), default=0)


def suggested(results: Sequence[CellResult], shortest: int | None = None, *, method: str = "") -> str:
    """Returns the lines of a space's file that extend the grids whose winners are on the edge, as one TOML text.

    Each hyperparameter of a table is one line with all levels to add, so no two lines contradict each other. Levels
    that a batch size has for itself are extended in its own table.

    Args:
        results: all cells of the space.
        shortest: see `widenings`.
        method: the only one that is extended; "" extends all.

    Returns:
        The text, "" if nothing is to be added.
    """
    tables: dict[str, dict[str, set[float]]] = {}
    for result in results:
        for found in widenings(result, shortest) if method in ("", result.cell.name.optimizer) else ():
            if found.add is not None:
                lines = tables.setdefault(_table(result, found, results), {})
                lines.setdefault(found.name, set(found.levels)).add(found.add)
    return "\n\n".join("\n".join([f"[{name}]", *map(_line, lines.items())]) for name, lines in tables.items())


def _table(result: CellResult, found: Widening, results: Sequence[CellResult]) -> str:
    name = result.cell.name
    same = {r.cell.grid.values.get(found.name) for r in results if r.cell.name.optimizer == name.optimizer}
    own = "" if len(same) == 1 else f".batch.{name.batch_size}"
    return f"optimizers.{name.optimizer}{own}"


def _line(line: tuple[str, set[float]]) -> str:
    return toml(*line)


def _next(result: CellResult, name: str, shortest: int) -> tuple[float | None, str]:
    """Returns the level one step beyond the winner's, or between it and the next that never constrains, or why none."""
    won, epochs = result.winner, result.cell.task.epochs
    value = won.hyperparameters[name] if won else 0.0
    levels = sorted(split(result.cell.grid.values[name])[0])
    switch = result.cell.method.switch
    if name == switch:
        levels = sorted(result.cell.constraining_levels)
    if value == levels[0] and len(levels) > 1:
        return _as_levels(_below(levels), name, levels), ""
    beyond = _as_levels(_above(levels), name, levels)
    if name == "warmup_epochs" and beyond is not None and beyond >= shortest:
        why = f"the next warm-up, {beyond:g}, would not end within the {shortest} epochs of the shortest budget"
        return None, f"{why}; it can be tried with more epochs only"
    if name != switch:
        return beyond, ""
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


def _as_levels(value: float | None, name: str, levels: Sequence[float]) -> float | None:
    """Returns the value as a new level with the digits that the levels have, or a few more; epochs stay whole."""
    if value is None:
        return None
    shortest_digits = next((n for n in (1, 2) if all(float(f"{level:.{n}g}") == level for level in levels)), 3)
    found = [float(f"{value:.{digits}g}") for digits in range(shortest_digits, 5)]
    if name.endswith("_epochs") and all(level.is_integer() for level in levels):
        found = [float(round(level)) for level in found] if value >= 1 else [float(levels[0] > 1)]
    return next((level for level in found if level not in levels), None)
