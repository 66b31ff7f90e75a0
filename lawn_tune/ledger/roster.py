"""Cells and the trials that belong to them, as planned: results can be read without the space's file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from lawn_tune.cells import Cell, CellName, Packing, Phase
from lawn_tune.errors import LedgerError
from lawn_tune.ledger import rows
from lawn_tune.ledger.database import chunked, insert
from lawn_tune.ledger.definitions import UNPLANNED, cells, plan, trials
from trainables.tasks import Trial

_PLANNED = ("phase", "position", "seed", "hyperparameters", "total_epochs")
"""What a launch rewrites of a trial that is known."""


def register(connection: Connection, launched: Sequence[Cell]) -> None:
    """Stores cells as launched now, and which search trials are theirs.

    Packings of the same plans stay, and so do the confirm seeds and levels that the first launch of a task planned.
    """
    for space in dict.fromkeys(cell.name.space for cell in launched):
        _register_space(connection, space, {str(c.name): c for c in launched if c.name.space == space})
    for cell in launched:
        _assign(
            connection, cell, "search", {trial.key: i for i, trial in enumerate(cell.search_trials)}, cell.search_trials
        )
        _retire(connection, cell)


def packings(connection: Connection, planned: Sequence[Cell]) -> dict[CellName, Packing]:
    """Returns the packings recorded for cells as planned now; a damaged one counts as none."""
    query = select(cells.c.name, cells.c.definition)
    plans = {str(cell.name): cell.plan_id for cell in planned}
    found: dict[CellName, Packing] = {}
    for some in chunked(plans):
        for name, text in connection.execute(query.where(cells.c.name.in_(some))):
            packing = rows.packing(text)
            if packing is not None and packing.plan == plans[name]:
                found[CellName.parse(name)] = packing
    return found


def pack(connection: Connection, planned: Sequence[Cell], replacing: bool) -> dict[CellName, Packing]:
    """Records the packings of registered cells; see `Ledger.record_packings`."""
    kept = {} if replacing else packings(connection, planned)
    for cell in planned:
        if cell.packing is not None and cell.name not in kept:
            kept[cell.name] = cell.packing
            stored = replace(definition(connection, cell.name), packing=cell.packing)
            text = json.dumps(stored.to_dict())
            connection.execute(update(cells).where(cells.c.name == str(cell.name)).values(definition=text))
    return kept


def assign(connection: Connection, cell: Cell, phase: Phase, added: Sequence[Trial]) -> None:
    """Says that trials belong to a cell, behind those of the phase that do already."""
    known = _positions(connection, cell.name, phase)
    last = max((position for position in known.values() if position != UNPLANNED), default=-1)
    fresh = [trial.key for trial in added if trial.key not in known]
    _assign(connection, cell, phase, known | {key: last + 1 + i for i, key in enumerate(fresh)}, added)


def definition(connection: Connection, name: CellName) -> Cell:
    """Returns a cell as last launched.

    Raises:
        LedgerError: it was never registered.
    """
    text = connection.execute(select(cells.c.definition).where(cells.c.name == str(name))).scalar()
    if text is None:
        raise LedgerError(f"cell '{name}' is not in the ledger", "Register the cells of a launch first.")
    return Cell.from_dict(json.loads(text))


def spaces(connection: Connection) -> tuple[str, ...]:
    """Returns the names of all spaces in alphabetical order."""
    return tuple(sorted(connection.execute(select(cells.c.space).distinct()).scalars()))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A trial of a cell that ended, whatever cell trained it.

    Args:
        key, seed, hyperparameters: as this cell planned it.
        outcome: complete, diverged or failed.
        mirrored: the outcome that the cell's study holds.
        total_epochs: epochs of its task.
    """

    key: str
    seed: int
    hyperparameters: Mapping[str, float]
    outcome: str
    mirrored: str
    total_epochs: int


def ended(connection: Connection, cell: CellName, phase: Phase, keys: Sequence[str] | None = None) -> list[Entry]:
    """Returns the ended trials of a cell's phase, all or those among `keys`, in plan order; none that is damaged."""
    query = (
        select(plan.c.key, plan.c.seed, plan.c.hyperparameters, trials.c.outcome, plan.c.mirrored, plan.c.total_epochs)
        .join(trials, trials.c.key == plan.c.key)
        .where(plan.c.cell == str(cell), plan.c.phase == phase)
        .where(trials.c.outcome.in_(("complete", "diverged", "failed")))
        .order_by(plan.c.position, plan.c.key)
    )
    if keys is not None:
        query = query.where(plan.c.key.in_(keys))
    return [entry for row in connection.execute(query).mappings() if (entry := _entry(row))]


def _entry(row: Mapping[Any, Any]) -> Entry | None:
    hyperparameters = rows.hyperparameters(row["hyperparameters"])
    return None if hyperparameters is None else Entry(**{**row, "hyperparameters": hyperparameters})


def mark_mirrored(connection: Connection, cell: CellName, outcomes: Mapping[str, str]) -> None:
    """Notes what a cell's study holds: key → outcome."""
    for outcome in dict.fromkeys(outcomes.values()):
        keys = [key for key, value in outcomes.items() if value == outcome]
        for some in chunked(keys):
            where = (plan.c.cell == str(cell), plan.c.key.in_(some))
            connection.execute(update(plan).where(*where).values(mirrored=outcome))


def forget_mirrored(connection: Connection, cell: CellName, phase: Phase) -> None:
    """Notes that a cell's study holds nothing."""
    connection.execute(update(plan).where(plan.c.cell == str(cell), plan.c.phase == phase).values(mirrored=""))


def _register_space(connection: Connection, space: str, launched: Mapping[str, Cell]) -> None:
    query = select(cells.c.name).where(cells.c.space == space).order_by(cells.c.position, cells.c.name)
    known = list(connection.execute(query).scalars())
    order = {name: position for position, name in enumerate(_merged(known, list(launched)))}
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    packed = packings(connection, list(launched.values()))
    for name, planned in launched.items():
        cell = _first(connection, planned.packed(packed.get(planned.name, planned.packing)))
        row = {"space": space, "position": order[name], "definition": json.dumps(cell.to_dict()), "registered": now}
        statement = insert(connection, cells).values(name=name, **row)
        connection.execute(statement.on_conflict_do_update(index_elements=[cells.c.name], set_=row))
    for name in known:
        connection.execute(update(cells).where(cells.c.name == name).values(position=order[name]))


def _first(connection: Connection, cell: Cell) -> Cell:
    """Returns the cell with the confirm seeds and levels that the ledger's cell of the same task planned first.

    A ledger that kept none knows those of its last launch.
    """
    text = connection.execute(select(cells.c.definition).where(cells.c.name == str(cell.name))).scalar()
    try:
        stored = rows.cell(str(cell.name), text) if text is not None else cell
    except rows.UNREADABLE:
        stored = cell
    if stored.task != cell.task:
        stored = cell
    seeds = stored.protocol.confirm_seeds if stored.first_seeds is None else stored.first_seeds
    return replace(cell, first_seeds=seeds, first_grid=stored.first_grid or stored.grid.values)


def _merged(known: list[str], launched: list[str]) -> list[str]:
    """Returns the order of a space's cells: a launch of a few of them does not change it, a new plan does."""
    if [name for name in known if name in launched] == launched:
        return known
    return launched + [name for name in known if name not in launched]


def _positions(connection: Connection, cell: CellName, phase: Phase) -> dict[str, int]:
    query = select(plan.c.key, plan.c.position).where(plan.c.cell == str(cell), plan.c.phase == phase)
    return {key: position for key, position in connection.execute(query) if isinstance(position, int)}


def _assign(
    connection: Connection, cell: Cell, phase: Phase, positions: Mapping[str, int], planned: Sequence[Trial]
) -> None:
    columns = [plan.c[name] for name in ("key", *_PLANNED)]
    query = select(*columns).where(plan.c.cell == str(cell.name), plan.c.key.in_(bindparam("keys", expanding=True)))
    rows = [
        {
            "cell": str(cell.name),
            "key": trial.key,
            "phase": phase,
            "position": positions[trial.key],
            "seed": trial.seed,
            "hyperparameters": json.dumps(dict(trial.hyperparameters)),
            "total_epochs": cell.task_of(phase).epochs,
            "mirrored": "",
        }
        for trial in planned
    ]
    for some in chunked(rows):
        known = {tuple(row) for row in connection.execute(query, {"keys": [row["key"] for row in some]})}
        changed = [row for row in some if tuple(row[name] for name in ("key", *_PLANNED)) not in known]
        if changed:
            statement = insert(connection, plan)
            new = {name: statement.excluded[name] for name in _PLANNED}
            statement = statement.on_conflict_do_update(index_elements=[plan.c.cell, plan.c.key], set_=new)
            connection.execute(statement, changed)


def _retire(connection: Connection, cell: Cell) -> None:
    planned = {trial.key for trial in cell.search_trials}
    known = _positions(connection, cell.name, "search")
    gone = [key for key, position in known.items() if key not in planned and position != UNPLANNED]
    for some in chunked(gone):
        where = (plan.c.cell == str(cell.name), plan.c.key.in_(some))
        connection.execute(update(plan).where(*where).values(position=UNPLANNED))
