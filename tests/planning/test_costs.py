"""Cost estimates: examples trained counted by hand, sharing, and where hours come from."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawn_tune.cells import Cell
from lawn_tune.planning.costs import estimate
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import builtin_spaces, find_space
from lawn_tune.planning.speed import Speeds
from lawn_tune.results import Outcome, TrialRow
from search_spaces.space import Grid
from tests.helpers.phases import phase_of
from trainables.catalogue.datasets import DATASETS, MACHINE
from trainables.catalogue.rows import Dataset
from trainables.catalogue.sizes import Speed
from trainables.tasks import Trial, model_config

ADAM, _, LAWN, _ = plan(find_space("quickstart"))


def lawn(frees: tuple[float, ...], epochs: int = 20) -> Cell:
    grid = Grid({"peak_lr": (0.01, 0.1), "warmup_epochs": (1.0,), "free_epochs": frees})
    return replace(LAWN, grid=grid, task=replace(LAWN.task, epochs=epochs))


def row(cell: Cell, trial: Trial, outcome: Outcome = "complete", seconds: float | None = 2.0) -> TrialRow:
    return TrialRow(
        key=trial.key,
        cell=str(cell.name),
        phase=phase_of(cell, trial),
        seed=trial.seed,
        hyperparameters=trial.hyperparameters,
        outcome=outcome,
        epochs=20,
        total_epochs=20,
        summary={"seconds": seconds},
        pack="p",
        attempts=1,
        error="",
        provenance={},
    )


def test_examples_are_trials_times_epochs_times_examples() -> None:
    cost = estimate(ADAM)
    assert cost.trials == (9, 3)
    assert cost.examples == 9 * 20 * 1293 + 3 * 20 * 1437
    assert cost.saved == 0


@pytest.mark.parametrize(
    ("frees", "size", "saved_epochs"),
    [
        ((1.0, 3.0, 8.0), 8, 2 * (1 + 3)),  # of each group the longest free phase is trained, the others ride on it
        ((1.0, 3.0, 8.0), 3, 2 * (1 + 3)),
        ((1.0, 3.0, 8.0), 2, 2 * 1),  # cut into (1, 3) and (8)
        ((1.0, 3.0, 8.0), 1, 0),
        ((0.0, 0.5), 8, 0),
        ((5.0, 100.0, 200.0), 8, 2 * (5 + 20)),  # nothing is freer than the whole training
    ],
)
def test_sharing_a_free_phase_by_hand(frees: tuple[float, ...], size: int, saved_epochs: float) -> None:
    cell = lawn(frees)
    cost = estimate(cell, pack_size=size)
    assert cost.saved == pytest.approx(saved_epochs * 1293, rel=1e-12)
    assert cost.examples + cost.saved == pytest.approx(len(cell.search_trials) * 20 * 1293 + 3 * 20 * 1437, rel=1e-12)


@settings(deadline=None)
@given(st.lists(st.floats(0, 30), min_size=1, max_size=5, unique=True).map(tuple), st.integers(1, 8))
def test_sharing_never_costs_and_never_saves_all(frees: tuple[float, ...], size: int) -> None:
    cost = estimate(lawn(frees), pack_size=size)
    assert 0 <= cost.saved < len(frees) * 2 * 20 * 1293
    assert cost.examples > 0


def speed_up(monkeypatch: pytest.MonkeyPatch, speeds: dict[str, Speed]) -> None:
    row = replace(DATASETS["digits"], speeds=speeds)
    monkeypatch.setitem(cast(dict[str, Dataset], DATASETS), "digits", row)


def test_what_is_not_measured_is_said_to_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    speed_up(monkeypatch, {})
    cost = estimate(ADAM)
    assert cost.seconds is None
    assert cost.basis == "unknown until measured"


def test_the_table_counts_examples_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    speed_up(monkeypatch, {"small-vgg": Speed(per_example=1e-4, per_step=1e-2)})
    cost = estimate(ADAM, pack_size=9)
    steps = 9 * 20 * 21 + 3 * 20 * 23  # 9 search trials of ceil(1293 / 64) batches, 3 confirm trials of ceil(1437 / 64)
    assert cost.packs == (1, 1)
    assert cost.seconds == pytest.approx(cost.examples * 1e-4 + steps * 1e-2, rel=1e-12)
    assert cost.basis == MACHINE


MODELS = [(row.name, model) for row in DATASETS.values() for model in row.speeds]


@pytest.mark.parametrize(("dataset", "model"), MODELS)
@pytest.mark.parametrize("batch_size", [1_000, 100_000])
def test_a_larger_model_takes_longer_and_a_larger_batch_does_not(dataset: str, model: str, batch_size: int) -> None:
    def seconds(size: int, batch: int) -> float:
        sized = model_config(model, factors=size) if model == "ncf" else model_config(model, width=size)
        task = replace(ADAM.task, dataset=dataset, model=sized, batch_size=batch)
        found = Speeds().seconds(replace(ADAM, task=task), "search", ADAM.search_trials[:1])
        assert found is not None
        return found

    small, middle, large = (seconds(size, batch_size) for size in (4, 16, 64))
    assert 1.02 * small < middle < large / 1.5
    assert large < 256 * small, "no faster than its number of multiplications, of weights squared"
    assert seconds(16, 2 * batch_size) <= middle


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_stacked_trials_share_the_calls_of_a_step(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    speed_up(monkeypatch, {"small-vgg": Speed(per_example=1e-4, per_step=1e-3, per_call=1e-2)})
    pack, speeds = ADAM.search_trials[:size], Speeds()
    found, alone = speeds.seconds(ADAM, "search", pack), speeds.seconds(ADAM, "search", pack[:1])
    assert found == pytest.approx(20 * (size * (1293 * 1e-4 + 21 * 1e-3) + 21 * 1e-2), rel=1e-12)
    assert alone is not None
    assert found is not None
    assert found - alone < (size - 1) * alone or size == 1
    assert speeds.seconds(ADAM, "search", ()) == 0


def test_trials_that_share_a_free_phase_are_one_row_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    speed_up(monkeypatch, {"small-vgg": Speed(per_example=0.0, per_step=1e-3, per_call=1e-2)})
    cell = lawn((4.0, 6.0))
    pack = [trial for trial in cell.search_trials if trial.hyperparameters["peak_lr"] == 0.1]
    assert Speeds().seconds(cell, "search", pack) == pytest.approx(21 * ((2 * 20 - 4) * 1e-3 + 20 * 1e-2), rel=1e-12)


@pytest.mark.parametrize("size", [1, 2, 9])
def test_multiplications_take_longer_in_a_pack_of_several(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    alone, stacked = Speed(1e-4, 0.0, per_work=1e-9), Speed(1e-4, 0.0, per_work=1e-9, per_stacked=1e-9)
    found = []
    for speed in (alone, stacked):
        speed_up(monkeypatch, {"small-vgg": speed})
        found.append(Speeds().seconds(ADAM, "search", ADAM.search_trials[:size]))
    assert ADAM.task.footprint is not None
    more = 20 * size * 1293 * ADAM.task.footprint.work * 1e-9 if size > 1 else 0.0
    assert found[0] is not None
    assert found[1] == pytest.approx(found[0] + more, rel=1e-12)


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("size", [1, 3, 9])
@pytest.mark.parametrize("on_gpu", [True, False])
def test_a_pack_that_was_measured_takes_as_long_as_it_took(table: bool, size: int, on_gpu: bool) -> None:
    pack = ADAM.search_trials[:size]
    speeds = learned([row(ADAM, trial, seconds=7.0 / size) for trial in pack], table=table, on_gpu=on_gpu)
    assert speeds.seconds(ADAM, "search", pack) == pytest.approx(7.0, rel=1e-12)
    smaller = speeds.seconds(ADAM, "search", pack[:1])
    assert smaller is not None
    assert 7.0 / size <= smaller * (1 + 1e-12)


def test_the_table_is_not_of_gpus_where_a_small_pack_takes_nearly_as_long_as_a_large_one() -> None:
    assert Speeds(on_gpu=True).seconds(ADAM, "search", ADAM.search_trials) is None
    assert Speeds(on_gpu=True).basis(ADAM) != MACHINE == Speeds().basis(ADAM)
    rows = [row(ADAM, trial, seconds=1.0) for trial in ADAM.search_trials[:9]]
    on_gpu, on_core = (learned(rows, table=False, on_gpu=found) for found in (True, False))
    alone = on_gpu.seconds(ADAM, "search", ADAM.search_trials[:1])
    assert alone == pytest.approx(9 * (1293 + 21 * 65_536) / (9 * 1293 + 21 * 65_536))
    on_core.on_gpu = True
    assert on_core.seconds(ADAM, "search", ADAM.search_trials[:1]) == alone, "as a cluster that is joined later says"


def test_costs_compare_cells_in_one_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    pack, measured = LAWN.search_trials[:2], learned([row(ADAM, ADAM.search_trials[0])])
    assert measured.costs([ADAM, LAWN])(LAWN, "search", pack) == measured.seconds(LAWN, "search", pack)
    speed_up(monkeypatch, {})
    costs = learned([row(ADAM, ADAM.search_trials[0])]).costs([ADAM, LAWN])
    assert costs(ADAM, "search", ADAM.search_trials[:2]) == costs(ADAM, "search", ADAM.search_trials[2:4])
    assert costs(ADAM, "search", ADAM.search_trials[:2]) == 20 * (2 * 1293 + 21 * 1024)
    on_gpu = learned([row(ADAM, ADAM.search_trials[0])], on_gpu=True).costs([ADAM, LAWN])
    assert on_gpu(ADAM, "search", ADAM.search_trials[:2]) == 20 * (2 * 1293 + 21 * 65_536)


def learned(rows: list[TrialRow], **options: bool) -> Speeds:
    speeds = Speeds(**options)
    speeds.learn([ADAM, LAWN], rows)
    return speeds


def test_finished_trials_of_the_cell_replace_the_table() -> None:
    trials = ADAM.search_trials
    rows = [row(ADAM, trials[0]), row(ADAM, trials[1], seconds=4.0)]
    ignored = [row(LAWN, LAWN.search_trials[0], seconds=1e6), row(ADAM, trials[2], "failed", 1e6)]
    ignored += [row(ADAM, trials[3], "running", 1e6), row(ADAM, trials[4], seconds=None)]
    other, elsewhere = replace(ADAM, name=replace(ADAM.name, space="other")), trials[5]
    speeds = learned([*rows, *ignored, row(other, elsewhere)])
    assert speeds.seconds(ADAM, "search", trials[:5]) == pytest.approx(5 * (2.0 + 4.0) / 2, rel=1e-12)
    cost = estimate(ADAM, speeds=speeds)
    assert cost.seconds == pytest.approx(cost.examples * (2.0 + 4.0) / (2 * 20 * 1293), rel=0.1)
    assert cost.basis == "finished trials of this cell"


def test_a_trial_that_diverged_counts_with_the_epochs_that_it_trained() -> None:
    diverged = replace(row(ADAM, ADAM.search_trials[1], "diverged", 0.5), epochs=5)
    both = learned([row(ADAM, ADAM.search_trials[0], seconds=2.0), diverged], table=False)
    assert both.epoch_seconds(ADAM) == pytest.approx(0.1)


def test_a_cell_without_a_finished_trial_borrows_only_where_it_may() -> None:
    rows = [row(ADAM, ADAM.search_trials[0])]
    pack = LAWN.search_trials[:1]
    assert learned(rows, table=False).seconds(LAWN, "search", pack) is None
    assert learned(rows, table=False, borrow=True).seconds(LAWN, "search", pack) == pytest.approx(2.0)
    assert learned(rows, borrow=True).basis(LAWN) == "finished trials"


@pytest.mark.parametrize("name", builtin_spaces())
def test_every_built_in_space_has_a_price(name: str) -> None:
    for cell in plan(find_space(name)):
        cost = estimate(cell)
        assert cost.trials == (len(cell.search_trials), 3)
        assert cost.examples > 0
        assert cost.packs[0] <= cost.trials[0]
