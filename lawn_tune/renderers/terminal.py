"""A comparison as rich tables on a terminal."""

from __future__ import annotations

from rich.console import Console, Group
from rich.table import Table as RichTable
from rich.text import Text

from lawn_tune.compare import Comparison
from lawn_tune.tables import DIFFERENCE_HEADER, Entry, Table, difference_cells, table
from lawn_tune.words import method

_SUPERSCRIPT = str.maketrans("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints the verdicts, the paper-style table, the differences and the footnotes."""
    rows = table(comparison)
    lines = [Text(f"• {text}") for text in rows.sentences]
    console.print(Text(rows.headline, style="bold"), *lines, "", sep="\n")
    console.print(Group(_rich_values(rows), Text(rows.caption, style="dim"), Text(), _rich_differences(rows), Text()))
    for note in rows.footnotes:
        console.print(Text(f"{_superscript((note.mark,))} {note.flag.value}"), style="yellow")
        for text in note.texts:
            console.print(Text(f"  {text}"))
    for remark in rows.remarks:
        console.print(Text(remark, style="dim"))


def _rich_values(rows: Table) -> RichTable:
    printed = RichTable(title=Text(rows.title), title_justify="left")
    printed.add_column("Method", no_wrap=True)
    for batch_size in rows.batch_sizes:
        printed.add_column(f"batch {batch_size:,}", justify="right")
    for optimizer in rows.optimizers:
        entries = [rows.entries.get((optimizer, batch_size)) for batch_size in rows.batch_sizes]
        printed.add_row(Text(method(optimizer)), *(_rich_entry(entry) for entry in entries))
    return printed


def _rich_entry(entry: Entry | None) -> Text:
    if entry is None:
        return Text("")
    text = Text(entry.text, style="bold green" if entry.best else "").append(_superscript(entry.marks), "yellow")
    return text.append(f"\npaper {entry.published}", "dim") if entry.published else text


def _rich_differences(rows: Table) -> RichTable:
    printed = RichTable(title=Text("Paired differences, in points"), title_justify="left")
    for i, name in enumerate(DIFFERENCE_HEADER):
        printed.add_column(name, justify="right" if 0 < i < len(DIFFERENCE_HEADER) - 1 else "left")
    for row in rows.differences:
        printed.add_row(*(Text(value) for value in difference_cells(row, _superscript(row.marks))))
    return printed


def _superscript(marks: tuple[str, ...]) -> str:
    return "".join(marks).translate(_SUPERSCRIPT)
