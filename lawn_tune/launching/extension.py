"""The rounds of `launch --extend`: search, widen the grids whose winners are on an edge, search what is new."""

from __future__ import annotations

from collections.abc import Sequence

from lawn_tune.cells import Cell
from lawn_tune.ledger import Ledger
from lawn_tune.planning.extending import extended, resumed
from lawn_tune.planning.selection import winner
from lawn_tune.results import readable_cells


def next_grids(ledger: Ledger, cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Returns the cells that have new points to train, and registers them.

    Levels that another launch has added meanwhile come first, so that all go on with the same grids.

    Args:
        ledger: of the launch.
        cells: whose searches are complete.
    """
    spaces = {cell.name.space for cell in cells}
    resuming = resumed(cells, readable_cells(ledger, spaces))
    changed = [new for new, cell in zip(resuming, cells, strict=True) if new.grid != cell.grid]
    if not changed:
        rows = [row for space in spaces for row in ledger.trials(space)]
        changed = list(extended(cells, {cell.name: winner(cell, rows) for cell in cells}))
    if changed:
        ledger.register(changed)
    return tuple(changed)
