"""The Optuna studies of a database by Optuna's own API: opened, copied and compared; `study_rows` writes them."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError, StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from lawn_tune.errors import LedgerError
from lawn_tune.ledger.database import Database, Unreachable, patiently
from lawn_tune.ledger.study_rows import id_of, insert

SCHEMA = "v3.2.0.a"
"""Revision of Optuna's tables that rows are written for: that of Optuna 3.2 to 5.0."""

CHUNK = 100
"""Trials that are copied in one transaction."""


class UnknownSchema(LedgerError):
    """Optuna's tables are of a revision that this version cannot write."""


class Studies:
    """The Optuna studies of one database, by Optuna's public API. Used by one thread.

    Every method raises LedgerError when Optuna or the database fails.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._opened: RDBStorage | None = None

    def open(self) -> None:
        """Creates Optuna's tables where they are missing, in a transaction of its own.

        Raises:
            UnknownSchema: the tables are there, of a revision other than `SCHEMA`.
        """
        with self._translated():
            storage = self._storage
            revision = storage.get_current_version()
        if revision != SCHEMA:
            raise self._unknown(f"their revision is {revision}, this version of lawn-tune writes {SCHEMA}")

    def exists(self, name: str) -> bool:
        """Whether there is a study of that name, ours or another's."""
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
        """Creates the same study in another database, in the place of one of that name if there is one.

        Args:
            name: of a study that is here.
            target: where to.
            advance: called with how many trials of how many are there.
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
                with target._database.writing() as connection:
                    insert(connection, id_of(connection, name), some)
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
            # Several processes may create Optuna's tables at once, and Optuna does not wait for another.
            try:
                self._opened = patiently(self._open, StorageInternalError, SQLAlchemyError)
            except RuntimeError as error:  # Optuna's own check of its schema
                raise self._unknown(str(error)) from None
        return self._opened

    def _open(self) -> RDBStorage:
        optuna.logging.set_verbosity(logging.ERROR)  # what it warns of, a lost connection, is reported once, by us
        url = self._database.url.render_as_string()
        escaped = url.replace("{", "{{").replace("}", "}}")  # Optuna calls str.format on it
        return RDBStorage(escaped, engine_kwargs=self._database.engine_options)

    def _unknown(self, reason: str) -> UnknownSchema:
        return UnknownSchema(
            f"ledger {self._database.shown}: Optuna's tables cannot be written: {reason}",
            f"Install a version of Optuna whose tables are of revision {SCHEMA}, or run `optuna storage "
            "upgrade`; all results are kept in the ledger's own tables.",
        )

    def _load(self, name: str) -> optuna.Study | None:
        try:
            return optuna.load_study(study_name=name, storage=self._storage)
        except KeyError:
            return None

    @contextmanager
    def _renewed(self) -> Iterator[None]:
        """Reopens Optuna's storage after a lost connection, as its session may be left in a broken transaction."""
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


def _name_metrics(study: optuna.Study, names: Sequence[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # set_metric_names, since Optuna 3.2
        study.set_metric_names(list(names))


def _shown(trial: FrozenTrial) -> tuple[object, ...]:
    """Returns all of a trial but its row number in a database."""
    tables = (trial.params, trial.distributions, trial.user_attrs, trial.system_attrs, trial.intermediate_values)
    times = (trial.datetime_start, trial.datetime_complete)
    return (trial.number, trial.state.name, trial.values, times, *(sorted(table.items()) for table in tables))
