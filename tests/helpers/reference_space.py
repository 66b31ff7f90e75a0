"""A fabricated space whose trials carry values of ItemPop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.helpers.memory_source import PROTOCOL, MemorySource, make_cell, search_rows

SPACE = "ranked"
RANKED = replace(PROTOCOL, metric="hr@10")


def reference_space(found: Sequence[dict[str, float]], score: float = 50.0) -> MemorySource:
    """Adam at two batch sizes, each trial with `score`; the trials carry the values in turn."""
    cells = [
        make_cell(batch_size=size, space=SPACE, dataset="movielens-100k", protocol=RANKED) for size in (1000, 10_000)
    ]
    rows = [row for cell in cells for row in search_rows(cell, [score] * 9)]
    carried = [
        replace(row, provenance=dict(row.provenance) | {"references": {"itempop": found[i % len(found)]}})
        for i, row in enumerate(rows)
    ]
    return MemorySource(cells, carried)
