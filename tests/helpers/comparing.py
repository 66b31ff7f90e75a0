"""The comparison of a source in memory, its only pair, its flags, and cells whose task is changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lawn_tune.cells import Cell
from lawn_tune.comparison.compare import compare_space
from lawn_tune.comparison.comparison import CellResult, Comparison, PairResult
from lawn_tune.comparison.flags import Flag
from tests.helpers.memory_source import MemorySource, make_cell


def compared(source: MemorySource) -> Comparison:
    return compare_space(source, "digits")


def only_pair(source: MemorySource) -> PairResult:
    (pair,) = compared(source).pairs
    return pair


def flags_of(result: CellResult | PairResult) -> set[Flag]:
    return {note.flag for note in result.notes}


def changed_task(cell: Cell, **changes: Any) -> Cell:
    return replace(cell, task=replace(cell.task, **changes))


LAWN = make_cell("adam-lawn")
