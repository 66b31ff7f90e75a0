"""The lines of a space's file that extend the grids whose winners are on the border."""

from __future__ import annotations

from collections.abc import Sequence

from lawn_tune.comparison.comparison import CellResult, Comparison
from lawn_tune.planning.widening import Widening, widenings
from search_spaces.levels import toml


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
        if method not in ("", result.cell.name.optimizer):
            continue
        for found in widenings(result.cell, result.winner, shortest):
            if found.add is not None:
                lines = tables.setdefault(_table(result, found, results), {})
                lines.setdefault(found.name, set(found.levels)).add(found.add)
    texts = {name: [toml(*line) for line in lines.items()] for name, lines in tables.items()}
    return "\n\n".join("\n".join([f"[{name}]", *lines]) for name, lines in texts.items())


def _table(result: CellResult, found: Widening, results: Sequence[CellResult]) -> str:
    name = result.cell.name
    same = {r.cell.grid.values.get(found.name) for r in results if r.cell.name.optimizer == name.optimizer}
    own = "" if len(same) == 1 else f".batch.{name.batch_size}"
    return f"optimizers.{name.optimizer}{own}"
