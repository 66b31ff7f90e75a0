"""The only file that knows Optuna: a study a cell and phase, a copy for people, which can be made anew from our tables.

States, as every Optuna tool shows them apart: COMPLETE, with the value the cell's protocol reports; PRUNED for a
diverged trial, which is a result (attribute `outcome`); FAIL for one whose retries are exhausted, with its error. A
trial that failed and later finished has both; none ever has two COMPLETE or PRUNED ones.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from math import isnan
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json
from optuna.exceptions import ExperimentalWarning, OptunaError, StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from lawn_tune.ledger.database import Database, Unreachable, patiently
from trainables.catalogue.rows import Direction

Levels = Mapping[str, Sequence[float]]
"""Hyperparameter → its levels, ascending."""

CHUNK = 100
"""Trials that are copied in one transaction."""

_STATES = {"complete": TrialState.COMPLETE, "diverged": TrialState.PRUNED, "failed": TrialState.FAIL}


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """What a study is, apart from its trials.

    Args:
        name: `space/optimizer/bs<batch>` for search trials, with `/confirm` behind it for confirm trials.
        objective: name of the value, as "last/validation/accuracy".
        direction: of the objective.
        levels: every value that any of its trials has; Optuna wants them fixed within a study.
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


class Studies:
    """The Optuna studies of one database. Used by one thread; Optuna's tables are made on first use.

    Every method raises LedgerError when Optuna or the database fails.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._opened: RDBStorage | None = None

    def find(self, name: str) -> StudySpec | None:
        """Returns what the study was made for, or None if there is no such study (of ours)."""
        with self._translated():
            study = self._load(name)
            attributes = {} if study is None else dict(study.user_attrs)
            if study is None or not {"levels", "objective"} <= attributes.keys():
                return None
            direction: Direction = "maximize" if study.direction.name == "MAXIMIZE" else "minimize"
            levels, objective = attributes.pop("levels"), attributes.pop("objective")
        return StudySpec(name=name, objective=objective, direction=direction, levels=levels, attributes=attributes)

    def create(self, spec: StudySpec) -> None:
        """Makes an empty study, in the place of one of that name if there is one."""
        with self._translated():
            if self._load(spec.name) is not None:
                optuna.delete_study(study_name=spec.name, storage=self._storage)
            study = optuna.create_study(
                study_name=spec.name, storage=self._storage, direction=spec.direction, load_if_exists=True
            )
            _name_metrics(study, [spec.objective])
            levels = {name: list(values) for name, values in spec.levels.items()}
            # `find` asks for the objective, so it comes last: a study cut short here is made anew.
            for name, value in {**spec.attributes, "levels": levels, "objective": spec.objective}.items():
                study.set_user_attr(name, value)

    def recorded(self, name: str) -> Counter[tuple[str, str]]:
        """Returns how often each (key, outcome) is in a study."""
        with self._translated():
            trials = optuna.load_study(study_name=name, storage=self._storage).get_trials(deepcopy=False)
        return Counter((str(t.user_attrs.get("key")), str(t.user_attrs.get("outcome"))) for t in trials)

    def add(self, spec: StudySpec, trials: Sequence[StudyTrial]) -> bool:
        """Adds trials to a study in one transaction, and does not look whether they are there.

        Returns:
            False if there is no such study.
        """
        distributions = {name: CategoricalDistribution(list(levels)) for name, levels in spec.levels.items()}
        with self._translated():
            return _insert(self._storage, spec.name, [_frozen(trial, distributions) for trial in trials])

    def exists(self, name: str) -> bool:
        """Tells whether there is a study of that name, ours or another's."""
        with self._translated():
            return self._load(name) is not None

    def digest(self, name: str) -> str:
        """Returns a hash of all that a study shows: attributes, and its trials in their order."""
        with self._translated():
            study = optuna.load_study(study_name=name, storage=self._storage)
            shown = (study.directions, study.metric_names, sorted(study.user_attrs.items()))
            digest = hashlib.sha256(repr(shown).encode())
            for trial in study.get_trials(deepcopy=False):
                digest.update(repr(_shown(trial)).encode())
        return digest.hexdigest()

    def copy(self, name: str, target: Studies, advance: Callable[[int, int], None]) -> None:
        """Makes the same study in another database, in the place of one of that name if there is one.

        Args:
            name: of a study that is here.
            target: where to.
            advance: told how many trials of how many are there.
        """
        with self._translated():
            study = optuna.load_study(study_name=name, storage=self._storage)
            attributes, names, trials = study.user_attrs, study.metric_names, study.get_trials(deepcopy=False)
            directions = study.directions
        with target._translated():
            if target._load(name) is not None:
                optuna.delete_study(study_name=name, storage=target._storage)
            made = optuna.create_study(study_name=name, storage=target._storage, directions=directions)
            if names is not None:
                _name_metrics(made, names)
            for attribute, value in attributes.items():
                made.set_user_attr(attribute, value)
            for start in range(0, len(trials), CHUNK):
                some = trials[start : start + CHUNK]
                _insert(target._storage, name, some)
                advance(start + len(some), len(trials))

    def close(self) -> None:
        """Closes Optuna's connections."""
        if self._opened is not None:
            self._opened.remove_session()
            self._opened.engine.dispose()
            self._opened = None

    @property
    def _storage(self) -> RDBStorage:
        if self._opened is None:
            # Several processes may make Optuna's tables at once, and Optuna does not wait for another.
            self._opened = patiently(self._open, StorageInternalError, SQLAlchemyError)
        return self._opened

    def _open(self) -> RDBStorage:
        optuna.logging.set_verbosity(logging.ERROR)  # what it warns of, a lost connection, is told once, by us
        url = self._database.url.render_as_string(hide_password=False)
        escaped = url.replace("{", "{{").replace("}", "}}")  # Optuna calls str.format on it
        return RDBStorage(escaped, engine_kwargs=self._database.engine_options)

    def _load(self, name: str) -> optuna.Study | None:
        try:
            return optuna.load_study(study_name=name, storage=self._storage)
        except KeyError:
            return None

    @contextmanager
    def _renewed(self) -> Iterator[None]:
        """Opens Optuna's storage anew after a lost connection, as its session may be left in a broken transaction."""
        try:
            yield
        except Unreachable:
            with suppress(SQLAlchemyError):
                self.close()
            self._opened = None
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with self._renewed(), self._database.translated():
            try:
                yield
            except StorageInternalError as error:
                raise self._database.failure(error.__cause__ or error) from None
            except (OptunaError, RuntimeError, KeyError, ValueError) as error:
                raise self._database.failure(f"Optuna: {error}") from None


def _insert(storage: RDBStorage, study: str, trials: Sequence[FrozenTrial]) -> bool:
    """Does `Study.add_trial` for many at once: that asks the database three times for each of a trial's values."""
    with Session(storage.engine) as session, session.begin():
        if storage.engine.name == "sqlite":
            session.connection().exec_driver_sql("BEGIN IMMEDIATE")  # it knows no FOR UPDATE
        into = session.query(models.StudyModel).filter_by(study_name=study).with_for_update().one_or_none()
        if into is None:
            return False
        for number, trial in enumerate(trials, start=models.TrialModel.count(session, into)):
            session.add_all(_rows(cast(int, into.study_id), number, trial))
        return True


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


def _name_metrics(study: optuna.Study, names: Sequence[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # set_metric_names, since Optuna 3.2
        study.set_metric_names(list(names))


def _shown(trial: FrozenTrial) -> tuple[object, ...]:
    """Returns all of a trial but its row number in a database."""
    tables = (trial.params, trial.distributions, trial.user_attrs, trial.system_attrs, trial.intermediate_values)
    times = (trial.datetime_start, trial.datetime_complete)
    return (trial.number, trial.state.name, trial.values, times, *(sorted(table.items()) for table in tables))


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
