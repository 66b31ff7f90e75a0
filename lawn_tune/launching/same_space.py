"""Cells of one space share its fixed part, whichever launch planned them."""

from __future__ import annotations

from collections.abc import Sequence

from lawn_tune.cells import Cell
from lawn_tune.errors import UsageError

FIXED = ("dataset", "model", "loss", "schedule", "constrain", "precision")
"""What all cells of one space share; a space that changes it is another space and needs another name."""


def check_same_space(launched: Sequence[Cell], cells: Sequence[Cell]) -> None:
    """Refuses a space whose name the ledger knows with another fixed part: its cells would share one table.

    Args:
        launched: cells of the ledger, of the same space names.
        cells: cells about to be launched; those of the ledger that they replace are not compared.

    Raises:
        UsageError: a dataset, model, loss, schedule, constraint or precision differs.
    """
    replaced = {cell.name for cell in cells}
    for old in (cell for cell in launched if cell.name not in replaced):
        for new in (cell for cell in cells if cell.name.space == old.name.space):
            for name in FIXED:
                before, now = (getattr(cell.task, name) for cell in (old, new))
                if before != now:
                    text = f"space '{new.name.space}': {name} is {now}, and {before} in this ledger's cell {old.name}"
                    raise UsageError(text, "Rename the space's file, or keep it in a ledger of its own by --storage.")
