"""What is written into a ledger comes back, in plan order, and every write changes the version."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from lawn_tune.cells import Cell
from lawn_tune.ledger import Ledger
from lawn_tune.results import ResultSource
from tests.helpers.ledger_contract import EPOCHS, PROVENANCE, begun, make_cell, outcomes, records, train, value
from trainables.examples import encode


def test_a_ledger_is_a_result_source(ledger: Ledger, cell: Cell) -> None:
    source: ResultSource = ledger
    assert source.spaces() == ("demo",)
    assert source.cells("demo") == (cell,)
    assert source.trials("demo") == ()
    assert source.cells("other") == ()
    assert source.trials("other") == ()
    assert source.curves(["0" * 16]) == source.examples(["0" * 16]) == {}
    assert source.curves([]) == source.examples([]) == ledger.outcomes([]) == {}


def test_every_value_of_a_trial_comes_back(ledger: Ledger, cell: Cell) -> None:
    trials = cell.search_trials[:2]
    summary = {"last/validation/accuracy": 12.5, "ece": None, "nan": math.nan, "inf": -math.inf, "größe/é\0": 1e-300}
    provenance = {
        "device": "gpu ü 💡",
        "host": "h\0st",
        "libraries": {"torch": "2.9"},
        "ended": "2026-11-24T05:10:00+00:00",
    }
    pack = begun(ledger, cell, trials)
    ledger.progress(pack, records(pack, range(1, EPOCHS + 1)))
    ledger.finish(pack, outcomes(pack, summary=summary), provenance)
    rows = ledger.trials("demo")
    assert [row.key for row in rows] == [trial.key for trial in trials]
    for row, trial in zip(rows, trials, strict=True):
        assert (row.cell, row.phase, row.seed, row.hyperparameters) == (
            "demo/adam/bs64",
            "search",
            0,
            trial.hyperparameters,
        )
        assert (row.outcome, row.epochs, row.total_epochs) == ("complete", EPOCHS, EPOCHS)
        assert (row.pack, row.attempts, row.error) == (pack.id, 1, "")
        assert row.summary == summary | {"nan": None, "inf": None}  # what could not be measured
        assert row.provenance.items() >= provenance.items()
        assert row.provenance["started"] < row.provenance["ended"] or row.provenance["started"].endswith("+00:00")


def test_curves_and_examples_come_back(ledger: Ledger, cell: Cell) -> None:
    trials = cell.search_trials[:3]
    train(ledger, cell, trials)
    keys = [trial.key for trial in trials]
    for key, curve in ledger.curves([*keys, "0" * 16]).items():
        np.testing.assert_array_equal(curve["validation/accuracy"], [value(key, e) for e in range(1, EPOCHS + 1)])
        assert np.isnan(curve["last_bn_gamma_norm"]).all()
        assert set(curve) == {"validation/accuracy", "test/accuracy", "last_bn_gamma_norm"}
    assert set(ledger.curves(keys)) == set(ledger.examples(keys)) == set(keys)
    expected = [True, False, True, True, False, False, False, False, False, True]
    assert all(hits.dtype == np.bool_ and hits.tolist() == expected for hits in ledger.examples(keys).values())


def test_places_in_rankings_come_back_as_such(ledger: Ledger, cell: Cell) -> None:
    places = np.array([3, 0, 10, 9, 10], np.uint8)
    pack = train(ledger, cell, cell.search_trials[:2], examples=encode(places), example_count=5)
    for found in ledger.examples(pack.keys).values():
        assert (str(found.dtype), found.tolist()) == ("uint8", places.tolist())


def test_a_diverged_trial_keeps_its_curve_up_to_there_and_has_no_examples(ledger: Ledger, cell: Cell) -> None:
    pack = begun(ledger, cell, cell.search_trials[:2])
    ledger.progress(pack, records(pack, range(1, EPOCHS + 1)))
    good, bad = outcomes(pack)
    bad = replace(bad, outcome="diverged", epochs=4, summary={"seconds": 1.0}, examples=b"", example_count=0)
    ledger.finish(pack, [good, bad], PROVENANCE)
    assert ledger.outcomes(pack.keys) == {good.key: "complete", bad.key: "diverged"}
    assert {key: len(curve["test/accuracy"]) for key, curve in ledger.curves(pack.keys).items()} == {
        good.key: EPOCHS,
        bad.key: 4,
    }
    assert set(ledger.examples(pack.keys)) == {good.key}


def test_many_keys_are_read_at_once(ledger: Ledger, cell: Cell) -> None:
    train(ledger, cell, cell.search_trials[:2])
    keys = [f"{i:016x}" for i in range(5_000)] + [trial.key for trial in cell.search_trials]
    assert len(ledger.outcomes(keys)) == len(ledger.curves(keys)) == len(ledger.examples(keys)) == 2


def test_trials_come_in_plan_order_whatever_the_order_of_training(ledger: Ledger, cell: Cell) -> None:
    small = make_cell(batch_size=8)
    ledger.register([small, cell])
    confirm = cell.confirm_trials(cell.search_trials[0].hyperparameters)
    train(ledger, cell, confirm, "confirm")
    train(ledger, cell, cell.search_trials[2:4])
    train(ledger, cell, cell.search_trials[:2])
    train(ledger, small, small.search_trials[:1])
    search = [(trial.key, "search") for trial in (*small.search_trials[:1], *cell.search_trials[:4])]
    expected = [*search, *((trial.key, "confirm") for trial in confirm)]
    assert [(row.key, row.phase) for row in ledger.trials("demo")] == expected


def test_every_write_that_can_be_read_changes_the_version(ledger: Ledger, cell: Cell) -> None:
    other = make_cell(space="other", batch_size=8)  # trials of its own: equal ones would be shared
    ledger.register([other])
    before = ledger.version("other")
    seen = [ledger.version("demo")]

    def changed() -> None:
        now = ledger.version("demo")
        assert now not in seen
        seen.append(now)
        assert ledger.version("demo") == now

    pack = begun(ledger, cell, cell.search_trials[:2])
    changed()
    for epochs in ([1], [2, 3], [2]):  # the last one goes back, as after a resume
        ledger.progress(pack, records(pack, epochs))
        changed()
    ledger.fail(pack, "out of memory")
    changed()
    pack = ledger.begin(pack, cell.search_trials[:2])
    changed()
    ledger.reconcile(cell.name)
    changed()
    pack = ledger.begin(pack, cell.search_trials[:2])
    changed()
    good, bad = outcomes(pack)
    ledger.finish(pack, [good, replace(bad, outcome="diverged", epochs=1)], PROVENANCE)
    changed()
    ledger.assign(cell.name, "confirm", cell.confirm_trials(cell.search_trials[0].hyperparameters))
    changed()
    ledger.register([make_cell(lrs=(0.1, 0.2))])
    changed()
    assert ledger.version("other") == before


def test_a_space_without_trials_has_a_version(ledger: Ledger) -> None:
    assert ledger.version("demo") == ledger.version("demo") != ""
    assert ledger.version("nowhere") == ledger.version("nowhere here")
