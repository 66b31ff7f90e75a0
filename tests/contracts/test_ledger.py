"""The contract of a ledger, over every database that can hold one."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Engine, event, select, update
from sqlalchemy.exc import OperationalError

from lawn_tune.cells import Cell, CellName, Packing, Phase, Protocol
from lawn_tune.errors import LedgerError
from lawn_tune.ledger import Ledger, Owner, PackRow, open_ledger, pack_id
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.definitions import cells
from lawn_tune.results import ResultSource
from search_spaces.space import Grid
from trainables.examples import encode
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.tasks import Task, Trial, model_config

EPOCHS = 5
SECONDS = 60.0

Launch = Callable[..., PackRow]


def make_cell(
    space: str = "demo",
    batch_size: int = 64,
    lrs: Sequence[float] = (0.1, 0.2, 0.4),
    epochs: int = EPOCHS,
    selection: Any = "validation",
    **grid: tuple[float, ...],
) -> Cell:
    return Cell(
        name=CellName(space, "adam", batch_size),
        task=Task(
            dataset="digits",
            model=model_config("small-vgg"),
            loss="cross-entropy",
            optimizer="adam",
            batch_size=batch_size,
            epochs=epochs,
        ),
        grid=Grid({"peak_lr": tuple(lrs), "warmup_epochs": (0.5,), "weight_decay": (0.0, 1e-4)} | grid),
        protocol=Protocol(
            metric="accuracy",
            direction="maximize",
            selection=selection,
            reported="last",
            search_seeds=(0,),
            confirm_seeds=(7, 8, 9),
            full_epochs=EPOCHS,
        ),
    )


def records(pack: PackRow, epochs: Sequence[int], offset: float = 0.0) -> list[EpochRecord]:
    """Epochs whose values tell key, epoch and attempt apart."""
    return [
        EpochRecord(
            epoch=epoch,
            series={
                "validation/accuracy": [value(key, epoch) + offset for key in pack.keys],
                "test/accuracy": [value(key, epoch) - 1.0 for key in pack.keys],
                "last_bn_gamma_norm": [None for _ in pack.keys],
            },
        )
        for epoch in epochs
    ]


def value(key: str, epoch: int) -> float:
    return int(key[:3], 16) / 4096 + epoch


def outcomes(pack: PackRow, **changes: Any) -> list[TrialOutcome]:
    plain = [
        TrialOutcome(
            key=key,
            outcome="complete",
            epochs=EPOCHS,
            summary={"last/validation/accuracy": value(key, EPOCHS), "last/test/accuracy": 0.5, "seconds": 1.0},
            examples=bytes([0b10110000, 0b01000000]),
            example_count=10,
        )
        for key in pack.keys
    ]
    return [replace(outcome, **changes) for outcome in plain]


PROVENANCE = {"device": "cpu", "host": "host-1", "libraries": {"torch": "2.9"}}


@pytest.fixture
def cell() -> Cell:
    return make_cell()


@pytest.fixture
def ledger(ledger_url: str, cell: Cell) -> Iterator[Ledger]:
    with open_ledger(ledger_url) as ledger:
        ledger.register([cell])
        yield ledger


def begun(ledger: Ledger, cell: Cell, trials: Sequence[Trial], phase: Phase = "search") -> PackRow:
    """Records one pack of these trials and begins it."""
    packs = ledger.record_packs(cell.name, phase, [trials])
    pack = next(pack for pack in packs if pack.keys == tuple(trial.key for trial in trials) and pack.state != "split")
    return ledger.begin(pack, trials)


def train(ledger: Ledger, cell: Cell, trials: Sequence[Trial], phase: Phase = "search", **changes: Any) -> PackRow:
    """Everything a driver does with a pack that succeeds."""
    pack = begun(ledger, cell, trials, phase)
    ledger.progress(pack, records(pack, range(1, EPOCHS)))
    ledger.progress(pack, records(pack, [EPOCHS]))
    ledger.finish(pack, outcomes(pack, **changes), PROVENANCE)
    return pack


def studied(url: str, name: str) -> list[FrozenTrial]:
    """The trials of a study, read as any other program would; none if there is no such study."""
    storage = _storage(url)
    try:
        if name not in optuna.get_all_study_names(storage=storage):
            return []
        return optuna.load_study(study_name=name, storage=storage).get_trials()
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _storage(url: str) -> optuna.storages.RDBStorage:
    full = Database(url).url.render_as_string(hide_password=False)
    return optuna.storages.RDBStorage(full, skip_compatibility_check=True, skip_table_creation=True)


def states(url: str, name: str) -> Counter[tuple[str, str]]:
    return Counter((trial.user_attrs["key"], trial.state.name) for trial in studied(url, name))


# --- what is written comes back ------------------------------------------------------------------------------------


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


# --- versions ------------------------------------------------------------------------------------------------------


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


# --- cells ---------------------------------------------------------------------------------------------------------


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


def test_a_cell_must_be_registered(ledger: Ledger) -> None:
    unregistered = make_cell(batch_size=1)
    with pytest.raises(LedgerError, match="demo/adam/bs1"):
        ledger.lease(unregistered.name, Owner.current(), SECONDS)
    with pytest.raises(LedgerError, match="demo/adam/bs1"):
        ledger.record_packs(unregistered.name, "search", [unregistered.search_trials])


def test_trials_of_an_earlier_plan_stay_behind_those_of_the_last(ledger: Ledger, cell: Cell) -> None:
    train(ledger, cell, cell.search_trials[:3])
    ledger.register([make_cell(lrs=(0.2, 0.05))])
    dropped, also_dropped, kept = (trial.key for trial in cell.search_trials[:3])
    keys = [row.key for row in ledger.trials("demo")]
    assert keys[0] == kept
    assert set(keys[1:]) == {dropped, also_dropped}
    ledger.register([cell])
    assert [row.key for row in ledger.trials("demo")] == [dropped, also_dropped, kept]


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


# --- packs ---------------------------------------------------------------------------------------------------------


def test_packs_are_recorded_once_in_order(ledger: Ledger, cell: Cell) -> None:
    trials = cell.search_trials
    first = ledger.record_packs(cell.name, "search", [trials[2:4], trials[:2]])
    assert [pack.keys for pack in first] == [tuple(t.key for t in part) for part in (trials[2:4], trials[:2])]
    assert [pack.id for pack in first] == [pack_id(pack.keys) for pack in first]
    assert {(pack.cell, pack.phase, pack.state, pack.attempts) for pack in first} == {
        (cell.name, "search", "waiting", 0)
    }
    assert ledger.record_packs(cell.name, "search", [trials[2:4], trials[:2]]) == first
    assert ledger.packs(cell.name, "search") == first
    assert ledger.packs(cell.name, "confirm") == ()


def test_a_new_plan_packs_only_what_no_pack_holds(ledger: Ledger, cell: Cell) -> None:
    trials = cell.search_trials
    first = ledger.record_packs(cell.name, "search", [trials[:2]])
    second = ledger.record_packs(cell.name, "search", [trials[1:4], trials[4:]])
    assert second[:1] == first
    assert [pack.keys for pack in second[1:]] == [tuple(t.key for t in part) for part in (trials[2:4], trials[4:])]


def packing(cell: Cell, size: int = 2, workers: int | None = 3) -> Packing:
    return Packing(search=size, confirm=1, workers=workers, plan=cell.plan_id)


def test_sizes_of_packs_are_recorded_once_for_a_plan(ledger: Ledger, cell: Cell) -> None:
    other = make_cell(batch_size=128)
    ledger.register([cell, other])
    assert ledger.packings([cell, other]) == {}
    assert ledger.record_packings([cell.packed(packing(cell))]) == {cell.name: packing(cell)}
    assert ledger.record_packings([cell.packed(packing(cell, 6, 1)), other.packed(packing(other))]) == {
        cell.name: packing(cell),
        other.name: packing(other),
    }
    ledger.register([cell, other])
    assert ledger.packings([cell, other]) == {cell.name: packing(cell), other.name: packing(other)}
    assert [found.packing for found in ledger.cells("demo")] == [packing(cell), packing(other)]
    given = packing(cell, 6, None)
    assert ledger.record_packings([cell.packed(given)], replacing=True) == {cell.name: given}
    assert ledger.packings([cell]) == {cell.name: given}


def test_the_confirm_seeds_that_the_first_launch_planned_stay_with_its_task(ledger: Ledger, cell: Cell) -> None:
    def planned(seeds: tuple[int, ...], epochs: int = cell.task.epochs) -> Cell:
        task, protocol = replace(cell.task, epochs=epochs), replace(cell.protocol, confirm_seeds=seeds)
        ledger.register([replace(cell, task=task, protocol=protocol)])
        ledger.record_packings([cell.packed(packing(cell))])
        (found,) = ledger.cells("demo")
        return found

    first = cell.protocol.confirm_seeds
    assert planned((*first, 777)).first_seeds == first
    assert planned((*first, 777)).added_seeds == (777,)
    assert planned(first[:1]).dropped_seeds == first[1:]
    assert planned((5, 6), epochs=cell.task.epochs + 1).first_seeds == (5, 6)
    ledger.register([make_cell(lrs=(0.1, 0.2, 0.4, 0.8), epochs=cell.task.epochs + 1)])
    assert ledger.cells("demo")[0].first_grid == cell.grid.values


def test_what_a_space_says_of_itself_is_that_of_its_last_launch(ledger: Ledger, cell: Cell) -> None:
    assert ledger.cells("demo")[0].about == ()
    for about in (("Digits", "A note."), ("Digits, again",)):
        ledger.register([replace(cell, about=about)])
        ledger.record_packings([cell.packed(packing(cell))])
        assert ledger.cells("demo")[0].about == about
    with pytest.raises(ValueError, match="list of texts"):
        Cell.from_dict(cell.to_dict() | {"about": "Digits"})


def test_sizes_of_packs_are_those_of_one_plan(ledger: Ledger, cell: Cell) -> None:
    grown = make_cell(lrs=(0.1, 0.2, 0.4, 0.8))
    ledger.record_packings([cell.packed(packing(cell))])
    assert ledger.packings([grown]) == {}
    ledger.register([grown])
    assert ledger.packings([grown]) == {}
    assert ledger.record_packings([grown.packed(packing(grown, 8))]) == {grown.name: packing(grown, 8)}
    assert ledger.packings([cell]) == {}


@pytest.mark.parametrize(
    "damage",
    [{"search": 0}, {"confirm": "2"}, {"workers": 0}, {"plan": 3}, {"more": 1}, {"search": True}],
    ids=lambda damage: next(iter(damage)),
)
def test_damaged_sizes_of_packs_are_none_until_a_launch_chooses_again(
    ledger: Ledger, cell: Cell, damage: dict[str, Any]
) -> None:
    ledger.record_packings([cell.packed(packing(cell))])
    with ledger._database.writing() as connection:
        definition = json.loads(connection.execute(select(cells.c.definition)).scalar_one())
        definition["packing"] |= damage
        connection.execute(update(cells).values(definition=json.dumps(definition)))
    assert ledger.packings([cell]) == {}
    with pytest.raises(LedgerError):
        ledger.cells("demo")
    ledger.register([cell])
    assert ledger.cells("demo") == (cell,)
    assert ledger.record_packings([cell.packed(packing(cell))]) == {cell.name: packing(cell)}


@pytest.mark.parametrize("size", [2, 3, 6])
def test_a_split_pack_is_replaced_by_its_halves(ledger: Ledger, cell: Cell, size: int) -> None:
    trials = cell.search_trials[:size]
    pack = begun(ledger, cell, trials)
    ledger.progress(pack, records(pack, [1, 2]))
    halves = ledger.split_pack(pack)
    assert halves[0].keys + halves[1].keys == pack.keys
    assert abs(len(halves[0].keys) - len(halves[1].keys)) <= 1
    assert {half.state for half in halves} == {"waiting"}
    assert ledger.split_pack(pack) == halves
    assert [p.state for p in ledger.packs(cell.name, "search")] == ["split", "waiting", "waiting"]
    assert len(ledger.record_packs(cell.name, "search", [trials])) == 3
    assert ledger.outcomes(pack.keys) == {}
    for half in halves:
        train(ledger, cell, [trial for trial in trials if trial.key in half.keys])
    assert set(ledger.outcomes(pack.keys).values()) == {"complete"}


def test_a_pack_of_one_cannot_be_split(ledger: Ledger, cell: Cell) -> None:
    with pytest.raises(ValueError, match="holds one trial"):
        ledger.split_pack(begun(ledger, cell, cell.search_trials[:1]))


def test_a_pack_takes_only_its_own_trials(ledger: Ledger, cell: Cell) -> None:
    pack = begun(ledger, cell, cell.search_trials[:2])
    with pytest.raises(ValueError, match=pack.id):
        ledger.begin(pack, cell.search_trials[1:3])
    with pytest.raises(ValueError, match=pack.id):
        ledger.finish(pack, [replace(outcomes(pack)[0], key="0" * 16)], PROVENANCE)


# --- the life of a trial -------------------------------------------------------------------------------------------


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


def test_a_finished_trial_stays_finished_when_its_pack_runs_again(ledger: Ledger, cell: Cell) -> None:
    pack = train(ledger, cell, cell.search_trials[:2])
    again = ledger.begin(pack, cell.search_trials[:2])
    assert again.attempts == 2
    assert ledger.outcomes(pack.keys) == dict.fromkeys(pack.keys, "complete")
    assert [row.attempts for row in ledger.trials("demo")] == [1, 1]


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


# --- Optuna --------------------------------------------------------------------------------------------------------


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
    storage = _storage(ledger_url)
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
    storage = _storage(ledger_url)
    study = optuna.load_study(study_name=str(cell.name), storage=storage)
    study.add_trial(study.get_trials()[0])
    storage.remove_session()
    storage.engine.dispose()
    train(ledger, cell, cell.search_trials[2:3])
    assert sorted(states(ledger_url, str(cell.name)).values()) == [1, 1, 2]
    ledger.register([cell]) if repaired_by == "register" else ledger.reconcile(cell.name)
    assert states(ledger_url, str(cell.name)) == {(trial.key, "COMPLETE"): 1 for trial in cell.search_trials[:3]}


class Killed(BaseException):
    """Stands for the end of a process: nothing after it runs."""


@contextmanager
def faults_at(moment: int, fault: str) -> Iterator[list[int]]:
    """Breaks statement or commit number `moment`: "once", it and all after it ("outage"), or the process ("killed").

    A commit counts twice: before the database does it, and after, when only its answer is lost. Yields their number.
    """
    seen, commit = [0], Connection._commit_impl

    def step(*_: object) -> None:
        seen[0] += 1
        if fault == "killed" and seen[0] == moment:
            raise Killed
        if seen[0] == moment or (fault == "outage" and seen[0] > moment):
            raise OperationalError("", {}, sqlite3.OperationalError("database is locked"))

    def answered(connection: Connection) -> None:
        commit(connection)
        step()

    event.listen(Engine, "before_cursor_execute", step)
    event.listen(Engine, "commit", step)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Connection, "_commit_impl", answered)
            yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", step)
        event.remove(Engine, "commit", step)


@pytest.mark.long
@pytest.mark.parametrize("fault", ["once", "outage", "killed"])
@pytest.mark.parametrize("rebuilt", [False, True], ids=["study fits", "study is rebuilt"])
def test_whatever_statement_fails_no_study_holds_a_key_twice(
    ledger: Ledger, ledger_url: str, fault: str, rebuilt: bool
) -> None:
    lrs = tuple(i / 1000 for i in range(1, 100))
    ledger.register([make_cell(lrs=lrs)])
    ledger.reconcile(make_cell(lrs=lrs).name)  # creates Optuna's tables
    database = Database(ledger_url)
    for i, moment in enumerate(range(1, 100, 5 if rebuilt else 1)):
        cell = make_cell(lrs=lrs, selection="test" if rebuilt and i % 2 else "validation")
        ledger.register([cell])
        if not rebuilt:
            ledger.reconcile(cell.name)
        pack = begun(ledger, cell, cell.search_trials[i : i + 1])
        with faults_at(moment, fault) as seen, suppress(Killed, LedgerError):
            ledger.finish(pack, outcomes(pack), PROVENANCE)
        assert set(shown(database).values()) <= {1}
        if fault != "killed":
            ledger.finish(pack, outcomes(pack), PROVENANCE)
        ledger.reconcile(cell.name)
        assert shown(database) == {row.key: 1 for row in ledger.trials("demo") if row.outcome == "complete"}
        if seen[0] < moment:
            break
    database.close()
    assert i > 5
    assert rebuilt or seen[0] < moment  # what a rebuild writes grows with the trials


def shown(database: Database) -> Counter[str]:
    """How often each key is in the studies, read faster than Optuna does."""
    with database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT value_json FROM trial_user_attributes WHERE key = 'key'").all()
    return Counter(json.loads(text) for (text,) in rows)


def _delete(url: str, name: str) -> None:
    storage = _storage(url)
    optuna.delete_study(study_name=name, storage=storage)
    storage.remove_session()
    storage.engine.dispose()


# --- leases --------------------------------------------------------------------------------------------------------


def elsewhere() -> Owner:
    """A driver on another machine, of which nothing is known."""
    return replace(Owner.current(), host="elsewhere", pid=1)


def dead() -> Owner:
    """A driver of this machine whose process ended: the ID is taken by a later one."""
    return replace(Owner.current(), started="1")


@pytest.mark.parametrize(("holder", "granted"), [(elsewhere, False), (Owner.current, False), (dead, True)])
def test_a_leased_cell_is_granted_to_another_only_if_its_owner_is_dead(
    ledger: Ledger, cell: Cell, holder: Callable[[], Owner], granted: bool
) -> None:
    first, second = holder(), Owner.current()
    assert ledger.lease(cell.name, first, SECONDS)
    assert ledger.lease(cell.name, first, SECONDS)
    assert ledger.lease(cell.name, second, SECONDS) is granted
    winner = second if granted else first
    assert ledger.leases()[cell.name].owner == str(winner)
    assert ledger.renew(winner, SECONDS) == {cell.name}
    assert ledger.renew(first if granted else second, SECONDS) == frozenset()


@pytest.mark.parametrize(
    ("holder", "seconds", "granted"), [(elsewhere, SECONDS, False), (elsewhere, 0.0, True), (dead, SECONDS, True)]
)
def test_trials_that_cells_share_are_leased_with_either(
    ledger: Ledger, cell: Cell, holder: Callable[[], Owner], seconds: float, granted: bool
) -> None:
    twin, apart = make_cell(space="twin"), make_cell(space="twin", batch_size=8)
    ledger.register([twin, apart])
    first, second = holder(), Owner.current()
    assert ledger.lease(cell.name, first, seconds)
    assert ledger.lease(apart.name, second, SECONDS)
    assert ledger.lease(twin.name, second, SECONDS) is granted
    assert ledger.renew(first, SECONDS) == (frozenset() if granted else {cell.name})
    assert not ledger.lease(cell.name if granted else twin.name, Owner.current(), SECONDS)
    ledger.release(twin.name, second)
    ledger.release(cell.name, first)
    assert ledger.lease(cell.name, Owner.current(), SECONDS)


def test_a_lease_that_is_given_back_is_free(ledger: Ledger, cell: Cell) -> None:
    first, second = elsewhere(), Owner.current()
    assert ledger.lease(cell.name, first, SECONDS)
    ledger.release(cell.name, second)
    assert not ledger.lease(cell.name, second, SECONDS)
    ledger.release(cell.name, first)
    ledger.release(cell.name, first)
    assert ledger.leases() == {}
    assert ledger.lease(cell.name, second, SECONDS)


def test_a_lease_ends_unless_it_is_renewed(ledger: Ledger, cell: Cell) -> None:
    other = make_cell(batch_size=8)
    ledger.register([cell, other])
    first, second = elsewhere(), Owner.current()
    assert ledger.lease(cell.name, first, 0.3)
    assert ledger.lease(other.name, first, 0.3)
    assert ledger.renew(first, SECONDS) == {cell.name, other.name}
    ledger.release(other.name, first)
    assert ledger.lease(other.name, first, 0.3)
    time.sleep(0.4)
    assert not ledger.lease(cell.name, second, SECONDS)
    assert not ledger.leases()[other.name].active
    assert ledger.lease(other.name, second, SECONDS)
    assert ledger.leases()[other.name].active
    assert ledger.renew(first, SECONDS) == {cell.name}


def test_an_expired_lease_that_nobody_took_is_still_its_owners(ledger: Ledger, cell: Cell) -> None:
    first = elsewhere()
    assert ledger.lease(cell.name, first, 0.0)
    assert ledger.renew(first, SECONDS) == {cell.name}
    assert not ledger.lease(cell.name, Owner.current(), SECONDS)


def test_a_lease_ends_when_its_text_says(ledger: Ledger, cell: Cell) -> None:
    assert ledger.lease(cell.name, elsewhere(), 3600.0)
    expires: Mapping[CellName, Any] = ledger.leases()
    expected = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 3600))
    assert expires[cell.name].expires[:16] in {
        expected,
        time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 3540)),
    }


def test_leases_are_renewed_from_a_thread_while_another_writes(ledger: Ledger, cell: Cell) -> None:
    owner = Owner.current()
    assert ledger.lease(cell.name, owner, SECONDS)
    pack = begun(ledger, cell, cell.search_trials[:2])
    with ThreadPoolExecutor(1) as thread:
        renewed = [thread.submit(ledger.renew, owner, SECONDS) for _ in range(30)]
        for epoch in range(1, 31):
            ledger.progress(pack, records(pack, [epoch]))
        assert [future.result() for future in renewed] == [{cell.name}] * 30
    assert [row.epochs for row in ledger.trials("demo")] == [30, 30]
