"""`lawn-tune status`: how far the cells of a ledger are."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import fsum
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from lawn_tune import words
from lawn_tune.cells import Cell
from lawn_tune.cli.damage import tell_damage
from lawn_tune.cli.options import AsJson, Storage
from lawn_tune.cli.printing import console, plain_table, print_json
from lawn_tune.cli.source import launched, reading, refuse_bundle, with_storage
from lawn_tune.comparison.next_steps import launch_command
from lawn_tune.ledger.leases import Lease
from lawn_tune.planning.counts import Counts, count
from lawn_tune.planning.generations import code_text
from lawn_tune.planning.remaining import Remaining, remaining
from lawn_tune.planning.speed import Speeds
from lawn_tune.results import DamagedCells, ResultSource, TrialRow
from search_spaces.toml import SUFFIX

UNFINISHED = 1
"""Exit code of `--check` while anything is left to train."""

State = Literal["idle", "running", "finished", "failed"]


def status(
    space: Annotated[str | None, typer.Argument(metavar="SPACE", help="Name of a space; all if left out.")] = None,
    storage: Storage = None,
    as_json: AsJson = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 0 if all is finished, with 1 if not.")] = False,
) -> None:
    """Show what is done, running, failed and missing in each cell.

    States: running (a launch that is alive
    holds the cell), failed (none does, and trials failed), finished (every planned trial has a result), else idle.
    `device_hours` were spent on results, `left` is what a launch would train; its hours are null where no speed is
    known. Missing are trials that were not begun, or whose launch died.

    \b
    Examples:
      lawn-tune status
      lawn-tune status quickstart --json
      until lawn-tune status quickstart --check; do lawn-tune launch quickstart --deadline 8h; done
    """
    if space is not None:
        file = shlex.quote(space)
        hint = f"Compare it: lawn-tune compare {file}; or import it first: lawn-tune ledger import {file}."
        refuse_bundle(space, ", and status reads ledgers", hint)
    with reading(storage) as ledger:
        names = ledger.spaces() if space is None else (launched(ledger, space, storage),)
        rows = {name: ledger.trials(name) for name in names}
        held = {str(cell): lease for cell, lease in ledger.leases().items()}
        cells, damage = _cells(ledger, names)
        found = [_look(cell, rows[cell.name.space], held.get(str(cell.name))) for cell in cells]
    if as_json:
        print_json("status/2", _document(found))
    else:
        _print(found, held)
        file = space if space is not None and space.endswith(SUFFIX) else ""
        steps = [_next([look for look in found if look.cell.name.space == name], file) for name in names]
        for command in dict.fromkeys(steps):
            if command:
                console().print(f"next: {with_storage(command, storage)}", soft_wrap=True, markup=False)
        for name in names:
            if text := code_text([cell for cell in cells if cell.name.space == name], rows[name]):
                console().print(f"{name}: {text}", soft_wrap=True, markup=False)
        tell_damage(console(), [row for name in names for row in rows[name]])
    if damage:
        raise damage[0]
    if check and _overall(found) != "finished":
        raise typer.Exit(UNFINISHED)


def _cells(source: ResultSource, spaces: Sequence[str]) -> tuple[list[Cell], list[DamagedCells]]:
    """Returns the cells of those spaces that can be read, and what is wrong with the others."""
    cells: list[Cell] = []
    damage: list[DamagedCells] = []
    for space in spaces:
        try:
            cells += _in_order(source.cells(space))
        except DamagedCells as error:
            cells += _in_order(error.readable)
            damage.append(error)
    return cells, damage


def _in_order(cells: Sequence[Cell]) -> list[Cell]:
    """Returns the cells of a space by method, each by batch size, however many launches they came from."""
    methods = list(dict.fromkeys(cell.name.optimizer for cell in cells))
    return sorted(cells, key=lambda cell: (methods.index(cell.name.optimizer), cell.name.batch_size))


@dataclass(frozen=True)
class _Look:
    """One cell at the moment, with its trials."""

    cell: Cell
    counts: Counts
    rows: Sequence[TrialRow]
    lease: Lease | None

    @property
    def state(self) -> State:
        if self.lease is not None and self.lease.active:
            return "running"
        if self.counts.done == self.counts.planned:
            return "finished"
        return "failed" if self.counts.failed else "idle"


def _look(cell: Cell, rows: Sequence[TrialRow], lease: Lease | None) -> _Look:
    here = [row for row in rows if row.cell == str(cell.name)]
    return _Look(cell, count(cell, here), here, lease)


def _overall(found: Sequence[_Look]) -> State:
    """Returns the state of all cells together; a ledger without a cell is idle."""
    states = {look.state for look in found}
    order: tuple[State, ...] = ("running", "failed", "idle", "finished")
    return next((state for state in order if state in states), "idle")


def _next(found: Sequence[_Look], file: str) -> str:
    """Returns the command that the state of a space's cells calls for; "" if there is none.

    Args:
        file: of the space; "" where it is not known.
    """
    if not found:
        return ""
    state = _overall(found)
    if state == "running":
        return "lawn-tune dashboard"
    if state == "finished":
        return f"lawn-tune compare {found[0].cell.name.space}"
    return launch_command([look.cell for look in found], file=file)


def _document(found: Sequence[_Look]) -> dict[str, Any]:
    left = [_left(look) for look in found]
    counts = sum((look.counts for look in found), Counts())
    rows = [row for look in found for row in look.rows]
    return {
        "state": _overall(found),
        "total": {"cells": len(found), **_progress(counts, rows, sum(left, Remaining()))},
        "cells": [_row(look, here) for look, here in zip(found, left, strict=True)],
    }


def _left(look: _Look) -> Remaining:
    speeds = Speeds()
    speeds.learn([look.cell], look.rows)
    return remaining(look.cell, look.rows, speeds)


def _row(look: _Look, left: Remaining) -> dict[str, Any]:
    return {
        "cell": str(look.cell.name),
        "state": look.state,
        **_progress(look.counts, look.rows, left),
        "lease": None if look.lease is None else asdict(look.lease),
    }


COUNTS = ("planned", "done", "complete", "diverged", "running", "failed", "missing")


def _progress(counts: Counts, rows: Sequence[TrialRow], left: Remaining) -> dict[str, Any]:
    """Returns what a cell and the total both show; the last change is when a trial last ended."""
    return {
        **{name: getattr(counts, name) for name in COUNTS},
        "finished_share": counts.share,
        "device_hours": fsum(row.summary.get("seconds") or 0.0 for row in rows) / 3600,
        "left": {
            "trials": left.trials,
            "packs": left.packs,
            "device_hours": None if left.seconds is None else left.seconds / 3600,
        },
        "last_change": max((row.provenance["ended"] for row in rows if row.provenance.get("ended")), default=None),
    }


def _print(found: Sequence[_Look], holders: Mapping[str, Lease]) -> None:
    out, cells = console(), [look.cell for look in found]
    for space in dict.fromkeys(cell.name.space for cell in cells):
        out.print(_table(space, [(look.cell, look.counts) for look in found if look.cell.name.space == space]), "")
    for cell in cells:
        lease = holders.get(str(cell.name))
        if lease is not None:
            gone = "" if lease.active else " (gone)"
            out.print(f"{cell.name} is held by {lease.owner}{gone}", soft_wrap=True, markup=False)
    counts, seconds = sum((look.counts for look in found), Counts()), sum(map(_left, found), Remaining()).seconds
    left = f", {words.duration(seconds)} left on one worker" if seconds else ""
    out.print(f"{words.count(len(found), 'cell')}, {counts.done} of {counts.planned} trials finished{left}")


def _table(space: str, found: Sequence[tuple[Cell, Counts]]) -> Table:
    """Returns one line a cell; what no cell has (diverged, running, failed) takes no column."""
    columns = ("cell", "planned", "done", "diverged", "running", "failed", "missing", "finished")
    seldom = {name: any(getattr(counts, name) for _, counts in found) for name in ("diverged", "running", "failed")}
    rows = [
        (
            cell.name.short,
            *(f"{getattr(counts, name)}" if seldom.get(name, True) else "" for name in columns[1:-1]),
            f"{100 * counts.share:.0f}%",
        )
        for cell, counts in found
    ]
    return plain_table(columns, rows, left=("cell",), title=space)
