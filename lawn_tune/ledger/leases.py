"""Leases: one driver works on a cell at a time, and on the trials that cells of several spaces share.

Each change is atomic on both databases: a transaction that writes excludes all others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, or_, select, update

from lawn_tune.cells import CellName
from lawn_tune.errors import LedgerError
from lawn_tune.ledger.database import clock, insert
from lawn_tune.ledger.definitions import UNPLANNED, leases, plan
from lawn_tune.ledger.owners import Owner

LONGEST = 10
"""A lease lasts at most so many times as long as the one that a driver asks for."""


class LeaseLost(LedgerError):
    """A driver wrote to a cell that another one leases by now; nothing was written."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """What `status` shows of a leased cell.

    Args:
        owner: "host:pid" of the driver.
        expires: ISO-8601 UTC by the database's clock.
        active: False once expired, or when the driver is provably dead.
    """

    owner: str
    expires: str
    active: bool


def take(connection: Connection, cell: CellName, owner: Owner, seconds: float) -> bool:
    """Leases `cell` to `owner`; see `Ledger.lease`.

    A dead holder is named by its token, so of two drivers that both found it dead only one takes its place. A lease
    that ends later than anybody would ask for was made before the database's clock was set back, and counts as ended.
    While a cell is leased, so are the trials that it plans: no cell that shares one of them is granted. A lease of such
    a cell that ended is deleted, so that its holder cannot renew it.
    """
    now = clock(connection)
    sharing = _sharing(connection, cell, and_(leases.c.expires > now, leases.c.expires <= now + LONGEST * seconds))
    if any(row.valid and not _owner(row).is_dead() for row in sharing):
        return False
    for row in sharing:
        connection.execute(delete(leases).where(leases.c.cell == row.cell, leases.c.token == row.token))
    holder = connection.execute(select(leases).where(leases.c.cell == str(cell))).one_or_none()
    yielding = [owner.token]
    if holder is not None and _owner(holder).is_dead():
        yielding.append(holder.token)
    values = {**asdict(owner), "expires": now + seconds}
    statement = insert(connection, leases).values(cell=str(cell), **values)
    statement = statement.on_conflict_do_update(
        index_elements=[leases.c.cell],
        set_=values,
        where=or_(leases.c.expires <= now, leases.c.expires > now + LONGEST * seconds, leases.c.token.in_(yielding)),
    )
    return connection.execute(statement.returning(leases.c.cell)).scalar() is not None


def _sharing(connection: Connection, cell: CellName, valid: ColumnElement[bool]) -> list[Row[tuple[object, ...]]]:
    """Returns the leases of other cells that plan a trial of this one, and whether each is `valid`."""
    ours, theirs = plan.alias(), plan.alias()
    query = (
        select(leases, valid.label("valid"))
        .join(theirs, theirs.c.cell == leases.c.cell)
        .join(ours, and_(ours.c.key == theirs.c.key, ours.c.cell == str(cell)))
        .where(leases.c.cell != str(cell), ours.c.position != UNPLANNED, theirs.c.position != UNPLANNED)
        .distinct()
    )
    return list(connection.execute(query))


def renew(connection: Connection, owner: Owner, seconds: float) -> frozenset[CellName]:
    """Extends every lease of `owner`; one that expired is still extended if nobody took it."""
    statement = (
        update(leases)
        .where(leases.c.token == owner.token)
        .values(expires=clock(connection) + seconds)
        .returning(leases.c.cell)
    )
    return frozenset(CellName.parse(name) for name in connection.execute(statement).scalars())


def check(connection: Connection, cell: CellName, token: str) -> None:
    """Ends the transaction of a driver whose lease is another's; one that merely expired is still its own.

    Args:
        token: of the driver, "" to let anybody write.

    Raises:
        LeaseLost: it is another's, or was given back.
    """
    if token and connection.execute(select(leases.c.token).where(leases.c.cell == str(cell))).scalar() != token:
        raise lost(cell)


def lost(cell: CellName) -> LeaseLost:
    """Returns the error of a driver that no longer leases a cell."""
    return LeaseLost(f"cell '{cell}' is another launch's by now", "Nothing is lost: the other launch goes on with it.")


def release(connection: Connection, cell: CellName, owner: Owner) -> None:
    """Gives the lease back; does nothing if it is another's by now."""
    connection.execute(delete(leases).where(leases.c.cell == str(cell), leases.c.token == owner.token))


def held(connection: Connection) -> Mapping[CellName, Lease]:
    """Returns every lease that was not given back."""
    rows = connection.execute(select(leases, (leases.c.expires > clock(connection)).label("valid")))
    return {
        CellName.parse(row.cell): Lease(
            owner=str(_owner(row)),
            expires=datetime.fromtimestamp(row.expires, UTC).isoformat(timespec="seconds"),
            active=bool(row.valid) and not _owner(row).is_dead(),
        )
        for row in rows
    }


def refuse_active(connection: Connection, ledger: str, cells: Collection[CellName] | None = None) -> None:
    """Raises LedgerError if a launch works on one of these cells, or on any.

    Args:
        ledger: its URL, fit to print.
    """
    for cell, lease in held(connection).items():
        if lease.active and (cells is None or cell in cells):
            raise LedgerError(
                f"a launch works on {cell} of ledger {ledger} ({lease.owner}, until {lease.expires})",
                "Wait until it ends, or stop it: what it has trained is kept.",
            )


def _owner(row: Row[tuple[object, ...]]) -> Owner:
    return Owner(host=row.host, pid=row.pid, started=row.started, boot=row.boot, token=row.token)
