"""Optuna studies show what the ledger holds, each key once."""

from __future__ import annotations

import math
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

from lawn_tune.cells import Cell
from lawn_tune.ledger import Ledger
from tests.helpers.ledger_contract import (
    EPOCHS,
    PROVENANCE,
    begun,
    make_cell,
    outcomes,
    records,
    states,
    storage_of,
    studied,
    train,
    value,
)


def test_a_study_shows_the_search_as_the_cell_selects(ledger: Ledger, ledger_url: str, cell: Cell) -> None:
    ledger.reconcile(cell.name)
    assert studied(ledger_url, str(cell.name)) == []
    pack = begun(ledger, cell, cell.search_trials[:3])
    ledger.progress(pack, records(pack, range(1, 31)))
    good, diverged, silent = outcomes(pack, epochs=30)
    diverged = replace(diverged, outcome="diverged", epochs=4, summary={"last/validation/accuracy": math.nan})
    silent = replace(silent, summary={"last/validation/accuracy": math.nan})  # no number to show
    ledger.finish(pack, [good, diverged, silent], PROVENANCE)
    shown = {trial.user_attrs["key"]: trial for trial in studied(ledger_url, str(cell.name))}
    assert {key: trial.state for key, trial in shown.items()} == {
        good.key: TrialState.COMPLETE,
        diverged.key: TrialState.PRUNED,
        silent.key: TrialState.PRUNED,
    }
    assert [shown[key].user_attrs["outcome"] for key in pack.keys] == ["complete", "diverged", "complete"]
    assert shown[good.key].value == good.summary["last/validation/accuracy"]
    assert shown[good.key].params == cell.search_trials[0].hyperparameters
    levels = {name: list(d.choices) for name, d in shown[good.key].distributions.items()}  # type: ignore[attr-defined]
    assert levels == {name: list(values) for name, values in cell.grid.values.items()}
    attributes = {"seed": 0, "phase": "search", "pack": pack.id, "epochs": 30, "total_epochs": EPOCHS, **PROVENANCE}
    assert shown[good.key].user_attrs.items() >= attributes.items()
    curve = shown[good.key].intermediate_values
    assert len(curve) == 20
    assert {1, 30} <= set(curve)
    assert all(v == value(good.key, epoch) for epoch, v in curve.items())
    assert set(shown[diverged.key].intermediate_values) == {1, 2, 3, 4}
    for trial in shown.values():
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        assert trial.datetime_start <= trial.datetime_complete


def test_studies_say_what_they_are(ledger: Ledger, ledger_url: str, cell: Cell) -> None:
    train(ledger, cell, cell.search_trials[:1])
    train(ledger, cell, cell.confirm_trials(cell.search_trials[0].hyperparameters), "confirm")
    storage = storage_of(ledger_url)
    search = optuna.load_study(study_name="demo/adam/bs64", storage=storage)
    confirm = optuna.load_study(study_name="demo/adam/bs64/confirm", storage=storage)
    common = {"space": "demo", "optimizer": "adam", "batch_size": 64, "dataset": "digits"}
    for study, phase, objective in (
        (search, "search", "last/validation/accuracy"),
        (confirm, "confirm", "last/test/accuracy"),
    ):
        assert study.direction == optuna.study.StudyDirection.MAXIMIZE
        assert study.user_attrs.items() >= {**common, "phase": phase, "objective": objective}.items()
        assert study.metric_names == [objective]
    assert [trial.value for trial in confirm.get_trials()] == [0.5, 0.5, 0.5]
    assert [trial.user_attrs["seed"] for trial in confirm.get_trials()] == [7, 8, 9]
    storage.remove_session()
    storage.engine.dispose()


@pytest.mark.parametrize(
    "changed",
    [make_cell(lrs=(0.1, 0.15, 0.2)), make_cell(beta1=(0.9, 0.95)), make_cell(selection="test")],
    ids=["levels", "hyperparameter", "objective"],
)
def test_a_study_follows_a_cell_that_is_planned_again(
    ledger: Ledger, ledger_url: str, cell: Cell, changed: Cell
) -> None:
    before = cell.search_trials[:2]
    train(ledger, cell, before)
    ledger.register([changed])
    ledger.reconcile(cell.name)
    fresh = [trial for trial in changed.search_trials if trial not in before][-2:]
    train(ledger, changed, fresh)
    expected = {(trial.key, "COMPLETE"): 1 for trial in (*before, *fresh)}
    assert states(ledger_url, str(cell.name)) == expected
    shown = {trial.user_attrs["key"]: trial for trial in studied(ledger_url, str(cell.name))}
    assert all(shown[trial.key].params == trial.hyperparameters for trial in fresh)
    if changed.protocol.selection == "test":
        assert {trial.value for trial in shown.values()} == {0.5}


def test_a_study_that_somebody_deleted_comes_back(ledger: Ledger, ledger_url: str, cell: Cell) -> None:
    train(ledger, cell, cell.search_trials[:2])
    _delete(ledger_url, str(cell.name))
    train(ledger, cell, cell.search_trials[2:3])
    assert len(studied(ledger_url, str(cell.name))) == 3
    _delete(ledger_url, str(cell.name))
    ledger.reconcile(cell.name)
    assert states(ledger_url, str(cell.name)) == {(trial.key, "COMPLETE"): 1 for trial in cell.search_trials[:3]}


@pytest.mark.parametrize("repaired_by", ["register", "reconcile"])
def test_a_trial_that_an_older_version_showed_twice_is_shown_once_again(
    ledger: Ledger, ledger_url: str, cell: Cell, repaired_by: str
) -> None:
    train(ledger, cell, cell.search_trials[:2])
    storage = storage_of(ledger_url)
    study = optuna.load_study(study_name=str(cell.name), storage=storage)
    study.add_trial(study.get_trials()[0])
    storage.remove_session()
    storage.engine.dispose()
    train(ledger, cell, cell.search_trials[2:3])
    assert sorted(states(ledger_url, str(cell.name)).values()) == [1, 1, 2]
    ledger.register([cell]) if repaired_by == "register" else ledger.reconcile(cell.name)
    assert states(ledger_url, str(cell.name)) == {(trial.key, "COMPLETE"): 1 for trial in cell.search_trials[:3]}


def _delete(url: str, name: str) -> None:
    storage = storage_of(url)
    optuna.delete_study(study_name=name, storage=storage)
    storage.remove_session()
    storage.engine.dispose()
