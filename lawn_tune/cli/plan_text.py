"""The text of `lawn-tune plan`: a table a space, what is special about cells, and the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lawn_tune import words
from lawn_tune.cells import Cell
from lawn_tune.cli.printing import console, plain_table
from lawn_tune.planning.costs import Cost
from lawn_tune.planning.extending import STAY, state
from lawn_tune.planning.packing import pack_size
from lawn_tune.planning.plan import unconstrained_points, warnings
from lawn_tune.storage import masked
from lawn_tune.words import duration
from trainables.catalogue.datasets import MACHINE

if TYPE_CHECKING:
    from rich.table import Table

    from lawn_tune.cells import CellName
    from lawn_tune.planning.counts import Counts
    from lawn_tune.planning.remaining import Remaining
    from lawn_tune.results import TrialRow

ON_GPUS = "with --gpus N: larger packs, times unknown until the ledger has GPU trials"
"""Where a time comes from the table of speeds, which is of CPU cores."""


class Planned(NamedTuple):
    """A cell of a plan: what it costs from nothing, and what a ledger holds and lacks of it, None without a ledger."""

    cell: Cell
    cost: Cost
    counts: Counts | None
    left: Remaining | None


def print_plan(
    lines: Sequence[Planned],
    shared: Mapping[CellName, CellName],
    url: str,
    rows: Sequence[TrialRow] | None,
    *,
    sizes: bool,
) -> None:
    """Prints a plan.

    Args:
        lines: at least one.
        shared: cell → the cell of another space that has the same trials.
        url: of the ledger.
        rows: the ledger's trials of these spaces; None without a ledger.
        sizes: whether to show how many trials a pack has.
    """
    out, cells = console(), [line.cell for line in lines]
    for space in dict.fromkeys(cell.name.space for cell in cells):
        out.print(_table(space, [line for line in lines if line.cell.name.space == space], sizes), "")
    notes = [*filter(None, map(_note, cells)), *_added(cells, rows), *_kept(cells), *_unequal(cells), *_shared(shared)]
    own = [line for line in lines if line.cell.name not in shared]
    text = "\n".join([*notes, *([""] if notes else []), _total(len(cells), own, url)])
    out.print(text, soft_wrap=True, markup=False)
    for warning in warnings(cells):
        out.print(warning, style="yellow", soft_wrap=True, markup=False)


def _table(space: str, lines: Sequence[Planned], sizes: bool) -> Table:
    columns = ("cell", "points", "search", "confirm", "packs", "sizes", "epochs", "examples", "time", "done")
    seeds = any(cell.grid.size != cost.trials[0] for cell, cost, _, _ in lines)  # else the points are the search trials
    rows = [
        (
            cell.name.short,
            f"{cell.grid.size}" if seeds else "",
            *(f"{number}" for number in cost.trials),
            f"{sum(cost.packs)}",
            f"{pack_size(cell, 'search')}, {pack_size(cell, 'confirm')}" if sizes else "",
            _epochs(cell),
            _examples(cost.examples),
            time_text(cost.seconds),
            "" if counted is None else f"{counted.done}/{counted.planned}",
        )
        for cell, cost, counted, _ in lines
    ]
    return plain_table(columns, rows, left=("cell",), title=space)


def _note(cell: Cell) -> str:
    """Returns the line on points whose free phase fills the whole training, "" for none, or all: that is a warning."""
    count = unconstrained_points(cell)
    if not 0 < count < cell.grid.size:
        return ""
    points = f"{count} of {cell.grid.size} points of {cell.name.short}"
    return f"{points} have {cell.method.switch} >= {cell.task.epochs} and never reach the constraint"


def _added(cells: Sequence[Cell], rows: Sequence[TrialRow] | None) -> list[str]:
    """Returns a line for each cell that launches added levels to, and what becomes of these levels."""
    if rows is None or not any(cell.added for cell in cells):
        return []
    from lawn_tune.planning.selection import winner  # brings numpy

    return [*(f"{cell.name.short}: {state(cell, winner(cell, rows))}" for cell in cells if cell.added), STAY]


def _kept(cells: Sequence[Cell]) -> list[str]:
    """Returns a line for each cell with levels that another batch size decides."""
    if not any(cell.kept for cell in cells):
        return []
    from lawn_tune.planning.keeping import state as kept_state  # brings numpy

    return [f"{cell.name.short}: {kept_state(cell)}" for cell in cells if cell.kept]


def _unequal(cells: Sequence[Cell]) -> list[str]:
    """Returns a line for each planned pair of rivals whose grids differ in size: the larger one is favored."""
    sizes = {cell.name: cell.grid.size for cell in cells}
    return [
        f"{cell.name.short} has {cell.grid.size} grid points, its baseline {baseline} {sizes[rival]}: unequal search"
        for cell in cells
        for baseline in cell.baselines
        if sizes.get(rival := cell.rival(baseline), cell.grid.size) != cell.grid.size
    ]


def _shared(shared: Mapping[CellName, CellName]) -> list[str]:
    """Returns a line for each pair of spaces with cells of the same trials, which are trained once."""
    pairs = Counter((name.space, first.space) for name, first in shared.items())
    return [
        f"{words.count(number, 'cell')} of {space} have the trials of {first}, and count once below"
        for (space, first), number in pairs.items()
    ]


def _epochs(cell: Cell) -> str:
    full = cell.protocol.full_epochs
    return f"{cell.task.epochs}" if cell.task.epochs == full else f"{cell.task.epochs}/{full}"


def _examples(count: float) -> str:
    """Returns a number of examples in thousands (k), millions (M) or thousands of millions (G)."""
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e3:,.0f} k"


def time_text(seconds: float | None) -> str:
    """Returns a time as "12 min", or "unknown"."""
    return "unknown" if seconds is None else duration(seconds)


def _total(number: int, lines: Sequence[Planned], url: str) -> str:
    costs = [line.cost for line in lines]
    search, confirm = (sum(cost.trials[phase] for cost in costs) for phase in (0, 1))
    packs = sum(sum(cost.packs) for cost in costs)
    saved = sum(cost.saved for cost in costs)
    shared = f" ({_examples(saved)} saved by sharing free phases)" if saved else ""
    texts = [
        f"{words.count(number, 'cell')}, {search} search + {confirm} confirm trials in {words.count(packs, 'pack')}",
        f"{_examples(sum(cost.examples for cost in costs))} examples trained{shared}",
        _total_time(costs),
        f"ledger {masked(url)}: {_state(lines)}",
    ]
    return "\n".join(texts)


def _total_time(costs: Sequence[Cost]) -> str:
    known = {cost.basis for cost in costs if cost.seconds is not None}
    if not known:
        return "time on one worker: unknown until measured"
    total = sum(cost.seconds for cost in costs if cost.seconds is not None)
    count = sum(cost.seconds is not None for cost in costs)
    text = f"time on one worker: {time_text(total)} (from {', '.join(sorted(known))})"
    if count < len(costs):
        text += f"\nwithout {len(costs) - count} of {len(costs)} cells, whose time is unknown until measured"
    return f"{text}\n{ON_GPUS}" if MACHINE in known else text


def _state(lines: Sequence[Planned]) -> str:
    """Returns what the ledger holds: "72 trials finished, 112 missing: 12 min on one worker"."""
    if lines[0].cell.task.steps:
        return "not read; a smoke run has a ledger of its own, which is removed"
    known = [counts for _, _, counts, _ in lines if counts is not None]
    if not known:
        return "not created yet"
    finished, missing = sum(c.done for c in known), sum(c.planned - c.done for c in known)
    text = f"{words.count(finished, 'trial')} finished, {missing} missing"
    left = [line.left.seconds for line in lines if line.left is not None and line.left.trials]
    time = sum(seconds for seconds in left if seconds is not None)
    return f"{text}: {time_text(time)} on one worker" if finished and left and None not in left else text
