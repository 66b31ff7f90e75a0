"""A comparison as rich tables on a terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from lawn_tune.comparison.comparison import Comparison
from lawn_tune.comparison.tables import DIFFERENCE_HEADER, DifferenceRow, Entry, Table, difference_cells, table
from lawn_tune.words import method

_SUPERSCRIPT = str.maketrans("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints the result over all cells, the paper-style table, the differences, a sentence a pair and the footnotes.

    A table that the console is too narrow for is printed one entry below the other; nothing is ever cut.
    """
    rows = table(comparison)
    lines = [Text(f"• {text}") for text in rows.sentences]
    overall = [Text(rows.overall)] if rows.overall else []
    console.print(Text(rows.headline, style="bold"), *overall, "", sep="\n")
    console.print(_fitting(_rich_values(rows), _stacked_values(rows), console))
    console.print(Text(rows.caption, style="dim"), Text(), sep="\n")
    if rows.differences:
        console.print(_fitting(_rich_differences(rows), _stacked_differences(rows), console), Text(), sep="\n")
    console.print(*lines, "", sep="\n")
    for note in rows.footnotes:
        console.print(Text(f"{_superscript((note.mark,))} {note.flag.value}"), style="yellow")
        for text in note.texts:
            console.print(Text(f"  {text}"))
    for remark in rows.remarks:
        console.print(Text(remark, style="dim"))


def _fitting(wide: RichTable, narrow: RenderableType, console: Console) -> RenderableType:
    """Returns the table where it fits the console with no line broken."""
    needed = Measurement.get(console, console.options.update(max_width=10_000), wide).maximum
    return wide if needed <= console.width else narrow


def _stacked_values(rows: Table) -> RichTable:
    """Returns one line per cell instead of one per method."""
    printed = RichTable(title=Text(rows.title), title_justify="left")
    for name in ("Method", "Batch", "Value"):
        printed.add_column(name, justify="right" if name == "Batch" else "left", overflow="fold")
    for optimizer in rows.optimizers:
        for batch_size in rows.batch_sizes:
            if entry := rows.entries.get((optimizer, batch_size)):
                printed.add_row(Text(method(optimizer)), f"{batch_size:,}", _rich_entry(entry))
    return printed


def _stacked_differences(rows: Table) -> Group:
    """Returns a small block a pair, the verdict on a line of its own."""
    blocks = [_block(row) for row in rows.differences]
    return Group(Text(rows.differences_title.capitalize(), style="italic"), *blocks)


def _block(row: DifferenceRow) -> Text:
    block = Text(f"{row.methods}, batch {row.batch_size:,}: {row.difference}\n", style="")
    if row.difference != "–":
        block.append(f"  95 % interval {row.interval}, n = {row.n}\n")
    return block.append(f"  {row.verdict}", "bold").append(_superscript(row.marks), "yellow")


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
    printed = RichTable(title=Text(rows.differences_title.capitalize()), title_justify="left")
    for i, name in enumerate(DIFFERENCE_HEADER):
        printed.add_column(name, justify="right" if 0 < i < len(DIFFERENCE_HEADER) - 1 else "left")
    for row in rows.differences:
        printed.add_row(*(Text(value) for value in difference_cells(row, _superscript(row.marks))))
    return printed


def _superscript(marks: tuple[str, ...]) -> str:
    return "".join(marks).translate(_SUPERSCRIPT)
