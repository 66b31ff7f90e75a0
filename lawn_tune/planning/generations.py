"""Versions of a user's source code in a ledger: trials of one are never taken for trials of another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lawn_tune.cells import Cell
from lawn_tune.results import FINISHED, TrialRow
from lawn_tune.words import count
from trainables.catalogue import rows_text

CODE = "code"
"""Key of a trial's provenance that names the version which trained it."""


def earlier_code(cells: Sequence[Cell], rows: Iterable[TrialRow]) -> int:
    """Returns how many finished trials of these cells are of other source code, so that nothing uses them."""
    planned = {str(cell.name): cell for cell in cells if cell.task.code}
    others = [
        (planned[row.cell], row)
        for row in rows
        if row.outcome in FINISHED
        and row.cell in planned
        and row.provenance.get(CODE) not in (None, planned[row.cell].task.code)
    ]
    return sum(row.key not in _keys(cell, row) for cell, row in others)


def _keys(cell: Cell, row: TrialRow) -> set[str]:
    """Returns the keys that a cell has for the trials of a row's phase: --keep-code trains them with changed code."""
    trials = cell.search_trials if row.phase == "search" else cell.confirm_trials(row.hyperparameters)
    return {trial.key for trial in trials}


def code_text(cells: Sequence[Cell], rows: Iterable[TrialRow]) -> str:
    """Returns a sentence on trials of other source code, "" where there are none."""
    found = earlier_code(cells, rows)
    if not found:
        return ""
    names = ", ".join(dict.fromkeys(cell.task.code_of for cell in cells if cell.task.code))
    kept = f"{count(found, 'finished trial')} of its earlier code {'is' if found == 1 else 'are'} kept and not used"
    return f"{names} has changed: {kept}"


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
