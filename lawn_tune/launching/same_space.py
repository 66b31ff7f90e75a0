"""Cells of one space share its fixed part, whichever launch planned them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lawn_tune.cells import Cell
from lawn_tune.errors import UsageError
from lawn_tune.planning.generations import with_code

FIXED = ("dataset", "model", "loss", "schedule", "constrain", "precision", "code")
"""What all cells of one space share; a space that changes it is another space and needs another name.

Of the code, those cells whose workers are given the same function or class."""

WHOLE = (
    "Launch the whole space, so that all of its cells are of one code; or --keep-code, to take the two for the same."
)


def check_same_space(launched: Sequence[Cell], cells: Sequence[Cell]) -> None:
    """Refuses a space whose name the ledger knows with another fixed part: its cells would share one table.

    Args:
        launched: cells of the ledger, of the same space names.
        cells: cells about to be launched; those of the ledger that they replace are not compared.

    Raises:
        UsageError: a dataset, model, loss, schedule, constraint, precision or the source code differs.
    """
    replaced = {cell.name for cell in cells}
    for old in (cell for cell in launched if cell.name not in replaced):
        for new in (cell for cell in cells if cell.name.space == old.name.space):
            for name in FIXED:
                before, now = (getattr(cell.task, name) for cell in (old, new))
                if before != now and (name != "code" or old.task.code_of == new.task.code_of):
                    text = f"space '{new.name.space}': {name} is {now}, and {before} in this ledger's cell {old.name}"
                    other = "Rename the space's file, or keep it in a ledger of its own by --storage."
                    raise UsageError(text, WHOLE if name == "code" else other)


def of_earlier_code(
    launched: Sequence[Cell], cells: Sequence[Cell], code: Mapping[str, bytes]
) -> tuple[list[Cell], dict[str, bytes]]:
    """Returns cells with the source code that the ledger has for them, and the sources now under these names too.

    Args:
        launched: cells of the ledger.
        cells: cells about to be launched.
        code: digest → sources now.
    """
    known = [cell for cell in launched if cell.task.code]
    recorded = {(cell.name.space, cell.task.code_of): cell.task.code for cell in known}
    of_cells = {str(cell.name): cell.task.code for cell in known}
    kept, sources = [], dict(code)
    for cell in cells:
        shared = recorded.get((cell.name.space, cell.task.code_of), cell.task.code)
        digest = of_cells.get(str(cell.name), shared)
        kept.append(with_code(cell, digest))
        if cell.task.code:
            sources[digest] = code[cell.task.code]
    return kept, sources
