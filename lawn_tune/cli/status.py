"""`lawn-tune status`: how far the cells of a ledger are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lawn_tune.cells import Cell
from lawn_tune.cli.counts import Counts, count
from lawn_tune.cli.options import AsJson, Storage, console, print_json
from lawn_tune.cli.source import launched, reading
from lawn_tune.ledger.leases import Lease


def status(
    space: Annotated[str | None, typer.Argument(metavar="[SPACE]", help="Name of a space; all if left out.")] = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Show what is done, running, failed and missing in each cell.

    \b
    Examples:
      lawn-tune status
      lawn-tune status quickstart --json
    """
    with reading(storage) as ledger:
        names = ledger.spaces() if space is None else (launched(ledger, space),)
        rows = {name: ledger.trials(name) for name in names}
        found = [(cell, count(cell, rows[name])) for name in names for cell in ledger.cells(name)]
        holders = {str(cell): lease for cell, lease in ledger.leases().items()}
    if as_json:
        print_json([_row(cell, counts, holders) for cell, counts in found])
    else:
        _print(found, holders)


def _row(cell: Cell, counts: Counts, holders: Mapping[str, Lease]) -> dict[str, Any]:
    lease = holders.get(str(cell.name))
    return {
        "cell": str(cell.name),
        **asdict(counts),
        "done": counts.done,
        "missing": counts.missing,
        "finished_share": counts.share,
        "lease": None if lease is None else asdict(lease),
    }


def _holder(cell: Cell, holders: Mapping[str, Lease]) -> str:
    lease = holders.get(str(cell.name))
    if lease is None:
        return ""
    return escape(lease.owner if lease.active else f"{lease.owner} (gone)")


def _print(found: Sequence[tuple[Cell, Counts]], holders: Mapping[str, Lease]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("cell", no_wrap=True)
    for title in ("planned", "done", "of these diverged", "running", "failed", "missing", "finished"):
        table.add_column(title, justify="right")
    table.add_column("held by")
    for cell, counts in found:
        numbers = (counts.planned, counts.done, counts.diverged, counts.running, counts.failed, counts.missing)
        table.add_row(str(cell.name), *map(str, numbers), f"{100 * counts.share:.0f} %", _holder(cell, holders))
    out = console()
    out.print(table)
    planned, done = sum(c.planned for _, c in found), sum(c.done for _, c in found)
    out.print(f"\n{len(found)} cells, {done} of {planned} trials finished")
