"""How trials change: started, followed, finished, failed, taken back. A finished trial never changes again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, and_, delete, func, select, update

from lawn_tune.cells import CellName
from lawn_tune.ledger import curves
from lawn_tune.ledger.curves import Curve
from lawn_tune.ledger.database import insert
from lawn_tune.ledger.definitions import curves as curve_table
from lawn_tune.ledger.definitions import examples, progress, trials
from lawn_tune.ledger.packs import PackRow
from lawn_tune.results import FINISHED, finite
from trainables.outcomes import EpochRecord, TrialOutcome


def start(connection: Connection, pack: PackRow) -> None:
    """Marks the trials of a pack as running, except those that finished already."""
    rows = [
        _row(pack, key, outcome="running", attempts=pack.attempts, started=_now()) for key in dict.fromkeys(pack.keys)
    ]
    _write(connection, rows, "cell", "pack", "outcome", "attempts", "started")


def follow(connection: Connection, pack: PackRow, records: Sequence[EpochRecord]) -> None:
    """Stores the epochs of a running pack; those from the first one given on replace what was stored before."""
    first = records[0].epoch
    here = (progress.c.cell == str(pack.cell), progress.c.pack == pack.id)
    connection.execute(delete(progress).where(*here, progress.c.epoch >= first))
    measured = {record.epoch - first + 1: record.series for record in records}
    part = curves.stack(measured, len(pack.keys))
    data = curves.encode({name: values.ravel() for name, values in part.items()})
    row = {"cell": str(pack.cell), "pack": pack.id, "epoch": first, "data": data}
    connection.execute(insert(connection, progress), row)
    running = (trials.c.cell == str(pack.cell), trials.c.pack == pack.id, trials.c.outcome == "running")
    connection.execute(update(trials).where(*running).values(epochs=records[-1].epoch))


def finish(
    connection: Connection, pack: PackRow, outcomes: Sequence[TrialOutcome], provenance: Mapping[str, Any]
) -> None:
    """Stores outcomes, curves and examples of those trials that are not finished yet."""
    began = _started(connection, pack)
    end = _now()
    rows = [
        _row(
            pack,
            outcome.key,
            outcome=outcome.outcome,
            epochs=outcome.epochs,
            attempts=pack.attempts,
            summary=json.dumps(_measured(outcome.summary), allow_nan=False),
            provenance=json.dumps({"started": began.get(outcome.key, end), "ended": end} | dict(provenance)),
            started=began.get(outcome.key, end),
            ended=end,
        )
        for outcome in outcomes
    ]
    changed = ("cell", "pack", "outcome", "epochs", "attempts", "summary", "provenance", "started", "ended")
    written = _write(connection, rows, *changed)
    fresh = [outcome for outcome in outcomes if outcome.key in written]
    _keep_curves(connection, pack, fresh)
    _keep_examples(connection, fresh)


def _measured(summary: Mapping[str, float | None]) -> dict[str, float | None]:
    """What could not be measured is null: a reader takes NaN and infinity for damage."""
    return {name: finite(value) for name, value in summary.items()}


def fail(connection: Connection, pack: PackRow, error: str) -> None:
    """Marks the trials of a pack as failed, except those that finished already."""
    rows = [
        _row(pack, key, outcome="failed", attempts=pack.attempts, error=error, started=_now(), ended=_now())
        for key in dict.fromkeys(pack.keys)
    ]
    _write(connection, rows, "cell", "pack", "outcome", "attempts", "error", "ended")


def take_back(connection: Connection, cell: CellName, pack: str | None = None) -> None:
    """Makes the running trials of a cell (or of one pack) waiting again."""
    where = [trials.c.cell == str(cell), trials.c.outcome == "running"]
    if pack is not None:
        where.append(trials.c.pack == pack)
    connection.execute(update(trials).where(*where).values(outcome="waiting"))


def forget_progress(connection: Connection, pack: PackRow) -> None:
    """Drops the epochs of a pack, once its curves are kept or worth nothing."""
    connection.execute(delete(progress).where(progress.c.cell == str(pack.cell), progress.c.pack == pack.id))


def all_finished(connection: Connection, keys: Sequence[str]) -> bool:
    """True if every trial of a pack is finished."""
    query = select(func.count()).select_from(trials)
    query = query.where(trials.c.key.in_(keys), trials.c.outcome.in_(FINISHED))
    return connection.execute(query).scalar_one() == len(set(keys))


def followed(connection: Connection, cell: str, pack: str, members: int) -> Curve:
    """Returns what was stored of an unfinished pack of K members: series → values [E, K]; empty if nothing was."""
    query = select(progress.c.epoch, progress.c.data).where(progress.c.cell == cell, progress.c.pack == pack)
    parts = [
        (epoch, {name: values.reshape(-1, members) for name, values in curves.decode(data).items()})
        for epoch, data in connection.execute(query.order_by(progress.c.epoch))
    ]
    return curves.join(parts, members)


def _keep_curves(connection: Connection, pack: PackRow, outcomes: Sequence[TrialOutcome]) -> None:
    stacked = followed(connection, str(pack.cell), pack.id, len(pack.keys))
    if not stacked or not outcomes:
        return
    rows = []
    for outcome in outcomes:
        member = pack.keys.index(outcome.key)
        curve = {name: values[: outcome.epochs, member] for name, values in stacked.items()}
        rows.append({"key": outcome.key, "data": curves.encode(curve)})
    connection.execute(insert(connection, curve_table), rows)


def _keep_examples(connection: Connection, outcomes: Sequence[TrialOutcome]) -> None:
    rows = [
        {"key": outcome.key, "count": outcome.example_count, "data": outcome.examples}
        for outcome in outcomes
        if outcome.example_count
    ]
    if rows:
        connection.execute(insert(connection, examples), rows)


def _write(connection: Connection, rows: Sequence[Mapping[str, Any]], *changed: str) -> set[str]:
    """Inserts rows, or changes those columns of rows that are not finished; returns the keys written."""
    if not rows:
        return set()
    statement = insert(connection, trials)
    conflict = statement.on_conflict_do_update(
        index_elements=[trials.c.key],
        set_={name: statement.excluded[name] for name in changed},
        where=and_(*(trials.c.outcome != outcome for outcome in sorted(FINISHED))),  # IN takes no rows with it
    )
    # Rows next to the statement, not in it: SQLAlchemy compiles it once then, not for each pack.
    return set(connection.execute(conflict.returning(trials.c.key), [dict(row) for row in rows]).scalars())


def _row(pack: PackRow, key: str, **values: Any) -> dict[str, Any]:
    blank = {"epochs": 0, "error": "", "summary": "{}", "provenance": "{}", "ended": ""}
    return blank | {"key": key, "cell": str(pack.cell), "pack": pack.id} | values


def _started(connection: Connection, pack: PackRow) -> dict[str, str]:
    query = select(trials.c.key, trials.c.started).where(trials.c.key.in_(pack.keys))
    return dict(connection.execute(query).all())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
