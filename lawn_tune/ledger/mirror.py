"""Keeps each cell's Optuna studies in step with our tables, which come first; nothing is there twice, whatever dies.

A study is made anew from our tables when its trials no longer fit it: a grid got new levels (Optuna wants them fixed),
the objective changed, somebody deleted it, or two drivers wrote one trial after a lease had run out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from lawn_tune.cells import Cell, CellName, Phase
from lawn_tune.ledger import roster
from lawn_tune.ledger.curves import THINNED, decode, thinned
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.definitions import curves, trials
from lawn_tune.ledger.roster import Entry
from lawn_tune.ledger.studies import Studies, StudySpec, StudyTrial
from lawn_tune.results import FINISHED

CHUNK = 100


class Mirror:
    """Writes what the studies lack. The caller holds the cell's lease."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._studies = Studies(database)
        self._unsure: set[tuple[CellName, Phase]] = set()
        self._found: dict[str, StudySpec] = {}

    def add(self, cell: Cell, phase: Phase, keys: Sequence[str]) -> None:
        """Adds trials that just ended; falls back on `sync` if the study does not fit them, or the last time failed."""
        place = (cell.name, phase)
        if place in self._unsure:
            self.sync(cell, phase)
        else:
            self._unsure.add(place)
            self._add(cell, phase, keys)
        self._unsure.discard(place)

    def _add(self, cell: Cell, phase: Phase, keys: Sequence[str]) -> None:
        with self._database.reading() as connection:
            chosen = roster.ended(connection, cell.name, phase, keys)
        lacking = [entry for entry in chosen if entry.mirrored != entry.outcome]
        study = self._found.get(study_name(cell, phase))
        if (
            study is None
            or not study_spec(cell, phase, chosen).fits(study)
            or not self._write(cell, phase, study, lacking)
        ):
            self.sync(cell, phase)

    def sync(self, cell: Cell, phase: Phase) -> None:
        """Leaves the study with every ended trial exactly once, whatever happened before."""
        with self._database.reading() as connection:
            entries = roster.ended(connection, cell.name, phase)
        if phase == "confirm" and not entries:
            return
        spec = study_spec(cell, phase, entries)
        study = self._studies.find(spec.name)
        if study is None or not spec.fits(study):
            study, entries = self._anew(cell, phase, spec, entries)
        self._found[spec.name] = study
        lacking = [entry for entry in entries if entry.mirrored != entry.outcome]
        if not lacking:
            return
        there = self._studies.recorded(study.name)
        if _doubled(there):
            self._found[spec.name], lacking = self._anew(cell, phase, spec, entries)
            there.clear()
        absent = [entry for entry in lacking if (entry.key, entry.outcome) not in there]
        self._write(cell, phase, self._found[spec.name], absent)
        self._mark(cell, lacking)

    def close(self) -> None:
        """Closes Optuna's connections."""
        self._studies.close()

    def _anew(
        self, cell: Cell, phase: Phase, spec: StudySpec, entries: Sequence[Entry]
    ) -> tuple[StudySpec, list[Entry]]:
        with self._database.writing() as connection:
            roster.forget_mirrored(connection, cell.name, phase)
        self._studies.create(spec)
        with self._database.reading() as connection:
            known = {entry.key for entry in entries}
            return spec, [entry for entry in roster.ended(connection, cell.name, phase) if entry.key in known]

    def _write(self, cell: Cell, phase: Phase, study: StudySpec, entries: Sequence[Entry]) -> bool:
        """Returns False if somebody deleted the study."""
        for start in range(0, len(entries), CHUNK):
            some = entries[start : start + CHUNK]
            with self._database.reading() as connection:
                ready = study_trials(connection, cell, phase, some)
            if not self._studies.add(study, ready):
                return False
            self._mark(cell, some)
        return True

    def _mark(self, cell: Cell, entries: Iterable[Entry]) -> None:
        with self._database.writing() as connection:
            roster.mark_mirrored(connection, cell.name, {entry.key: entry.outcome for entry in entries})


def study_name(cell: Cell, phase: Phase) -> str:
    """Returns the study of a phase: search and confirm apart, because their values are of different splits."""
    return str(cell.name) if phase == "search" else f"{cell.name}/confirm"


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
        name=study_name(cell, phase),
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


def _doubled(there: Mapping[tuple[str, str], int]) -> bool:
    """True if some key has two results."""
    results: dict[str, int] = {}
    for (key, outcome), count in there.items():
        results[key] = results.get(key, 0) + (count if outcome in FINISHED else 0)
    return any(count > 1 for count in results.values())


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
