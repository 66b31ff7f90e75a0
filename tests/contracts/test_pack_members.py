"""Every workload trains in packs: a member's numbers are those of its solo run, with one seed and with several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests.helpers.fabricated import published, write_data
from tests.helpers.tasks import point
from trainables.catalogue import catalogue
from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.methods import METHODS
from trainables.outcomes import EpochRecord
from trainables.tasks import ModelConfig, PackConfig, Task, Trial, model_config, trial_key
from trainables.training.trial import PackRun, Records

TINY: dict[str, ModelConfig] = {
    "small-vgg": model_config("small-vgg", width=2),
    "ncf": model_config("ncf", factors=2, init="xavier"),
}
SAME = ("train_loss", "weight_norm", "last_layer_norm", "margin_p50", "grad_norm")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    with published(folder):
        yield folder


def task(dataset: str, train_on: str, batch_size: int) -> Task:
    row = DATASETS[dataset]
    model, loss = TINY[catalogue().models_of(row)[0]], catalogue().losses_of(row)[0]
    plain = {"dataset": dataset, "loss": loss, "optimizer": "adam-lawn", "epochs": 2}
    return Task(**plain, model=model, batch_size=batch_size, train_on=train_on)  # type: ignore[arg-type]


def curve(what: Task, members: list[Trial], data_dir: Path) -> list[EpochRecord]:
    run = PackRun(PackConfig(task=what, members=tuple(members)), data_dir=data_dir, device=torch.device("cpu"))
    return [record for event in run if isinstance(event, Records) for record in event.records]


def members(seeds: list[int]) -> list[Trial]:
    """With an eps and rates that do not turn rounding errors of small gradients into steps of their own."""
    fixed = {"warmup_epochs": 0.5, "eps": 1e-3}
    return [
        Trial(key=str(i), seed=seed, hyperparameters=fixed | {"peak_lr": 0.001 * (1 + i), "free_epochs": i})
        for i, seed in enumerate(seeds)
    ]


@pytest.mark.parametrize("dataset", [name for name, row in DATASETS.items() if not row.published])
@pytest.mark.parametrize(
    ("train_on", "seeds", "batch_size"), [("train", [3, 3, 3], 64), ("train+validation", [4, 5, 6], 160)]
)
def test_a_member_equals_its_solo_run(
    dataset: str, train_on: str, seeds: list[int], batch_size: int, data_dir: Path
) -> None:
    what = task(dataset, train_on, batch_size)
    trials = members(seeds)
    together = curve(what, trials, data_dir)
    for position, member in enumerate(trials):
        for packed, alone in zip(together, curve(what, [member], data_dir), strict=True):
            for name in SAME:  # kernels may sum in another order: last places of fp32, amplified by some steps
                assert packed.series[name][position] == pytest.approx(alone.series[name][0], rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("optimizer", [name for name in METHODS if name != "adam-lawn"])
def test_every_method_ranks_in_packs(optimizer: str, data_dir: Path) -> None:
    """The same on interactions, with embeddings; `tests/training/test_training.py` trains each on images."""
    what = replace(task("movielens-100k", "train", 160), optimizer=optimizer, epochs=1)
    points = [
        values | {"eps": 1e-3} if "eps" in METHODS[optimizer].hyperparameters else values
        for values in (point(optimizer), point(optimizer, peak_lr=0.003))
    ]
    trials = [Trial(key=str(i), seed=3, hyperparameters=values) for i, values in enumerate(points)]
    together = curve(what, trials, data_dir)
    for position, member in enumerate(trials):
        (packed,), (alone,) = together, curve(what, [member], data_dir)
        for name in SAME:
            assert packed.series[name][position] == pytest.approx(alone.series[name][0], rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("dataset", ["synthetic", "movielens-100k"])
def test_focal_loss_trains_on_classes_and_on_labels(dataset: str, data_dir: Path) -> None:
    what = task(dataset, "train", 64)
    losses = [
        curve(replace(what, loss=loss), members([3]), data_dir)[0].series["train_loss"][0]
        for loss in (what.loss, "focal-0.5", "focal-2", "focal-5")
    ]
    pairs = list(pairwise(loss for loss in losses if loss is not None))
    assert len(pairs) == 3
    assert all(one > other for one, other in pairs), "(1 - p)^gamma falls with gamma"
    assert len({trial_key(replace(what, loss=loss), 3, point("adam-lawn")) for loss in (what.loss, "focal-2")}) == 2
