"""Packs as recorded: which trials are trained together, in what order, and how far that is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from sqlalchemy import Connection, func, select, update

from lawn_tune.cells import CellName, Phase
from lawn_tune.ledger.database import insert
from lawn_tune.ledger.definitions import leases, packs
from lawn_tune.ledger.leases import lost
from lawn_tune.ledger.rows import keys_of, pack_id

State = Literal["waiting", "running", "finished", "failed", "split"]


@dataclass(frozen=True, kw_only=True)
class PackRow:
    """One recorded pack.

    Args:
        id: `pack_id` of its keys.
        cell, phase: what its trials belong to.
        keys: its trials, in the order of members.
        attempts: how often it was started; a start that ended with its driver is not counted.
        state: "waiting" before its first start and after its driver died; "split" when smaller packs took its place.
        error: text of the last failure, "" if none.
        holder: token of the driver that began it, "" if it leases nothing; its writes end with its lease.
    """

    id: str
    cell: CellName
    phase: Phase
    keys: tuple[str, ...]
    attempts: int
    state: State
    error: str
    holder: str = ""


def read(connection: Connection, cell: CellName, phase: Phase) -> tuple[PackRow, ...]:
    """Returns the packs of a cell's phase in the order they were recorded."""
    columns = (packs.c.id, packs.c["keys"], packs.c.attempts, packs.c.state, packs.c.error)
    query = select(*columns).where(packs.c.cell == str(cell), packs.c.phase == phase)
    query = query.order_by(packs.c.position, packs.c.id)
    return tuple(
        PackRow(id=name, cell=cell, phase=phase, keys=keys_of(name, keys), attempts=attempts, state=state, error=error)
        for name, keys, attempts, state, error in connection.execute(query)
    )


def add(connection: Connection, cell: CellName, phase: Phase, groups: Sequence[Sequence[str]]) -> None:
    """Records what is new in `groups`: keys that are in a recorded pack stay there, the rest of a group is a pack."""
    taken = {key for pack in read(connection, cell, phase) if pack.state != "split" for key in pack.keys}
    fresh = [tuple(key for key in group if key not in taken) for group in groups]
    _insert(connection, cell, phase, [keys for keys in fresh if keys])


def split(connection: Connection, pack: PackRow, parts: int) -> tuple[PackRow, ...]:
    """Replaces a pack by parts of about equal size, the first ones smaller if they differ."""
    cuts = [len(pack.keys) * i // parts for i in range(parts + 1)]
    groups = [pack.keys[start:end] for start, end in pairwise(cuts)]
    change(connection, pack, state="split")
    _insert(connection, pack.cell, pack.phase, groups)
    rows = {row.id: row for row in read(connection, pack.cell, pack.phase)}
    return tuple(rows[pack_id(keys)] for keys in groups)


def change(connection: Connection, pack: PackRow, **values: Any) -> None:
    """Sets columns of a recorded pack."""
    connection.execute(update(packs).where(packs.c.cell == str(pack.cell), packs.c.id == pack.id).values(**values))


def get(connection: Connection, pack: PackRow) -> PackRow:
    """Returns a pack as recorded now, which may have changed since `pack` was read."""
    columns = (packs.c.attempts, packs.c.state, packs.c.error)
    query = select(*columns).where(packs.c.cell == str(pack.cell), packs.c.id == pack.id)
    attempts, state, error = connection.execute(query).one()
    return replace(pack, attempts=attempts, state=state, error=error)


def is_running(connection: Connection, pack: PackRow) -> bool:
    """Returns whether a pack is marked as running.

    Raises:
        LeaseLost: the cell is no longer its holder's; found out by the same statement, which each report makes.
    """
    held = select(leases.c.token).where(leases.c.cell == packs.c.cell).scalar_subquery()
    query = select(packs.c.state, held).where(packs.c.cell == str(pack.cell), packs.c.id == pack.id)
    state, token = connection.execute(query).one()
    if pack.holder and token != pack.holder:
        raise lost(pack.cell)
    return bool(state == "running")


def take_back(connection: Connection, cell: CellName) -> None:
    """Makes the running packs of a cell wait again, the interrupted attempt not counted."""
    running = (packs.c.cell == str(cell), packs.c.state == "running")
    connection.execute(update(packs).where(*running).values(state="waiting", attempts=packs.c.attempts - 1))


def _insert(connection: Connection, cell: CellName, phase: Phase, groups: Sequence[Sequence[str]]) -> None:
    last = connection.execute(select(func.max(packs.c.position)).where(packs.c.cell == str(cell))).scalar()
    first = 0 if last is None else last + 1
    rows = [
        {
            "cell": str(cell),
            "id": pack_id(keys),
            "phase": phase,
            "position": first + i,
            "keys": json.dumps(list(keys)),
            "state": "waiting",
            "attempts": 0,
            "error": "",
        }
        for i, keys in enumerate(groups)
    ]
    if rows:
        connection.execute(insert(connection, packs).on_conflict_do_nothing(), rows)
