"""What of a space's comparison a view selects: some base optimizers with their challengers, at some batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from dashboards.style import base_of
from dashboards.web.page import View
from dashboards.web.snapshot import KEPT
from lawn_tune.cells import Cell
from lawn_tune.comparison.comparison import Comparison, PairResult
from trainables.catalogue.methods import DECAY, LAWN

MAX_SPACES = KEPT
"""Spaces that can be compared at once; each needs a whole comparison, and more would drop one another's."""

HERE, EVERYWHERE = "here", "every"


def selected(comparison: Comparison, wanted: Callable[[str, int], bool]) -> Comparison:
    """Returns the selected cells, and each pair with one of them; statistics still cover all pairs.

    Args:
        wanted: (base optimizer, batch size) → whether it is shown.
    """

    def kept(cell: Cell) -> bool:
        return wanted(base_of(cell.name.optimizer), cell.name.batch_size)

    pairs = tuple(pair for pair in comparison.pairs if any(kept(result.cell) for result in pair.cells))
    paired = {result.cell.name for pair in pairs for result in pair.cells}
    cells = tuple(result for result in comparison.cells if kept(result.cell) or result.cell.name in paired)
    return replace(comparison, cells=cells, pairs=pairs)


def comparison_of(view: View) -> Comparison:
    """Returns the comparison of the space, of the base optimizers and batch sizes that are chosen."""
    return selected(view.snapshot.comparison, _wanted(view))


def _wanted(view: View) -> Callable[[str, int], bool]:
    filters = view.filters
    return lambda base, batch_size: filters.allows("base", base) and filters.allows("batch", batch_size)


def comparisons_of(view: View) -> list[Comparison]:
    """Returns the comparisons of the space, or of every space, as chosen."""
    if view.filters.one("scope", HERE) != EVERYWHERE or not several(view):
        return [comparison_of(view)]
    return [selected(there.snapshot.comparison, _wanted(view)) for there in view.every()]


def several(view: View) -> bool:
    """True where there are other spaces, and not too many, to compare at once."""
    return 1 < len(view.spaces) <= MAX_SPACES


def main_first(comparison: Comparison) -> tuple[PairResult, ...]:
    """Returns all pairs, first those that the statement over all cells is about: LAWN against weight decay, if any."""
    main = comparison.overall.pairs if comparison.overall else ()
    return (*main, *(pair for pair in comparison.pairs if pair not in main))


def main_cell(cells: Sequence[Cell]) -> Cell:
    """Returns LAWN's first cell that is compared with weight decay by the same rule, else the first cell."""
    methods = {cell.name.optimizer: cell.method for cell in cells}

    def main(cell: Cell) -> bool:
        found = [methods[name] for name in cell.baselines if name in methods]
        decayed = [row for row in found if row.control and row.control.side == DECAY.side]
        return cell.method.control == LAWN and any(row.rule == cell.method.rule for row in decayed)

    return next(filter(main, cells), cells[0])


def pair_of(view: View) -> PairResult | None:
    """Returns the pair that the address names by its challenger's cell, else the only one that the filters leave."""
    found, wanted = comparison_of(view).pairs, view.filters.one("pair")
    named = next((pair for pair in found if str(pair.challenger.cell.name) == wanted), None)
    return named or (found[0] if len(found) == 1 else None)
