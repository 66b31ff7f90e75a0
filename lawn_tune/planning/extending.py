"""Levels that `launch --extend` adds to grids whose winners are on an edge: as many to all rivals.

A wider grid for one rival alone would favor it, so those that are compared with each other at a batch size grow
together: a level of a shared hyperparameter (rate, warm-up) is added to all, and each gets as many levels of its own
(decay, free epochs) as the others. A cell whose rate another batch size decides keeps it, and gets a level of its own
instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from lawn_tune.cells import Cell, CellName, Levels
from lawn_tune.planning.check import MAX_POINTS
from lawn_tune.planning.widening import beyond, widenings
from lawn_tune.words import setting_lists
from search_spaces.levels import split

if TYPE_CHECKING:  # its rows bring numpy, which planning does without
    from lawn_tune.planning.selection import Winner

MOST = 3
"""Levels that are added to a hyperparameter of a cell at most (our choice)."""

STAY = (
    "added levels belong to the name of the space, not to its file: they stay when its grids are edited, "
    "and a copy under another name starts without them"
)
"""What is shown with added levels, as the file does not list them."""


def resumed(cells: Sequence[Cell], stored: Iterable[Cell]) -> tuple[Cell, ...]:
    """Returns planned cells with the levels that earlier launches have added to them.

    Args:
        cells: as planned.
        stored: those of the ledger; one that was launched with another task counts for nothing.
    """
    known = {cell.name: cell for cell in stored}
    return tuple(
        cell.extended(_beyond(cell, known[cell.name].added))
        if cell.name in known and known[cell.name].task == cell.task
        else cell
        for cell in cells
    )


def edited(cells: Sequence[Cell], stored: Iterable[Cell]) -> tuple[Cell, ...]:
    """Returns the resumed cells whose added levels are older than the grid that the space's file has now."""
    known = {cell.name: cell for cell in stored}
    return tuple(cell for cell in cells if cell.added and _in_file(cell) != _in_file(known[cell.name]))


def _in_file(cell: Cell) -> Levels:
    """Returns the levels of a cell that no launch added."""
    return {
        name: tuple(level for level in levels if level not in cell.added.get(name, ()))
        for name, levels in cell.grid.values.items()
    }


def _beyond(cell: Cell, added: Levels) -> Levels:
    """Returns the added levels that the grid of the space's file does not have."""
    own = _in_file(cell)
    found = {
        name: tuple(level for level in levels if level not in own[name])
        for name, levels in added.items()
        if name in own
    }
    return {name: levels for name, levels in found.items() if levels}


def extended(cells: Sequence[Cell], winners: Mapping[CellName, Winner | None]) -> tuple[Cell, ...]:
    """Returns the cells whose grids grow, with their new levels; () when no edge is left that can be moved.

    Args:
        cells: whose searches are complete.
        winners: of them.
    """
    found = [cell for group in _rivals(cells) for cell in _grown(group, winners)]
    return tuple(found)


def state(cell: Cell, won: Winner | None) -> str:
    """Returns which levels were added to a cell's grid, in its order, and whether its winner is inside it now."""
    added = {name: sorted(cell.added[name]) for name in cell.grid.values if name in cell.added}
    edges = ", ".join(won.edges) if won else ""
    full = any(len(cell.added.get(name, ())) >= MOST for name in won.edges) if won else False
    ends = f"its winner is on the edge in {edges}" if edges else "its winner is inside" if won else "no winner yet"
    limit = f", and {MOST} levels are the limit" if full else ""
    return f"launch --extend added {setting_lists(added)} to the grid; {ends}{limit}"


def _rivals(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Returns groups of two or more cells that are compared with each other, directly or by a common baseline."""
    groups: dict[CellName, list[Cell]] = {}
    for cell in cells:
        joined = [groups[name] for name in map(cell.rival, cell.baselines) if name in groups]
        waiting = [group for group in groups.values() if any(cell.name in map(o.rival, o.baselines) for o in group)]
        members = [cell, *(other for group in {id(g): g for g in [*joined, *waiting]}.values() for other in group)]
        groups |= {member.name: members for member in members}
    unique = {id(group): group for group in groups.values()}
    return [[cell for cell in cells if cell in group] for group in unique.values() if len(group) > 1]


def _grown(group: Sequence[Cell], winners: Mapping[CellName, Winner | None]) -> list[Cell]:
    wanted = {cell.name: _wanted(cell, winners[cell.name]) for cell in group}
    shared = dict.fromkeys(n for cell in group for n in wanted[cell.name] if n in cell.method.names("schedule"))
    more = max(sum(name not in shared for name in levels) for levels in wanted.values())
    grown = []
    for cell in group:
        levels = {name: level for name, level in wanted[cell.name].items() if name not in shared}
        due = more + sum(name in cell.kept for name in shared)
        levels = _filled(levels, cell, winners[cell.name], due)
        added: dict[str, tuple[float, ...]] = {name: (level,) for name, level in levels.items()}
        for name in [name for name in shared if name not in cell.kept]:
            added[name] = tuple({levels[name]: None for levels in wanted.values() if name in levels})
        grown.append(cell.extended({name: (*cell.added.get(name, ()), *new) for name, new in added.items()}))
    changed = [new for new, cell in zip(grown, group, strict=True) if new.grid != cell.grid]
    return changed if all(cell.grid.size <= MAX_POINTS for cell in grown) else []


def _wanted(cell: Cell, won: Winner | None) -> dict[str, float]:
    """Returns the level beyond each edge that a cell's winner is on, up to `MOST` of a hyperparameter."""
    return {
        found.name: found.add
        for found in widenings(cell, won)
        if found.add is not None and len(cell.added.get(found.name, ())) < MOST
    }


def _filled(wanted: Mapping[str, float], cell: Cell, won: Winner | None, due: int) -> dict[str, float]:
    """Returns levels with those of its next own hyperparameters, up to `due`, beyond the nearer border."""
    taken, found = {*cell.method.names("schedule"), *wanted}, dict(wanted)
    for name, levels in cell.grid.values.items():
        values = sorted(split(levels)[0])
        if name not in taken and len(values) > 1 and len(found) < due:
            ends = sorted((values[0], values[-1]), key=lambda end: _distance(values, won, name, end))
            levels_beyond = (beyond(cell, name, end, cell.task.epochs)[0] for end in ends)
            if (level := next((level for level in levels_beyond if level is not None), None)) is not None:
                found[name] = level
    return found


def _distance(values: Sequence[float], won: Winner | None, name: str, end: float) -> int:
    """Returns how many levels the winner is from a border; 0 for one that is no number, or without a winner."""
    at = won.hyperparameters[name] if won else end
    return abs(values.index(at) - values.index(end)) if at in values else 0
