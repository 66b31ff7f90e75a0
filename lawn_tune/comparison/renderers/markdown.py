"""A comparison in GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lawn_tune.comparison.comparison import Comparison
from lawn_tune.comparison.tables import (
    DIFFERENCE_HEADER,
    DifferenceRow,
    Entry,
    Footnote,
    Table,
    difference_cells,
    table,
)
from lawn_tune.words import method

LEFT = frozenset(("Method", "Pair", "Verdict", "Winner", "Hyperparameter", "What", "Value", "Suggested change"))
"""Columns of texts; all others hold numbers and are aligned right."""


def markdown(comparison: Comparison) -> str:
    """Returns both tables in GitHub's dialect, with the verdicts above and the footnotes below."""
    rows = table(comparison)
    parts = [
        f"## {escaped(rows.title)}",
        f"**{escaped(rows.headline)}**",
        escaped(rows.overall),
        "\n".join(f"- {escaped(text)}" for text in rows.sentences),
        pipes(["Method", *(f"batch {b:,}" for b in rows.batch_sizes)], _md_values(rows)),
        escaped(rows.caption),
        pipes(list(DIFFERENCE_HEADER), [_md_difference(row) for row in rows.differences]),
        "\n".join(line for note in rows.footnotes for line in _md_footnote(note)),
        "\n\n".join(escaped(text) for text in rows.remarks),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _md_values(rows: Table) -> list[list[str]]:
    return [
        [escaped(method(optimizer)), *(_md_entry(rows.entries.get((optimizer, batch))) for batch in rows.batch_sizes)]
        for optimizer in rows.optimizers
    ]


def _md_entry(entry: Entry | None) -> str:
    if entry is None:
        return ""
    text = f"**{escaped(entry.text)}**" if entry.best else escaped(entry.text)
    return text + superscript(entry.marks) + (f"<br>paper {entry.published}" if entry.published else "")


def _md_difference(row: DifferenceRow) -> list[str]:
    return [escaped(value) for value in difference_cells(row)[:-1]] + [escaped(row.verdict) + superscript(row.marks)]


def _md_footnote(note: Footnote) -> list[str]:
    return [f"- {superscript(note.mark)} {escaped(note.flag.value)}", *(f"  - {escaped(text)}" for text in note.texts)]


def superscript(marks: Sequence[str]) -> str:
    """Returns the marks of footnotes; "" for none."""
    return f"<sup>{','.join(marks)}</sup>" if marks else ""


def pipes(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Returns a table of escaped cells, "" without rows; see `LEFT`."""
    if not body:
        return ""
    rule = ["---" if name in LEFT else "---:" for name in header]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *body))


def escaped(text: str) -> str:
    """Returns text in which nothing is read as Markdown or HTML."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", plain)
