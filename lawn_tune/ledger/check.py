"""Reads every row of a ledger and reports what is damaged, with the same validation that every reader applies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from sqlalchemy import Connection, RowMapping, Select, inspect, select

from lawn_tune.cells import PHASES
from lawn_tune.ledger import rows
from lawn_tune.ledger.curves import decode
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.definitions import cells, curves, examples, packs, plan, progress, study_names, trials
from lawn_tune.ledger.packs import State
from lawn_tune.results import REPAIR

CHUNK = 100
"""Rows in memory at once; a row is a whole curve at most."""

REPAIR_CELL = "Launch the whole space again, which rewrites its cells; or put back a copy of the ledger."
REPAIR_PLAN = "Launch the space again, which rewrites its plan."
REPAIR_PROGRESS = "Delete the pack's rows from lawn_progress; its next start begins without them."
REPAIR_STUDY = "Launch the space again, which rebuilds the study."


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One damaged row.

    Args:
        space, cell: what it belongs to, "" where unknown.
        row: what it is, with its key.
        why: what is wrong with it.
        repair: what to do.
    """

    space: str
    cell: str
    row: str
    why: str
    repair: str


def check(database: Database) -> tuple[int, list[Damage]]:
    """Returns the number of rows read and what is damaged, our tables first, then the Optuna studies.

    Raises:
        LedgerError: the database fails.
    """
    with database.reading() as connection:
        found = _Check(connection)
        for look in (found.cells, found.plan, found.trials, found.packs, found.progress, found.curves, found.examples):
            look()
        if inspect(connection).has_table("studies"):
            found.studies()
    return found.read, found.damage


def _check_pack(row: RowMapping) -> None:
    rows.pack_keys(row["key"], row["keys"])
    if row["phase"] not in PHASES or row["state"] not in get_args(State) or type(row["attempts"]) is not int:
        raise ValueError(f"unknown phase '{row['phase']}', state '{row['state']}' or attempts '{row['attempts']}'")


class _Check:
    def __init__(self, connection: Connection) -> None:
        self.read, self.damage = 0, list[Damage]()
        self._connection = connection
        self._space_of: dict[str, str] = dict(connection.execute(select(cells.c.name, cells.c.space)).all())

    def cells(self) -> None:
        query = select(cells.c.name.label("cell"), cells.c.definition)
        self._each(query, "its definition", REPAIR_CELL, lambda row: rows.cell(row["cell"], row["definition"]))

    def plan(self) -> None:
        query = select(plan.c.cell, plan.c.key, plan.c.phase, plan.c.seed, plan.c.hyperparameters, plan.c.total_epochs)
        self._each(query, "planned trial", REPAIR_PLAN, lambda row: rows.check_planned(dict(row)))

    def trials(self) -> None:
        query = select(trials)
        self._each(query, "trial", REPAIR, lambda row: rows.check_trained(dict(row)))

    def packs(self) -> None:
        columns = (packs.c.id.label("key"), packs.c["keys"], packs.c.phase, packs.c.state, packs.c.attempts)
        self._each(select(packs.c.cell, *columns), "pack", rows.REPAIR_PACK, _check_pack)

    def progress(self) -> None:
        query = select(progress.c.cell, progress.c.pack.label("key"), progress.c.data)
        self._each(query, "progress of pack", REPAIR_PROGRESS, lambda row: decode(row["data"]))

    def curves(self) -> None:
        query = select(trials.c.cell, curves.c.key, curves.c.data).join_from(curves, trials, isouter=True)
        self._each(query, "curve of trial", REPAIR, lambda row: decode(row["data"]))

    def examples(self) -> None:
        columns = (trials.c.cell, examples.c.key, examples.c["count"], examples.c.data)
        query = select(*columns).join_from(examples, trials, isouter=True)
        self._each(query, "examples of trial", REPAIR, lambda row: rows.examples(row["count"], row["data"]))

    def studies(self) -> None:
        from lawn_tune.ledger.study_rows import doubled  # brings Optuna

        names = {name: cell for cell in self._space_of for name in study_names(cell).values()}
        for name in doubled(self._connection, list(names)):
            self._add(names[name], f"study {name}", "it holds a trial twice", REPAIR_STUDY)

    def _each(self, query: Select[Any], what: str, repair: str, read: Callable[[RowMapping], object]) -> None:
        for row in self._rows(query):
            self.read += 1
            try:
                read(row)
            except rows.UNREADABLE as error:
                self._add(row["cell"], f"{what} {row.get('key', '')}".strip(), rows.reason(error), repair)

    def _rows(self, query: Select[Any]) -> Iterator[RowMapping]:
        yield from self._connection.execute(query.execution_options(yield_per=CHUNK)).mappings()

    def _add(self, cell: Any, row: str, why: str, repair: str) -> None:
        name = str(cell or "")
        self.damage.append(Damage(space=self._space_of.get(name, ""), cell=name, row=row, why=why, repair=repair))
