"""Bulk reads: whole spaces and many keys at once, from our tables only."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import Connection, case, func, select

from lawn_tune.cells import Cell
from lawn_tune.ledger import rows
from lawn_tune.ledger.curves import Curve, decode
from lawn_tune.ledger.database import chunked
from lawn_tune.ledger.definitions import cells, curves, examples, trials
from lawn_tune.ledger.definitions import packs as pack_table
from lawn_tune.ledger.definitions import plan as plan_table
from lawn_tune.ledger.trials import followed
from lawn_tune.results import DamagedCells, Outcome, TrialRow
from trainables.examples import Outcomes


def latest(connection: Connection) -> str:
    """Returns the space in which a trial started or ended last, "" if none was started.

    Of spaces that share that trial it is the one that was launched last.
    """
    moved = func.max(case((trials.c.ended > trials.c.started, trials.c.ended), else_=trials.c.started))
    query = select(cells.c.space).join(plan_table, plan_table.c.cell == cells.c.name)
    query = query.join(trials, trials.c.key == plan_table.c.key).where(trials.c.started != "")
    query = query.group_by(cells.c.space).order_by(moved.desc(), func.max(cells.c.registered).desc(), cells.c.space)
    return connection.execute(query.limit(1)).scalar() or ""


def cells_of(connection: Connection, space: str) -> tuple[Cell, ...]:
    """Returns the cells of a space as last launched, in plan order.

    Raises:
        DamagedCells: some cannot be read; it holds the others.
    """
    query = select(cells.c.name, cells.c.definition).where(cells.c.space == space)
    found: list[Cell] = []
    damage: dict[str, str] = {}
    for name, definition in connection.execute(query.order_by(cells.c.position, cells.c.name)):
        try:
            found.append(rows.cell(name, definition))
        except rows.UNREADABLE as error:
            damage[name] = rows.reason(error)
    if damage:
        raise DamagedCells(damage, found)
    return tuple(found)


def trial_rows(connection: Connection, space: str) -> tuple[TrialRow, ...]:
    """Returns every trial of a space that was started, ordered by cell, phase and plan order."""
    query = (
        select(
            trials.c.key,
            plan_table.c.cell,
            plan_table.c.phase,
            plan_table.c.seed,
            plan_table.c.hyperparameters,
            trials.c.outcome,
            trials.c.epochs,
            plan_table.c.total_epochs,
            trials.c.summary,
            trials.c.pack,
            trials.c.attempts,
            trials.c.error,
            trials.c.provenance,
        )
        .join(plan_table, plan_table.c.cell == cells.c.name)
        .join(trials, trials.c.key == plan_table.c.key)
        .where(cells.c.space == space, trials.c.outcome != "waiting")
        .order_by(
            cells.c.position,
            cells.c.name,
            case((plan_table.c.phase == "search", 0), else_=1),
            plan_table.c.position,
            trials.c.key,
        )
    )
    result = connection.execute(query)
    names = tuple(result.keys())
    return tuple(rows.trial_row(dict(zip(names, values, strict=True))) for values in result)


def version(connection: Connection, space: str) -> str:
    """Returns what differs whenever the cells or trials of a space were written; see `ResultSource.version`.

    Every write of a trial moves its epochs, its attempts or one of its times, or its outcome; every launch moves a
    registration or adds to the plan.
    """
    here = cells.c.space == space
    launched = select(func.count(), func.max(cells.c.registered), func.sum(cells.c.position)).where(here)
    planned = select(func.count(), func.sum(plan_table.c.position))
    planned = planned.join_from(cells, plan_table, plan_table.c.cell == cells.c.name).where(here)
    states = (func.sum(case((trials.c.outcome == name, 1), else_=0)) for name in ("running", "waiting", "failed"))
    trained = select(func.sum(trials.c.epochs), func.sum(trials.c.attempts), func.max(trials.c.started), *states)
    trained = trained.add_columns(func.max(trials.c.ended), func.count())
    trained = trained.join_from(cells, plan_table, plan_table.c.cell == cells.c.name)
    trained = trained.join(trials, trials.c.key == plan_table.c.key).where(here)
    states_of = [connection.execute(query).one() for query in (launched, planned, trained)]
    return " ".join(str(value) for row in states_of for value in row)


def outcomes(connection: Connection, keys: Sequence[str]) -> dict[str, Outcome]:
    """Returns the outcome of those keys that were started and not taken back.

    Raises:
        LedgerError: one is damaged; its trial might have finished, so nobody may train it again.
    """
    found: dict[str, str] = {}
    for some in chunked(dict.fromkeys(keys)):
        query = select(trials.c.key, trials.c.outcome).where(trials.c.key.in_(some), trials.c.outcome != "waiting")
        found |= dict(connection.execute(query).all())
    return {key: rows.outcome(key, outcome) for key, outcome in found.items()}


def curves_of(connection: Connection, keys: Sequence[str]) -> dict[str, Curve]:
    """Returns whole curves of finished trials and what there is of unfinished ones.

    Raises:
        ValueError: one of them is damaged.
    """
    found: dict[str, Curve] = {}
    for some in chunked(dict.fromkeys(keys)):
        query = select(curves.c.key, curves.c.data).where(curves.c.key.in_(some))
        found |= {key: decode(data) for key, data in connection.execute(query)}
    return found | _unfinished(connection, [key for key in keys if key not in found])


def examples_of(connection: Connection, keys: Sequence[str]) -> dict[str, Outcomes]:
    """Returns the outcome on each test example [E] of those keys that have them, damaged ones left out."""
    found: dict[str, Outcomes] = {}
    for some in chunked(dict.fromkeys(keys)):
        query = select(examples.c.key, examples.c["count"], examples.c.data).where(examples.c.key.in_(some))
        for key, count, data in connection.execute(query):
            with suppress(ValueError):
                found[key] = rows.examples(count, data)
    return found


def _unfinished(connection: Connection, keys: Sequence[str]) -> dict[str, Curve]:
    found: dict[str, Curve] = {}
    for (cell, pack), wanted in _packs_of(connection, keys).items():
        query = select(pack_table.c["keys"]).where(pack_table.c.cell == cell, pack_table.c.id == pack)
        recorded = connection.execute(query).scalar_one_or_none()
        if recorded is None:  # a repair deleted the pack, or it is of a space that was not imported
            continue
        members = rows.keys_of(pack, recorded)
        stacked = followed(connection, cell, pack, len(members))
        for key in wanted if stacked else ():
            found[key] = {name: values[:, members.index(key)] for name, values in stacked.items()}
    return found


def _packs_of(connection: Connection, keys: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for some in chunked(dict.fromkeys(keys)):
        query = select(trials.c.key, trials.c.cell, trials.c.pack).where(trials.c.key.in_(some))
        for key, cell, pack in connection.execute(query):
            groups.setdefault((cell, pack), []).append(key)
    return groups
