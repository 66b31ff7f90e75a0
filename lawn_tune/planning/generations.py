"""Versions of a user's source code in a ledger: trials of one are never taken for trials of another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lawn_tune.cells import Cell
from lawn_tune.results import FINISHED, TrialRow
from trainables.catalogue import rows_text

CODE = "code"
"""Key of a trial's provenance that names the version which trained it."""


def earlier_code(cells: Sequence[Cell], rows: Iterable[TrialRow]) -> int:
    """Returns how many finished trials of these cells are of other source code, so that nothing uses them."""
    planned = {str(cell.name): cell for cell in cells if cell.task.code}
    own = {name: {trial.key for trial in cell.search_trials} for name, cell in planned.items()}
    return sum(
        row.outcome in FINISHED
        and row.cell in planned
        and row.key not in own[row.cell]
        and row.provenance.get(CODE) not in (None, planned[row.cell].task.code)
        for row in rows
    )


def code_text(cells: Sequence[Cell], rows: Iterable[TrialRow]) -> str:
    """Returns a sentence on trials of other source code, "" where there are none."""
    count = earlier_code(cells, rows)
    if not count:
        return ""
    names = ", ".join(dict.fromkeys(cell.task.code_of for cell in cells if cell.task.code))
    return f"{names} has changed: {count} finished trials of its earlier code are kept and not used"


def with_code(cell: Cell, digest: str) -> Cell:
    """Returns a cell whose trials have the keys of other source code."""
    if cell.task.code in ("", digest):
        return cell
    rows = json.loads(cell.task.rows)
    row = (
        rows["datasets"][cell.task.dataset] if cell.task.dataset_row.code else rows["rules"][cell.task.method.rule.name]
    )
    row["code"] = digest
    return replace(cell, task=replace(cell.task, rows=rows_text(rows)))
