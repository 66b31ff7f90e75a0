"""Levels that another batch size decides: those of its winner, once its search is complete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lawn_tune.cells import Cell, CellName
from lawn_tune.errors import ExecutionError, UsageError
from lawn_tune.planning.selection import points, winner
from lawn_tune.results import TrialRow
from lawn_tune.words import setting


def settled(cells: Sequence[Cell], stored: Iterable[Cell], rows: Sequence[TrialRow]) -> tuple[Cell, ...]:
    """Returns the cells with the levels that the winners of other batch sizes have, as far as these are known.

    Args:
        cells: as planned.
        stored: those of the ledger, for winners of cells that are not planned.
        rows: trials of their spaces.
    """
    known = {cell.name: cell for cell in (*stored, *cells)}
    return tuple(_settled(cell, known, rows) if cell.kept else cell for cell in cells)


def _settled(cell: Cell, known: Mapping[CellName, Cell], rows: Sequence[TrialRow]) -> Cell:
    winners = {
        name: winner(source, rows)
        for name, kept in cell.kept.items()
        if (source := known.get(cell.at_batch(kept.batch_size)))
    }
    return cell.keeping({name: won.hyperparameters[name] for name, won in winners.items() if won})


def trainable(cells: Sequence[Cell], rows: Sequence[TrialRow]) -> list[Cell]:
    """Returns the cells whose levels are all known; the others wait for the winners of these.

    Args:
        cells: of a launch, settled.
        rows: trials of their spaces.

    Raises:
        UsageError: one waits for a cell that the launch does not train.
        ExecutionError: one waits for a winner that there will not be.
    """
    ready = {cell.name: cell for cell in cells if not cell.pending}
    for cell in (cell for cell in cells if cell.pending):
        for name, kept in cell.kept.items():
            source, text = cell.at_batch(kept.batch_size), f"{cell.name} takes {name} from the winner of"
            if source not in ready:
                raise UsageError(
                    f"{text} {source}, whose search is not complete",
                    "Launch that cell first, or both: leave --cells out, or give it both.",
                )
            if all(point.finished for point in points(ready[source], rows)):
                todo = "Widen that grid, or give levels in place of from_batch."
                raise ExecutionError(f"{text} {source}, which has none: all of its points diverged", todo)
    return list(ready.values())


def state(cell: Cell) -> str:
    """Returns where the levels of a cell come from that another batch size decides."""
    sizes = ", ".join(dict.fromkeys(str(kept.batch_size) for kept in cell.kept.values()))
    if cell.pending:
        return f"{', '.join(cell.kept)} will be that of the winner at batch size {sizes}, which is trained first"
    values = {name: cell.grid.values[name][0] for name in cell.kept}
    return f"{setting(values)} is that of the winner at batch size {sizes}, and not tuned here"
