"""Optuna studies of a whole ledger by bulk inserts: as an Optuna user would load them, written in seconds."""

from __future__ import annotations

import json
import math
import sys
from datetime import UTC, datetime
from itertools import count
from typing import Any

from optuna.distributions import CategoricalDistribution, distribution_to_json
from sqlalchemy import MetaData, insert

from lawn_tune.cells import Phase
from lawn_tune.ledger import reads, roster
from lawn_tune.ledger.curves import THINNED
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.mirror import study_spec, study_trials
from lawn_tune.ledger.studies import Studies
from lawn_tune.ledger.study_rows import StudySpec, StudyTrial, rebuild

PHASES: tuple[Phase, ...] = ("search", "confirm")
STATES = {"complete": "COMPLETE", "diverged": "PRUNED", "failed": "FAIL"}
WHOLE = sys.maxsize
Rows = dict[str, list[dict[str, Any]]]
"""Name of an Optuna table → rows."""


def write(ledger_url: str, url: str, *, curve_values: int = THINNED) -> tuple[str, ...]:
    """Writes the studies of a ledger to a separate database and returns their names.

    The studies are created by Optuna with the content that a launch writes; only the trials bypass its API, which takes
    tens of milliseconds per trial.

    Args:
        ledger_url: of the ledger.
        url: of a new database.
        curve_values: maximum number of intermediate values of a trial; `WHOLE` for every epoch.
    """
    source, target = Database(ledger_url), Database(url)
    studies = Studies(target)
    studies.open()
    names: list[str] = []
    with source.reading() as reader:
        for cell in [cell for space in roster.spaces(reader) for cell in reads.cells_of(reader, space)]:
            for phase in PHASES:
                entries = roster.ended(reader, cell.name, phase)
                if entries:
                    spec = study_spec(cell, phase, entries)
                    with target.writing() as writer:
                        rebuild(writer, spec)
                    names.append(spec.name)
                    _insert(target, spec, study_trials(reader, cell, phase, entries, curve_values))
    studies.close()
    source.close()
    target.close()
    return tuple(names)


def _insert(target: Database, spec: StudySpec, trials: list[StudyTrial]) -> None:
    tables = MetaData()
    tables.reflect(target.engine)
    with target.writing() as connection:
        studies, known = tables.tables["studies"], tables.tables["trials"]
        study = connection.execute(studies.select().where(studies.c.study_name == spec.name)).one().study_id
        last = connection.execute(known.select().order_by(known.c.trial_id.desc()).limit(1)).first()
        rows: Rows = {}
        for number, (trial_id, trial) in enumerate(zip(count(last.trial_id + 1 if last else 1), trials, strict=False)):
            _add(rows, {"trial_id": trial_id, "number": number, "study_id": study}, spec, trial)
        for name, content in rows.items():
            connection.execute(insert(tables.tables[name]), content)


def _add(rows: Rows, identity: dict[str, int], spec: StudySpec, trial: StudyTrial) -> None:
    """Adds one trial in the layout of Optuna's storage."""
    me = {"trial_id": identity["trial_id"]}
    measured = trial.value is not None and not math.isnan(trial.value)
    state = STATES[trial.outcome] if measured or trial.outcome != "complete" else "PRUNED"
    times = {"datetime_start": _utc(trial.started), "datetime_complete": _utc(trial.ended)}
    rows.setdefault("trials", []).append(identity | {"state": state} | times)
    if state == "COMPLETE":
        reached = {"objective": 0, "value": trial.value, "value_type": "FINITE"}
        rows.setdefault("trial_values", []).append(me | reached)
    for name, value in trial.hyperparameters.items():
        levels = CategoricalDistribution(list(spec.levels[name]))
        param = {"param_name": name, "param_value": levels.to_internal_repr(value)}
        rows.setdefault("trial_params", []).append(me | param | {"distribution_json": distribution_to_json(levels)})
    for key, attribute in {"key": trial.key, "outcome": trial.outcome, **trial.attributes}.items():
        rows.setdefault("trial_user_attributes", []).append(me | {"key": key, "value_json": json.dumps(attribute)})
    for step, value in trial.curve.items():
        point = {"step": step, "intermediate_value": value, "intermediate_value_type": "FINITE"}
        rows.setdefault("trial_intermediate_values", []).append(me | point)


def _utc(moment: str) -> datetime:
    return datetime.fromisoformat(moment).astimezone(UTC).replace(tzinfo=None)
