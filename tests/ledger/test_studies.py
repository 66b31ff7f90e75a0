"""Trials written many at once against Optuna's own way, one by one: nobody can tell the studies apart."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import inspect

from lawn_tune.errors import LedgerError
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.mirror import Mirror
from lawn_tune.ledger.studies import Studies, UnknownSchema
from lawn_tune.ledger.study_rows import StudySpec, StudyTrial, add, find, rebuild

LEVELS = {"peak_lr": (0.1, 0.2, 1e-300), "weight_decay": (0.0, -1.5, 1e300)}
SPEC = StudySpec(name="a/b/bs1", objective="last/loss", direction="minimize", levels=LEVELS, attributes={"space": "a"})
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inside: st.one_of(st.lists(inside, max_size=3), st.dictionaries(st.text(max_size=3), inside, max_size=3)),
    max_leaves=5,
)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
TRIALS = st.builds(
    StudyTrial,
    key=WORDS,
    outcome=st.sampled_from(["complete", "diverged", "failed"]),
    value=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
    hyperparameters=st.fixed_dictionaries({}, optional={name: st.sampled_from(LEVELS[name]) for name in LEVELS}),
    curve=st.dictionaries(st.integers(1, 1000), st.floats(allow_nan=True, allow_infinity=True), max_size=5),
    attributes=st.dictionaries(WORDS.map("x{}".format), JSON, max_size=3),
    started=st.just("2026-11-24T01:02:03.004+00:00"),
    ended=st.just("2026-11-24T05:06:07.089+00:00"),
)


@pytest.fixture
def database(ledger_url: str) -> Iterator[Database]:
    database = Database(ledger_url)
    yield database
    database.close()


@pytest.fixture
def studies(database: Database) -> Iterator[Studies]:
    opened = Studies(database)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def storage(ledger_url: str, database: Database, studies: Studies) -> Iterator[RDBStorage]:
    with database.writing() as connection:
        rebuild(connection, SPEC)
    opened = RDBStorage(ledger_url.replace("postgresql:", "postgresql+psycopg:"))
    yield opened
    opened.remove_session()
    opened.engine.dispose()


def shown(trial: FrozenTrial) -> str:
    tables = (trial.params, trial.distributions, trial.user_attrs, trial.system_attrs, trial.intermediate_values)
    times = (trial.datetime_start, trial.datetime_complete)
    return repr((trial.number, trial.state, trial.values, times, [sorted(table.items()) for table in tables]))


@pytest.mark.long
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(batches=st.lists(st.lists(TRIALS, max_size=3), max_size=3))
def test_what_is_written_at_once_is_what_optuna_writes(
    database: Database, storage: RDBStorage, batches: list[list[StudyTrial]]
) -> None:
    with database.writing() as connection:
        made = rebuild(connection, SPEC)
    for batch in batches:
        with database.writing() as connection:
            found = find(connection, SPEC.name)
            assert found is not None
            assert found.id == made.id
            assert found.spec.fits(SPEC)
            assert SPEC.fits(found.spec)
            add(connection, made, batch)
    study = optuna.load_study(study_name=SPEC.name, storage=storage)
    assert study.direction.name.lower() == SPEC.direction
    assert study.metric_names == [SPEC.objective]
    ours = study.get_trials()
    with suppress(KeyError):
        optuna.delete_study(study_name="theirs", storage=storage)  # of the example before
    theirs = optuna.create_study(study_name="theirs", storage=storage, direction="minimize")
    theirs.add_trials(ours)
    assert [shown(trial) for trial in theirs.get_trials()] == [shown(trial) for trial in ours]
    assert [trial.number for trial in ours] == list(range(sum(map(len, batches))))
    assert [trial.user_attrs["key"] for trial in ours] == [trial.key for batch in batches for trial in batch]


def test_a_copy_of_any_study_looks_the_same(studies: Studies, storage: RDBStorage, tmp_path: object) -> None:
    made = optuna.create_study(study_name="foreign", storage=storage, directions=["minimize", "maximize"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        made.set_metric_names(["loss", "accuracy"])
    ranges = {"lr": FloatDistribution(1e-5, 1.0, log=True), "kind": CategoricalDistribution(["a", None, 3])}
    for lr, kind in ((0.1, "a"), (0.2, None), (1e-5, 3)):
        trial = create_trial(values=[lr, float("inf")], params={"lr": lr, "kind": kind}, distributions=ranges)
        trial.system_attrs = {"batch": [1, {"deep": None}]}
        trial.datetime_start = datetime(2026, 11, 24, 1, 2, 3)
        made.add_trial(trial)
    made.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"why": "x" * 3000}))
    there = Database(f"sqlite:///{tmp_path}/copy.db")
    copied = Studies(there)
    notes: list[tuple[int, int]] = []
    studies.copy("foreign", copied, lambda done, total: notes.append((done, total)))
    assert copied.digest("foreign") == studies.digest("foreign")
    assert notes == [(4, 4)]
    copied.close()
    there.close()


def test_a_study_that_is_gone_is_not_found(database: Database, studies: Studies, storage: RDBStorage) -> None:
    optuna.delete_study(study_name=SPEC.name, storage=storage)
    with database.writing() as connection:
        assert find(connection, SPEC.name) is None
    with pytest.raises(LedgerError):
        studies.digest(SPEC.name)


def test_a_rebuilt_study_takes_every_row_of_the_former_with_it(database: Database, storage: RDBStorage) -> None:
    trial = StudyTrial(
        key="k",
        outcome="complete",
        value=1.0,
        hyperparameters={"peak_lr": 0.1},
        curve={1: 2.0},
        attributes={"seed": 0},
        started="2026-11-24T01:02:03.004+00:00",
        ended="2026-11-24T05:06:07.089+00:00",
    )
    for _ in range(2):
        with database.writing() as connection:
            add(connection, rebuild(connection, SPEC), [trial])
            tables = inspect(connection).get_table_names()
            rows = {
                name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one()
                for name in tables
                if name.startswith(("trial", "stud")) and "alembic" not in name
            }
    values = {"trials": 1, "trial_values": 1, "trial_params": 1, "trial_intermediate_values": 1}
    assert rows.items() >= {"studies": 1, "study_directions": 1, "study_user_attributes": 3, **values}.items()


def test_tables_of_an_unknown_revision_are_refused(studies: Studies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lawn_tune.ledger.studies.SCHEMA", "v9.0.0.a")
    with pytest.raises(UnknownSchema, match=r"v3\.2\.0\.a"):
        studies.open()


def test_studies_that_cannot_be_updated_are_reported_once(
    database: Database, studies: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[str] = []
    with closing(Mirror(database, reports.append)) as sound:
        assert sound.ready()
    monkeypatch.setattr("lawn_tune.ledger.studies.SCHEMA", "v9.0.0.a")
    with closing(Mirror(database, reports.append)) as mirror:
        assert [mirror.ready(), mirror.ready()] == [False, False]
    (report,) = reports
    assert "the Optuna studies are not updated" in report
