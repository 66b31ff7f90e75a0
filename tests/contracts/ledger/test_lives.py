"""A trial runs, resumes, fails, succeeds and stays finished."""

from __future__ import annotations

import numpy as np

from lawn_tune.cells import Cell
from lawn_tune.ledger import Ledger
from tests.helpers.ledger_contract import PROVENANCE, begun, make_cell, outcomes, records, states, train, value


def test_a_running_trial_is_followed(ledger: Ledger, cell: Cell) -> None:
    pack = begun(ledger, cell, cell.search_trials[:2])
    assert (pack.state, pack.attempts) == ("running", 1)
    assert ledger.outcomes(pack.keys) == dict.fromkeys(pack.keys, "running")
    assert ledger.curves(pack.keys) == {}
    ledger.progress(pack, records(pack, [1, 2, 3]))
    ledger.progress(pack, [])
    assert [row.epochs for row in ledger.trials("demo")] == [3, 3]
    for key, curve in ledger.curves(pack.keys).items():
        np.testing.assert_array_equal(curve["validation/accuracy"], [value(key, epoch) for epoch in (1, 2, 3)])


def test_a_repeated_record_wins_over_what_was_stored_from_there_on(ledger: Ledger, cell: Cell) -> None:
    pack = begun(ledger, cell, cell.search_trials[:1])
    ledger.progress(pack, records(pack, [1, 2, 3, 4]))
    ledger.progress(pack, records(pack, [3], offset=100.0))  # resumed from the checkpoint of epoch 2
    (key,) = pack.keys
    kept = ledger.curves([key])[key]["validation/accuracy"]
    np.testing.assert_array_equal(kept, [value(key, 1), value(key, 2), value(key, 3) + 100.0])
    ledger.progress(pack, records(pack, [5]))
    assert np.isnan(ledger.curves([key])[key]["validation/accuracy"]).tolist() == [False, False, False, True, False]


def test_writing_again_changes_nothing(ledger: Ledger, ledger_url: str, cell: Cell) -> None:
    trials = cell.search_trials[:2]
    pack = train(ledger, cell, trials)
    rows, curves, study = ledger.trials("demo"), ledger.curves(pack.keys), states(ledger_url, str(cell.name))
    ledger.finish(
        pack, outcomes(pack, summary={"last/validation/accuracy": -1.0}, example_count=3), {"device": "other"}
    )
    ledger.finish(pack, outcomes(pack, outcome="diverged"), PROVENANCE)
    ledger.fail(pack, "too late")
    ledger.progress(pack, records(pack, [1], offset=5.0))
    ledger.register([cell])
    ledger.record_packs(cell.name, "search", [trials])
    ledger.reconcile(cell.name)
    assert ledger.trials("demo") == rows
    assert ledger.packs(cell.name, "search")[0].state == "finished"
    assert states(ledger_url, str(cell.name)) == study == {(key, "COMPLETE"): 1 for key in pack.keys}
    for key, curve in ledger.curves(pack.keys).items():
        for name, values in curve.items():
            np.testing.assert_array_equal(values, curves[key][name])
    assert all(len(hits) == 10 for hits in ledger.examples(pack.keys).values())


def test_the_end_of_a_pack_costs_another_one_nothing(ledger: Ledger, cell: Cell) -> None:
    running, split = begun(ledger, cell, cell.search_trials[:2]), begun(ledger, cell, cell.search_trials[2:4])
    for pack in (running, split):
        ledger.progress(pack, records(pack, [1, 2]))
    ledger.split_pack(split)
    train(ledger, cell, cell.search_trials[4:])
    assert ledger.curves(split.keys) == {}
    for key, curve in ledger.curves(running.keys).items():
        np.testing.assert_array_equal(curve["validation/accuracy"], [value(key, epoch) for epoch in (1, 2)])
    assert set(ledger.curves(running.keys)) == {*running.keys}


def test_a_finished_trial_stays_finished_when_its_pack_runs_again(ledger: Ledger, cell: Cell) -> None:
    pack = train(ledger, cell, cell.search_trials[:2])
    again = ledger.begin(pack, cell.search_trials[:2])
    assert again.attempts == 2
    ledger.progress(again, records(again, [1], offset=5.0))
    ledger.finish(again, outcomes(again), PROVENANCE)
    assert ledger.outcomes(pack.keys) == dict.fromkeys(pack.keys, "complete")
    assert [row.attempts for row in ledger.trials("demo")] == [1, 1]


def test_a_beginning_that_is_repeated_counts_once(ledger: Ledger, cell: Cell) -> None:
    """A launch repeats it where an outage hid the answer."""
    first = begun(ledger, cell, cell.search_trials[:2])
    again = ledger.begin(first, cell.search_trials[:2])
    repeated = ledger.begin(first, cell.search_trials[:2])
    assert (first.attempts, again.attempts, repeated.attempts) == (1, 2, 2)


def test_a_failed_trial_can_still_succeed(ledger: Ledger, ledger_url: str, cell: Cell) -> None:
    trials = cell.search_trials[:2]
    pack = begun(ledger, cell, trials)
    ledger.fail(pack, "line 1\nbroken \0 and \udcff, größer")
    ledger.fail(pack, "line 1\nbroken \0 and \udcff, größer")
    assert ledger.outcomes(pack.keys) == dict.fromkeys(pack.keys, "failed")
    assert {row.error for row in ledger.trials("demo")} == {"line 1\nbroken � and ?, größer"}
    (row,) = ledger.packs(cell.name, "search")
    assert (row.state, row.error, row.attempts) == ("failed", "line 1\nbroken � and ?, größer", 1)
    assert states(ledger_url, str(cell.name)) == {(key, "FAIL"): 1 for key in pack.keys}
    train(ledger, cell, trials)
    assert ledger.outcomes(pack.keys) == dict.fromkeys(pack.keys, "complete")
    assert {row.attempts for row in ledger.trials("demo")} == {2}
    expected = {(key, state): 1 for key in pack.keys for state in ("FAIL", "COMPLETE")}
    assert states(ledger_url, str(cell.name)) == expected
    ledger.reconcile(cell.name)
    assert states(ledger_url, str(cell.name)) == expected


def test_what_a_dead_driver_left_running_waits_again(ledger: Ledger, cell: Cell) -> None:
    other = make_cell(batch_size=8)
    ledger.register([other, cell])
    finished = train(ledger, cell, cell.search_trials[:2])
    pack = begun(ledger, cell, cell.search_trials[2:4])
    elsewhere = begun(ledger, other, other.search_trials[:2])
    ledger.progress(pack, records(pack, [1, 2]))
    ledger.reconcile(cell.name)
    ledger.reconcile(cell.name)
    assert ledger.outcomes([*finished.keys, *pack.keys, *elsewhere.keys]) == {
        **dict.fromkeys(finished.keys, "complete"),
        **dict.fromkeys(elsewhere.keys, "running"),
    }
    assert {row.key for row in ledger.trials("demo")} == {*finished.keys, *elsewhere.keys}
    assert [(p.state, p.attempts) for p in ledger.packs(cell.name, "search")] == [("finished", 1), ("waiting", 0)]
    pack = ledger.begin(pack, cell.search_trials[2:4])
    ledger.progress(pack, records(pack, [3]))  # resumed from a checkpoint: earlier epochs are not reported again
    assert [row.attempts for row in ledger.trials("demo") if row.key in pack.keys] == [1, 1]
    assert all(not np.isnan(c["validation/accuracy"]).any() for c in ledger.curves(pack.keys).values())
