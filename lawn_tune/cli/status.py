"""`lawn-tune status`: how far the cells of a ledger are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from lawn_tune.cells import Cell
from lawn_tune.cli.options import AsJson, Storage, console, plain_table, print_json
from lawn_tune.cli.source import launched, reading
from lawn_tune.counts import Counts, count
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


def _print(found: Sequence[tuple[Cell, Counts]], holders: Mapping[str, Lease]) -> None:
    out = console()
    for space in dict.fromkeys(cell.name.space for cell, _ in found):
        out.print(_table(space, [(cell, counts) for cell, counts in found if cell.name.space == space]), "")
    for cell, _ in found:
        lease = holders.get(str(cell.name))
        if lease is not None:
            gone = "" if lease.active else " (gone)"
            out.print(f"{cell.name} is held by {lease.owner}{gone}", soft_wrap=True, markup=False)
    planned, done = sum(c.planned for _, c in found), sum(c.done for _, c in found)
    out.print(f"{len(found)} cells, {done} of {planned} trials finished")


def _table(space: str, found: Sequence[tuple[Cell, Counts]]) -> Table:
    """Returns one line a cell; what no cell has (diverged, running, failed) takes no column."""
    columns = ("cell", "planned", "done", "diverged", "running", "failed", "missing", "finished")
    seldom = {name: any(getattr(counts, name) for _, counts in found) for name in ("diverged", "running", "failed")}
    rows = [
        (
            f"{cell.name.optimizer}/bs{cell.name.batch_size}",
            *(f"{getattr(counts, name)}" if seldom.get(name, True) else "" for name in columns[1:-1]),
            f"{100 * counts.share:.0f}%",
        )
        for cell, counts in found
    ]
    return plain_table(columns, rows, left=("cell",), title=space)
