"""Cells are read as last launched; equal trials of two spaces are trained once."""

from __future__ import annotations

import pytest

from lawn_tune.cells import Cell
from lawn_tune.errors import LedgerError
from lawn_tune.ledger import Ledger, Owner
from tests.helpers.ledger_contract import SECONDS, make_cell, states, train


def test_cells_are_read_as_last_launched(ledger: Ledger) -> None:
    a, b, c = (make_cell(batch_size=size) for size in (64, 8, 1))
    ledger.register([b, a])
    ledger.register([b, a])
    assert ledger.cells("demo") == (b, a)
    wider = make_cell(lrs=(0.1, 0.2, 0.4, 0.8))
    ledger.register([wider])  # a launch of one cell does not change the order
    assert ledger.cells("demo") == (b, wider)
    ledger.register([c, wider, b])
    assert ledger.cells("demo") == (c, wider, b)
    ledger.register([make_cell(space="another")])
    assert ledger.spaces() == ("another", "demo")
    assert ledger.cells("demo") == (c, wider, b)


def test_the_latest_space_is_the_one_that_a_trial_moved_last(ledger: Ledger) -> None:
    first, second, shared = (make_cell(space=space, batch_size=size) for space, size in (("b", 8), ("a", 1), ("c", 1)))
    ledger.register([first, second])
    assert ledger.latest() == ""
    for cell, i in ((first, 0), (second, 0), (first, 1), (second, 1)):
        train(ledger, cell, cell.search_trials[i : i + 1])
        assert ledger.latest() == cell.name.space
    ledger.register([shared])  # the same trials, launched later
    assert ledger.latest() == "c"


def test_a_cell_must_be_registered(ledger: Ledger) -> None:
    unregistered = make_cell(batch_size=1)
    with pytest.raises(LedgerError, match="demo/adam/bs1"):
        ledger.lease(unregistered.name, Owner.current(), SECONDS)
    with pytest.raises(LedgerError, match="demo/adam/bs1"):
        ledger.record_packs(unregistered.name, "search", [unregistered.search_trials])


def test_trials_of_an_earlier_plan_stay_behind_those_of_the_last(ledger: Ledger, cell: Cell) -> None:
    train(ledger, cell, cell.search_trials)
    before = [trial.key for trial in cell.search_trials]
    ledger.register([make_cell(lrs=(0.2, 0.05))])
    keys = [row.key for row in ledger.trials("demo")]
    assert keys[:2] == before[2:4]
    assert set(keys[2:]) == {*before[:2], *before[4:]}
    ledger.register([cell])
    assert [row.key for row in ledger.trials("demo")] == before


def test_assigned_trials_come_behind_those_of_their_cell_whatever_other_cells_hold(ledger: Ledger, cell: Cell) -> None:
    other = make_cell(batch_size=8)
    ledger.register([cell, other])
    assigned = [cell.confirm_trials(trial.hyperparameters) for trial in cell.search_trials[:3]]
    for trials in assigned:
        ledger.assign(cell.name, "confirm", trials)
        ledger.assign(other.name, "confirm", other.confirm_trials(trials[0].hyperparameters)[:1])
    for trials in reversed(assigned):
        train(ledger, cell, trials, "confirm")
    assert [row.key for row in ledger.trials("demo")] == [trial.key for trials in assigned for trial in trials]


def test_a_trial_of_two_spaces_is_trained_once_and_shown_in_both(ledger: Ledger, ledger_url: str, cell: Cell) -> None:
    train(ledger, cell, cell.search_trials[:3])
    train(ledger, cell, cell.confirm_trials(cell.search_trials[0].hyperparameters), "confirm")
    copy = make_cell(space="copy", lrs=(0.1, 0.8), beta1=(0.9,))  # the default, written out: the same trials
    ledger.register([copy])
    assert len(ledger.outcomes([trial.key for trial in copy.search_trials])) == 2
    confirm = copy.confirm_trials(copy.search_trials[0].hyperparameters)
    ledger.assign(copy.name, "confirm", confirm)
    ledger.reconcile(copy.name)
    rows = ledger.trials("copy")
    assert [row.key for row in rows] == [trial.key for trial in (*copy.search_trials[:2], *confirm)]
    assert {row.cell for row in rows} == {str(copy.name)}
    assert all(row.hyperparameters["beta1"] == 0.9 for row in rows)
    assert len(ledger.trials("demo")) == 6
    assert sum(states(ledger_url, str(copy.name)).values()) == 2
    assert sum(states(ledger_url, f"{copy.name}/confirm").values()) == 3
