"""A study per cell and phase as rows of Optuna's tables: a copy for people that our tables can always rebuild.

States, as every Optuna tool shows them apart: COMPLETE, with the value the cell's protocol reports; PRUNED for a
diverged trial, which is a result (attribute `outcome`); FAIL for one whose retries are exhausted, with its error. A
trial that failed and later finished has both; none ever has two COMPLETE or PRUNED ones.

Rows are written through the models of Optuna's storage, which are private, because Optuna's public API commits by
itself: only in the transaction of our own row can a study not miss a trial or hold it twice. `studies.SCHEMA` guards
this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import isnan
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Column, Connection, MetaData, Table, Text, delete, func, inspect, select
from sqlalchemy.orm import Session

from lawn_tune.ledger.database import chunked
from lawn_tune.ledger.definitions import PREFIX
from trainables.catalogue.rows import Direction

OPTUNA_VERSION = Table("alembic_version", MetaData(), Column("version_num", Text))
"""Alembic's default table, where other programs keep their own revision."""

_REVISION = re.compile(r"v\d+\.\d+\.\d+\.\w+")
"""What Optuna calls its revisions."""

Levels = Mapping[str, Sequence[float]]
"""Hyperparameter → its levels, ascending."""

_STATES = {"complete": TrialState.COMPLETE, "diverged": TrialState.PRUNED, "failed": TrialState.FAIL}


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """What a study is, apart from its trials.

    Args:
        name: `space/optimizer/bs<batch>` for search trials, with `/confirm` behind it for confirm trials.
        objective: name of the value, as "last/validation/accuracy".
        direction: of the objective.
        levels: every value that any of its trials has; Optuna requires them to be fixed within a study.
        attributes: further user attributes.
    """

    name: str
    objective: str
    direction: Direction
    levels: Levels
    attributes: Mapping[str, Any]

    def fits(self, other: StudySpec) -> bool:
        """True if the trials of a study made for `self` may go on in one made for `other`."""
        same = (self.objective, self.direction) == (other.objective, other.direction)
        return same and all(set(levels) <= set(other.levels.get(name, ())) for name, levels in self.levels.items())


@dataclass(frozen=True, kw_only=True)
class StudyTrial:
    """One ended trial as a study shows it.

    Args:
        key: its identity; a user attribute.
        outcome: complete, diverged or failed; a user attribute, and the state.
        value: of the objective; None where there is none.
        hyperparameters: values among the study's levels.
        curve: epoch → objective, thinned.
        attributes: further user attributes.
        started, ended: ISO-8601 UTC.
    """

    key: str
    outcome: str
    value: float | None
    hyperparameters: Mapping[str, float]
    curve: Mapping[int, float] = field(default_factory=dict)
    attributes: Mapping[str, Any]
    started: str
    ended: str


class Study(NamedTuple):
    """A study as stored: its row number, and what it was made for."""

    id: int
    spec: StudySpec


def foreign_tables(connection: Connection) -> list[str]:
    """Returns the tables there that are neither ours nor Optuna's: of another name, key, or alembic revision."""
    look, known = inspect(connection), models.BaseModel.metadata.tables

    def is_foreign(name: str) -> bool:
        if name == OPTUNA_VERSION.name:
            return not all(map(_REVISION.fullmatch, connection.execute(select(OPTUNA_VERSION)).scalars()))
        columns = {column["name"] for column in look.get_columns(name)}
        return name not in known or not set(known[name].primary_key.columns.keys()) <= columns

    return sorted(name for name in look.get_table_names() if not name.startswith(PREFIX) and is_foreign(name))


def find(connection: Connection, name: str) -> Study | None:
    """Returns a study and locks it against other programs; None if there is none of that name, or not one of ours."""
    study, direction, attribute = models.StudyModel, models.StudyDirectionModel, models.StudyUserAttributeModel
    query = (
        select(study.study_id, direction.direction, attribute.key, attribute.value_json)
        .join(direction, direction.study_id == study.study_id)
        .join(attribute, attribute.study_id == study.study_id)
        .where(study.study_name == name)
        .with_for_update(of=study)
    )
    rows = connection.execute(query).all()
    try:
        attributes = {key: json.loads(text) for _, _, key, text in rows}
    except ValueError:
        return None
    if not {"levels", "objective"} <= attributes.keys():
        return None
    towards: Direction = "maximize" if rows[0].direction is StudyDirection.MAXIMIZE else "minimize"
    levels, objective = attributes.pop("levels"), attributes.pop("objective")
    spec = StudySpec(name=name, objective=objective, direction=towards, levels=levels, attributes=attributes)
    return Study(rows[0].study_id, spec)


def rebuild(connection: Connection, spec: StudySpec) -> Study:
    """Creates an empty study, in the place of the one of that name if there is one."""
    _remove(connection, spec.name)
    levels = {name: list(values) for name, values in spec.levels.items()}
    with _session(connection) as session:
        study = models.StudyModel(study_name=spec.name)
        direction = StudyDirection[spec.direction.upper()]
        session.add(models.StudyDirectionModel(study=study, objective=0, direction=direction))
        metric = json.dumps([spec.objective])
        session.add(models.StudySystemAttributeModel(study=study, key="study:metric_names", value_json=metric))
        for name, value in {**spec.attributes, "levels": levels, "objective": spec.objective}.items():
            session.add(models.StudyUserAttributeModel(study=study, key=name, value_json=json.dumps(value)))
        session.flush()
        return Study(int(study.study_id), spec)


def add(connection: Connection, study: Study, trials: Sequence[StudyTrial]) -> None:
    """Adds trials to a study without checking whether they are there."""
    distributions = {name: CategoricalDistribution(list(levels)) for name, levels in study.spec.levels.items()}
    insert(connection, study.id, [_frozen(trial, distributions) for trial in trials])


def doubled(connection: Connection, names: Sequence[str]) -> list[str]:
    """Returns those of the named studies that hold some key's result, or its failure, more than once."""
    study, trial, attribute = models.StudyModel, models.TrialModel, models.TrialUserAttributeModel
    failed = trial.state == TrialState.FAIL
    found: dict[str, None] = {}
    for some in chunked(names):
        query = (
            select(study.study_name)
            .join(trial, trial.study_id == study.study_id)
            .join(attribute, attribute.trial_id == trial.trial_id)
            .where(study.study_name.in_(some), attribute.key == "key")
            .group_by(study.study_name, attribute.value_json, failed)
            .having(func.count() > 1)
        )
        found |= dict.fromkeys(connection.execute(query).scalars())
    return list(found)


def id_of(connection: Connection, name: str) -> int:
    """Returns the row number of a study."""
    query = select(models.StudyModel.study_id).where(models.StudyModel.study_name == name)
    return int(connection.execute(query).scalar_one())


def _remove(connection: Connection, name: str) -> None:
    """Deletes a study with its trials in a few statements; Optuna's API loads every row first."""
    study = models.StudyModel.__table__
    known = connection.execute(select(study.c.study_id).where(study.c.study_name == name)).scalar()
    if known is None:
        return
    trials = select(models.TrialModel.trial_id).where(models.TrialModel.study_id == known)
    for table in reversed(models.BaseModel.metadata.sorted_tables):
        if "study_id" in table.c:
            connection.execute(delete(table).where(table.c.study_id == known))
        elif "trial_id" in table.c:
            connection.execute(delete(table).where(table.c.trial_id.in_(trials)))


def _session(connection: Connection) -> Session:
    """Returns a session for Optuna's models that leaves the end of the transaction to its owner."""
    return Session(connection, join_transaction_mode="rollback_only", expire_on_commit=False)


def insert(connection: Connection, study: int, trials: Sequence[FrozenTrial]) -> None:
    """Does `Study.add_trial` for many at once, which asks the database three times for each value of a trial."""
    counted = select(func.count()).where(models.TrialModel.study_id == study)
    first = connection.execute(counted).scalar_one()
    with _session(connection) as session:
        for number, trial in enumerate(trials, start=first):
            session.add_all(_rows(study, number, trial))
        session.flush()


def _rows(study_id: int, number: int, trial: FrozenTrial) -> Iterator[Any]:
    """Yields a trial as rows of Optuna's tables."""
    row = models.TrialModel(
        study_id=study_id,
        number=number,
        state=trial.state,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
    )
    yield row
    for objective, value in enumerate(trial.values or ()):
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        yield models.TrialValueModel(trial=row, objective=objective, value=stored, value_type=kind)
    for name, param in trial.params.items():
        levels = trial.distributions[name]
        yield models.TrialParamModel(
            trial=row,
            param_name=name,
            param_value=levels.to_internal_repr(param),
            distribution_json=distribution_to_json(levels),
        )
    for step, value in trial.intermediate_values.items():
        stored, shade = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
        yield models.TrialIntermediateValueModel(
            trial=row, step=step, intermediate_value=stored, intermediate_value_type=shade
        )
    for key, value in trial.user_attrs.items():
        yield models.TrialUserAttributeModel(trial=row, key=key, value_json=json.dumps(value))
    for key, value in trial.system_attrs.items():
        yield models.TrialSystemAttributeModel(trial=row, key=key, value_json=json.dumps(value))


def _frozen(trial: StudyTrial, distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    state, value = _STATES[trial.outcome], trial.value
    if state is not TrialState.COMPLETE or value is None or isnan(value):
        value = None
        state = TrialState.PRUNED if state is TrialState.COMPLETE else state  # COMPLETE demands a number
    params = dict(trial.hyperparameters)
    frozen = optuna.trial.create_trial(
        state=state,
        value=value,
        params=params,
        distributions={name: distributions[name] for name in params},
        user_attrs={"key": trial.key, "outcome": trial.outcome, **trial.attributes},
        intermediate_values=dict(trial.curve),
    )
    frozen.datetime_start, frozen.datetime_complete = _local(trial.started), _local(trial.ended)
    return frozen


def _local(moment: str) -> datetime:
    """Optuna's trials carry naive local times."""
    return datetime.fromisoformat(moment).astimezone().replace(tzinfo=None)
