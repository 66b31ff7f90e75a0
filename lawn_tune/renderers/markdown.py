"""A comparison in GitHub's Markdown."""

from __future__ import annotations

import re

from lawn_tune.compare import Comparison
from lawn_tune.tables import DIFFERENCE_HEADER, DifferenceRow, Entry, Table, difference_cells, table
from lawn_tune.words import method


def markdown(comparison: Comparison) -> str:
    """Returns both tables in GitHub's dialect, with the verdicts above and the footnotes below."""
    rows = table(comparison)
    parts = [
        f"## {_md(rows.title)}",
        f"**{_md(rows.headline)}**",
        "\n".join(f"- {_md(text)}" for text in rows.sentences),
        _md_table(["Method", *(f"batch {b:,}" for b in rows.batch_sizes)], _md_values(rows)),
        _md(rows.caption),
        _md_table(list(DIFFERENCE_HEADER), [_md_difference(row) for row in rows.differences]),
        "\n".join(f"- {_md_marks((n.mark,))} {_md(n.flag.value)}: {_md('. '.join(n.texts))}." for n in rows.footnotes),
        "\n\n".join(_md(text) for text in rows.remarks),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _md_values(rows: Table) -> list[list[str]]:
    return [
        [_md(method(optimizer)), *(_md_entry(rows.entries.get((optimizer, batch))) for batch in rows.batch_sizes)]
        for optimizer in rows.optimizers
    ]


def _md_entry(entry: Entry | None) -> str:
    if entry is None:
        return ""
    text = f"**{_md(entry.text)}**" if entry.best else _md(entry.text)
    return text + _md_marks(entry.marks) + (f"<br>paper {entry.published}" if entry.published else "")


def _md_difference(row: DifferenceRow) -> list[str]:
    return [_md(value) for value in difference_cells(row)[:-1]] + [_md(row.verdict) + _md_marks(row.marks)]


def _md_marks(marks: tuple[str, ...]) -> str:
    return f"<sup>{','.join(marks)}</sup>" if marks else ""


def _md_table(header: list[str], body: list[list[str]]) -> str:
    if not body:
        return ""
    rule = ["---" if name in ("Method", "Pair", "Verdict") else "---:" for name in header]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *body))


def _md(text: str) -> str:
    """Returns text in which nothing is read as Markdown or HTML."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", escaped)
