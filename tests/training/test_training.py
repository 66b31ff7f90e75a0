"""Laws of training a pack: a member's numbers do not depend on its company, or on chance."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lawn_tune.executors.messages import WorkerSettings
from tests.helpers.tasks import CORE, curve, eight_points, pack, point, run, task, training
from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.methods import METHODS
from trainables.outcomes import SERIES, EpochRecord
from trainables.tasks import model_config
from trainables.training import trial
from trainables.training.schedules import lr_factor
from trainables.training.trial import PackRun

LAWN = [name for name, method in METHODS.items() if method.switch]

REL, ABS = 2e-4, 1e-5
"""Kernels for K stacked models may sum in another order than for one, so a step differs by a few units in the last
place (1e-7 relative), which training amplifies. A wrong hyperparameter, batch or phase shows at 1e-2."""


@pytest.mark.parametrize("optimizer", METHODS)
def test_a_member_of_a_pack_equals_its_solo_run(optimizer: str) -> None:
    core = optimizer in CORE
    what, points = task(optimizer, epochs=4 if core else 2), eight_points(optimizer)
    if not core:  # with a smaller eps, Adam's first direction is the sign of rounding errors where a gradient is 0
        points = [values | {"eps": 1e-3} for values in points[::3]]
    together, ends = run(pack(what, points))
    every_other = slice(CORE.index(optimizer) % 2, None, 2) if core else slice(None)  # the rest in the next method
    for position, values in list(enumerate(points))[every_other]:
        alone, solo_ends = run(pack(what, [values]))
        assert ends[position].key == solo_ends[0].key
        for packed, solo in zip(curve(together, position), curve(alone, 0), strict=True):
            for name in ("train_loss", "learning_rate", "weight_norm", "last_layer_norm", "margin_p50", "grad_norm"):
                assert packed[name] == pytest.approx(solo[name], rel=REL, abs=ABS), (name, values)


@pytest.mark.parametrize("optimizer", ["adam", "lamb-lawn"])
def test_confirm_seeds_in_one_pack_equal_solo_runs(optimizer: str) -> None:
    what = task(optimizer, train_on="train+validation", batch_size=64)
    values = point(optimizer)
    together, _ = run(pack(what, [values] * 3, seeds=[7, 8, 9]))
    for position, seed in enumerate([7, 8, 9]):
        alone, _ = run(pack(what, [values], seeds=[seed]))
        for packed, solo in zip(curve(together, position), curve(alone, 0), strict=True):
            assert packed["train_loss"] == pytest.approx(solo["train_loss"], rel=REL, abs=ABS)
            assert packed["weight_norm"] == pytest.approx(solo["weight_norm"], rel=REL)


def test_a_row_that_forks_within_an_epoch_goes_on_with_the_batches_of_its_seed() -> None:
    what, seeds, free = task("adam-lawn", epochs=2), [7, 7, 8], [0.5, 1.5, 0.5]
    points = [point("adam-lawn", free_epochs=epochs) for epochs in free]
    together, _ = run(pack(what, points, seeds=seeds))
    for position, (seed, values) in enumerate(zip(seeds, points, strict=True)):
        alone, _ = run(pack(what, [values], seeds=[seed]))
        for packed, solo in zip(curve(together, position), curve(alone, 0), strict=True):
            assert packed["train_loss"] == pytest.approx(solo["train_loss"], rel=REL, abs=ABS)


def test_the_training_loss_is_the_mean_over_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller last batch counts less. Tolerance: a batch's sum is one product in fp32."""
    session = training(pack(task("adam", batch_size=50), [point("adam"), point("adam", peak_lr=0.02)]))
    step, taken = session.pack.apply, []

    def watched(lr: torch.Tensor) -> torch.Tensor:
        taken.append(step(lr))
        return taken[-1]

    monkeypatch.setattr(session.pack, "apply", watched)
    record = session.run_epoch()
    sizes = torch.tensor([50, 50, 50, session.workload.examples - 150], dtype=torch.float64)
    assert 0 < sizes[-1] < 50
    expected = torch.stack(taken, dim=1).double() @ sizes / session.workload.examples
    assert record.series["train_loss"] == pytest.approx(expected.tolist(), rel=1e-6)


def test_the_learning_rate_of_an_epoch_is_that_of_its_last_step() -> None:
    session = training(pack(task("adam"), [point("adam", peak_lr=0.02, warmup_epochs=0.0)]))
    while not session.finished:
        session.run_epoch()
    last = torch.arange(1, 5) * session.steps_per_epoch - 1
    expected = 0.02 * lr_factor(session.config.task.schedule, last, torch.zeros(1), session.total_steps)
    assert [row["learning_rate"] for row in curve(session.records, 0)] == pytest.approx(expected.tolist())


def test_different_seeds_give_different_runs() -> None:
    records, _ = run(pack(task(), [point("adam-lawn")] * 2, seeds=[1, 2]))
    assert records[0].series["train_loss"][0] != records[0].series["train_loss"][1]


@pytest.mark.parametrize("optimizer", LAWN)
def test_the_free_phase_is_trained_once(optimizer: str) -> None:
    free = [0.0, 1.0, 1.0, 2.0, 4.0, 99.0]
    session = training(pack(task(optimizer), [point(optimizer, free_epochs=epochs) for epochs in free]))
    rows = []
    while not session.finished:
        session.run_epoch()
        rows.append(len(session.rows))
    assert rows == [2, 3, 4, 4], "0 | shared; 0 | 1 | shared; 0 | 1 | 2 | never (4 and 99 of 4 epochs are the same)"


@pytest.mark.parametrize("optimizer", [name for name in LAWN if name != "adam-cpr"])  # which bounds the norms
def test_norms_stay_at_the_switch_and_biases_do_not(optimizer: str) -> None:
    session = training(pack(task(optimizer, epochs=5), [point(optimizer, free_epochs=f) for f in (0.0, 1.5, 99.0)]))
    constrained = [i for i, layer in enumerate(session.pack.layers) if layer.constrained]
    free = [i for i, layer in enumerate(session.pack.layers) if not layer.constrained]
    for _ in range(2):
        session.run_epoch()
    at_switch = session.pack.layer_norms().double()
    for _ in range(3):
        session.run_epoch()
    after = session.pack.layer_norms().double()
    for row in range(len(session.rows)):
        moved = (after[row] / at_switch[row] - 1).abs()
        if session.rows[row].constrained:
            assert moved[constrained].max() < 1e-6
        else:
            assert moved[constrained].max() > 1e-3
        assert moved[free].nan_to_num().max() > 1e-3


def test_a_diverged_member_ends_alone() -> None:
    points = [point("sgd"), point("sgd", peak_lr=1e9), point("sgd", peak_lr=0.02)]
    records, ends = run(pack(task("sgd"), points))
    assert [end.outcome for end in ends] == ["complete", "diverged", "complete"]
    assert records[-1].series["train_loss"][1] is None
    assert ends[1].examples == b""
    without, _ = run(pack(task("sgd"), [points[0], points[2]]))
    for position, other in ((0, 0), (2, 1)):
        for packed, solo in zip(curve(records, position), curve(without, other), strict=True):
            assert packed["train_loss"] == pytest.approx(solo["train_loss"], rel=REL)


def test_a_pack_whose_members_all_diverge_ends_early() -> None:
    records, ends = run(pack(task("sgd", epochs=50), [point("sgd", peak_lr=1e9), point("sgd", peak_lr=1e10)]))
    assert {end.outcome for end in ends} == {"diverged"}
    assert len(records) < 50
    assert all(end.epochs == len(records) for end in ends)


def test_only_a_users_workload_is_tried_in_packs_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "check_packs", lambda *_: pytest.fail("a step of two trials was tried"))
    run(pack(task(epochs=1), [point("adam-lawn")] * 2, seeds=[0, 1]))


def test_the_same_pack_gives_the_same_bits_twice() -> None:
    config = pack(task("lamb-lawn"), eight_points("lamb-lawn"))
    assert run(config)[0] == run(config)[0]


def test_every_series_is_measured() -> None:
    records, ends = run(pack(task(), [point("adam-lawn")]))
    measured = [f"{split}/{name}" for split in ("validation", "test") for name in DATASETS["synthetic"].metrics]
    expected = {*SERIES, *measured}
    for record in records:
        assert set(record.series) == expected
        assert all(math.isfinite(values[0]) for values in record.series.values() if values[0] is not None)
        assert all(values[0] is not None for values in record.series.values())
    assert set(ends[0].summary) >= {f"last/{name}" for name in expected} | {"best/test/accuracy", "ece", "seconds"}
    assert ends[0].example_count == 64
    assert ends[0].constrained == ("features.0.0.weight", "features.2.0.weight", "classifier.weight")
    assert run(pack(task("adam"), [point("adam")]))[1][0].constrained == ()
    assert [record.epoch for record in records] == [1, 2, 3, 4]


def test_training_on_validation_measures_test_only() -> None:
    records, _ = run(pack(task(train_on="train+validation"), [point("adam-lawn")]))
    assert not any(name.startswith("validation/") for name in records[0].series)


@pytest.mark.parametrize("optimizer", METHODS)
def test_every_hyperparameter_changes_the_numbers(optimizer: str) -> None:
    what = task(optimizer, epochs=2)
    base = METHODS[optimizer].complete(point(optimizer))
    plain = run(pack(what, [base]))[0]
    core = optimizer in CORE
    for name in base if core else (*METHODS[optimizer].names("control"), *METHODS[optimizer].names("loss")):
        value = base[name]
        other = base | {name: 1e-2 if name == "eps" else value * 0.5 if value else 0.5}
        changed = pack(what, [other])
        assert changed.members[0].key != pack(what, [base]).members[0].key
        assert run(changed)[0] != plain, name


CHANGES: list[dict[str, Any]] = [
    {"model": model_config("small-vgg", width=6)},
    {"batch_size": 32},
    {"micro_batch": 24},
    {"epochs": 3},
    {"train_on": "train+validation"},
    {"schedule": "cosine"},
    {"constrain": "final"},
    {"precision": "bfloat16"},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_every_key_of_a_task_changes_the_numbers(change: dict[str, Any]) -> None:
    points = [point("adam-lawn", free_epochs=0.5)]
    plain, other = pack(task(), points), pack(task(**change), points)
    assert plain.members[0].key != other.members[0].key
    losses = [[record.series["train_loss"] for record in run(config)[0]] for config in (plain, other)]
    assert losses[0] != losses[1]


def test_a_pack_of_a_file_is_trained_and_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, file = pack(task(epochs=2), [point("adam-lawn"), point("adam-lawn", peak_lr=0.02)]), tmp_path / "pack.json"
    file.write_text(json.dumps(config.to_dict()))
    (tmp_path / "saved").write_bytes(b"nonsense")
    begun: list[str] = []
    monkeypatch.setattr(trial, "keep_freed_memory", lambda: begun.append("memory"))
    monkeypatch.setattr(trial, "build_kernels", lambda: begun.append("kernels"))
    monkeypatch.setattr(sys, "argv", ["trial", str(file), "--device", "cpu", "--checkpoint", str(tmp_path / "saved")])
    trial.main()
    shown = capsys.readouterr()
    *parts, ends = map(json.loads, shown.out.splitlines())
    records, outcomes = run(config)
    assert begun == ["memory", "kernels"]
    assert [EpochRecord(**record) for part in parts for record in part] == records
    for end, outcome in zip(ends, outcomes, strict=True):
        assert (end["key"], bytes.fromhex(end["examples"])) == (outcome.key, outcome.examples)
        assert end["summary"]["best/test/accuracy"] == outcome.summary["best/test/accuracy"]
    assert str(tmp_path / "saved") in shown.err


def test_a_run_waits_as_long_as_settings_and_docs_say() -> None:
    defaults = {name: given.default for name, given in inspect.signature(PackRun).parameters.items()}
    of_worker = {field.name: field.default for field in dataclasses.fields(WorkerSettings)}
    common = defaults.keys() & of_worker.keys() - {"data_dir"}
    assert common == {"checkpoint_seconds", "checkpoint_steps", "report_seconds", "flattening"}
    assert {name: defaults[name] for name in common} == {name: of_worker[name] for name in common}
    page = (Path(__file__).parents[2] / "docs/cluster.md").read_text()
    assert f"after a step within {defaults['pause_seconds']:g} s" in page


def test_a_task_survives_json() -> None:
    config = pack(task(model=model_config("ncf", factors=8, init="xavier")), [point("adam-lawn")])
    assert type(config).from_dict(config.to_dict()) == config
