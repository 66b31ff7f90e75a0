"""Keeps each cell's Optuna studies in step with our tables; nothing is there twice, whatever dies.

A study is rebuilt from our tables when its trials no longer fit it: a grid got new levels (Optuna requires them to be
fixed), the objective changed, somebody deleted it, or a version before this one wrote a trial twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from lawn_tune.cells import Cell, Phase
from lawn_tune.ledger import roster
from lawn_tune.ledger.curves import THINNED, decode, thinned
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.definitions import curves, study_names, trials
from lawn_tune.ledger.roster import Entry
from lawn_tune.ledger.studies import Studies, UnknownSchema
from lawn_tune.ledger.study_rows import StudySpec, StudyTrial, add, doubled, find, rebuild

CHUNK = 100
"""Trials that are shown in one transaction."""


class Mirror:
    """Writes what the studies lack, in transactions that note it in our tables: no trial is missing there or twice.

    Args:
        database: where the ledger lives.
        say: called once with the reason if Optuna's tables cannot be written; then none are.
    """

    def __init__(self, database: Database, say: Callable[[str], None]) -> None:
        self._database, self._say = database, say
        self._studies = Studies(database)
        self._ready: bool | None = None

    def ready(self) -> bool:
        """Creates Optuna's tables where they are missing; False if they are of an unknown revision."""
        if self._ready is None:
            try:
                self._studies.open()
                self._ready = True
            except UnknownSchema as error:
                self._say(f"{error}; the Optuna studies are not updated. {error.hint}")
                self._ready = False
        return self._ready

    def add(self, connection: Connection, cell: Cell, phase: Phase, keys: Sequence[str]) -> bool:
        """Shows ended trials in the caller's transaction, those that are not shown yet.

        Returns:
            False if nothing was shown because there is no study that fits them; see `sync`.
        """
        entries = roster.ended(connection, cell.name, phase, keys)
        study = find(connection, study_names(str(cell.name))[phase])
        if study is None or not study_spec(cell, phase, entries).fits(study.spec):
            return False
        lacking = [entry for entry in entries if entry.mirrored != entry.outcome]
        if lacking:
            add(connection, study, study_trials(connection, cell, phase, lacking))
            roster.mark_mirrored(connection, cell.name, {entry.key: entry.outcome for entry in lacking})
        return True

    def sync(self, cell: Cell, phase: Phase) -> None:
        """Leaves the study with every ended trial exactly once, whatever happened before."""
        if not self.ready():
            return
        with self._database.writing() as connection:
            lacking = self._prepare(connection, cell, phase)
        for start in range(0, len(lacking), CHUNK):
            with self._database.writing() as connection:
                self.add(connection, cell, phase, lacking[start : start + CHUNK])

    def repair(self, cells: Sequence[Cell]) -> None:
        """Rebuilds the studies that hold a trial twice, as versions before this one could leave them."""
        places = {name: (cell, phase) for cell in cells for phase, name in study_names(str(cell.name)).items()}
        if self.ready():
            with self._database.reading() as connection:
                names = doubled(connection, list(places))
            for name in names:
                self.sync(*places[name])

    def close(self) -> None:
        """Closes Optuna's connections."""
        self._studies.close()

    def _prepare(self, connection: Connection, cell: Cell, phase: Phase) -> list[str]:
        """Leaves a study that fits the cell and holds no trial twice; returns the keys that it lacks."""
        entries = roster.ended(connection, cell.name, phase)
        if phase == "confirm" and not entries:
            return []
        spec = study_spec(cell, phase, entries)
        study = find(connection, spec.name)
        if study is None or not spec.fits(study.spec) or doubled(connection, [spec.name]):
            roster.forget_mirrored(connection, cell.name, phase)
            rebuild(connection, spec)
            return [entry.key for entry in entries]
        return [entry.key for entry in entries if entry.mirrored != entry.outcome]


def _objective(cell: Cell, phase: Phase) -> str:
    """Returns the series that a phase is judged by: what selects in search, the test metric in confirm."""
    split = cell.protocol.selection if phase == "search" else "test"
    return f"{split}/{cell.protocol.metric}"


def study_spec(cell: Cell, phase: Phase, entries: Sequence[Entry]) -> StudySpec:
    """Returns the study that fits a phase of a cell, these trials of it included."""
    levels: dict[str, set[float]] = {name: set(values) for name, values in cell.grid.values.items()}
    for entry in entries:
        for name, value in entry.hyperparameters.items():
            levels.setdefault(name, set()).add(value)
    return StudySpec(
        name=study_names(str(cell.name))[phase],
        objective=f"{cell.protocol.reported}/{_objective(cell, phase)}",
        direction=cell.protocol.direction,
        levels={name: sorted(values) for name, values in levels.items()},
        attributes={
            "space": cell.name.space,
            "optimizer": cell.name.optimizer,
            "batch_size": cell.name.batch_size,
            "dataset": cell.task.dataset,
            "phase": phase,
        },
    )


def study_trials(
    connection: Connection, cell: Cell, phase: Phase, entries: Sequence[Entry], curve_values: int = THINNED
) -> list[StudyTrial]:
    """Returns ended trials as their study shows them, each with at most so many values of its curve."""
    query = select(trials, curves.c.data.label("curve")).outerjoin(curves, curves.c.key == trials.c.key)
    query = query.where(trials.c.key.in_([entry.key for entry in entries]))
    rows = {row["key"]: row for row in connection.execute(query).mappings()}
    return [_study_trial(cell, phase, entry, rows[entry.key], curve_values) for entry in entries]


def _study_trial(cell: Cell, phase: Phase, entry: Entry, row: Mapping[Any, Any], curve_values: int) -> StudyTrial:
    series = _objective(cell, phase)
    curve = decode(row["curve"]) if row["curve"] is not None else {}
    provenance = json.loads(row["provenance"])
    attributes = {name: value for name, value in provenance.items() if name not in ("started", "ended")} | {
        "seed": entry.seed,
        "phase": phase,
        "pack": row["pack"],
        "epochs": row["epochs"],
        "total_epochs": entry.total_epochs,
    }
    if entry.outcome == "failed":
        attributes["error"] = row["error"]
    return StudyTrial(
        key=entry.key,
        outcome=entry.outcome,
        value=json.loads(row["summary"]).get(f"{cell.protocol.reported}/{series}"),
        hyperparameters=entry.hyperparameters,
        curve=thinned(curve[series], curve_values) if series in curve else {},
        attributes=attributes,
        started=row["started"],
        ended=row["ended"],
    )
