"""A part of a comparison: some base optimizers with their LAWN variants, at some batch sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dashboards.style import base_of
from lawn_tune.cells import Cell
from lawn_tune.comparison.comparison import Comparison


def selected(comparison: Comparison, wanted: Callable[[str, int], bool]) -> Comparison:
    """Returns the selected cells and pairs; statistics are not recomputed, so adjusted ones still cover all pairs.

    Args:
        wanted: (base optimizer, batch size) → whether it is shown.
    """

    def kept(cell: Cell) -> bool:
        return wanted(base_of(cell.name.optimizer), cell.name.batch_size)

    return replace(
        comparison,
        cells=tuple(result for result in comparison.cells if kept(result.cell)),
        pairs=tuple(pair for pair in comparison.pairs if kept(pair.baseline.cell)),
    )
