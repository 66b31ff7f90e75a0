"""A searched and confirmed pair in memory, from the number of hits of each confirm run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lawn_tune.cells import Cell
from lawn_tune.results import Outcome, TrialRow
from tests.helpers.memory_source import MemorySource, confirm_rows, make_cell, outcomes, search_rows, with_protocol

MIDDLE = 4
"""Index of the point in the middle of the 3 x 1 x 3 grid: on no edge."""

TOTAL = 200


def searched(cell: Cell, best: int = MIDDLE, value: float = 80.0) -> list[TrialRow]:
    """Rows of a search won by point `best`."""
    size = cell.grid.size
    return search_rows(cell, [value if i % size == best else 50.0 for i in range(len(cell.search_trials))])


def confirmed(cell: Cell, hits: Sequence[int | Outcome | None], best: int = MIDDLE) -> MemorySource:
    """A ledger of one searched cell with so many hits of `TOTAL` in each confirm run."""
    winner = cell.grid.point(best)
    values: list[float | Outcome | None] = [100 * h / TOTAL if isinstance(h, int) else h for h in hits]
    kept = {
        trial.key: outcomes(h, TOTAL, seed=trial.seed)
        for trial, h in zip(cell.confirm_trials(winner), hits, strict=True)
        if isinstance(h, int)
    }
    return MemorySource([cell], searched(cell, best) + confirm_rows(cell, winner, values), kept)


def joined(*sources: MemorySource) -> MemorySource:
    whole = MemorySource()
    for source in sources:
        whole.planned += source.planned
        whole.rows += source.rows
        whole.outcomes |= source.outcomes
    return whole


def pair_source(
    base: Sequence[int | Outcome | None], lawn: Sequence[int | Outcome | None], **changes: Any
) -> MemorySource:
    cells = [with_protocol(make_cell(name), **changes) for name in ("adam", "adam-lawn")]
    return joined(confirmed(cells[0], base), confirmed(cells[1], lawn))
