"""The rivals train what we train: the same models, rates, data and metrics, so that only their speed differs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution
from torch import Tensor
from torch.utils.data import TensorDataset

from benchmarks.rivals import data, expert, models, typical
from benchmarks.rivals.case import Case, Point, rate_factor
from benchmarks.rivals.optuna_processes import first_of_each_point
from benchmarks.throughput import CASES, space_text
from lawn_tune.planning.plan import plan
from search_spaces.loader import load_space
from tests.helpers.fabricated import published
from trainables.models.ncf import Ncf as OurNcf
from trainables.models.vgg import SmallVgg as OurVgg
from trainables.tasks import ModelConfig, PackConfig, Task, Trial, model_config
from trainables.training.loop import Training
from trainables.training.schedules import lr_factor
from trainables.training.seeding import epoch_generator, seeded_init
from trainables.workloads import build_workload
from trainables.workloads.base import Resident

pytestmark = pytest.mark.long

CPU = torch.device("cpu")
TRAIN: dict[str, Callable[..., None]] = {"typical": typical.train, "expert": expert.train}
DIGITS = 1293
both = pytest.mark.parametrize("side", TRAIN)


def a_case(dataset: str, batch_size: int, epochs: int, peak_lr: float, size: int = 4) -> Case:
    levels = {"peak_lr": (peak_lr,), "warmup_epochs": (1.0,), "weight_decay": (0.1,)}
    return Case(dataset=dataset, size=size, epochs=epochs, batch_size=(batch_size,), **levels)


def model_of(case: Case) -> ModelConfig:
    return (
        model_config("small-vgg", width=case.size)
        if case.dataset == "digits"
        else model_config("ncf", factors=case.size, init="xavier")
    )


def workload_of(case: Case, data_dir: Path) -> tuple[Task, Resident]:
    loss = "cross-entropy" if case.dataset == "digits" else "bce"
    batch, epochs = case.batch_size[0], case.epochs
    what = Task(
        dataset=case.dataset, model=model_of(case), loss=loss, optimizer="adam", batch_size=batch, epochs=epochs
    )
    workload = build_workload(what, data_dir, CPU)
    assert isinstance(workload, Resident)
    return what, workload


def ours(case: Case, data_dir: Path) -> list[dict[str, Any]]:
    what, workload = workload_of(case, data_dir)
    point = {name: value for name, value in case.points[0].items() if name != "batch_size"}
    member = Trial(key="ours", seed=0, hyperparameters=point)
    training = Training(PackConfig(task=what, members=(member,)), workload, CPU)
    metric = "accuracy" if case.dataset == "digits" else "hr@10"
    names = {"train_loss": "train_loss"} | {split: f"{split}/{metric}" for split in ("validation", "test")}
    records = [training.run_epoch() for _ in range(case.epochs)]
    return [{name: record.series[key][0] for name, key in names.items()} for record in records]


def theirs(side: str, case: Case, data_dir: Path) -> list[dict[str, float]]:
    reports: list[dict[str, float]] = []
    TRAIN[side](case, case.points[0], data_dir, reports.append)
    return reports


@pytest.fixture
def films(tmp_path: Path) -> Iterator[Path]:
    """A data folder where each of ten groups of users watches its own 20 films, 12 each."""
    draw = random.Random(0)
    (tmp_path / "ml-100k").mkdir()
    rows = [
        f"{user}\t{20 * (user % 10) + film}\t5\t{time}\n"
        for user in range(100)
        for time, film in enumerate(draw.sample(range(20), 12))
    ]
    (tmp_path / "ml-100k" / "u.data").write_text("".join(rows))
    with published(tmp_path):
        yield tmp_path


def test_the_models_are_ours_in_initial_values_and_outputs() -> None:
    users, items = torch.randint(30, (50,)), torch.randint(40, (50,))
    images = torch.randn(6, 1, 8, 8)
    with seeded_init(1):
        net, vgg = OurNcf(users=30, items=40, factors=3, init="xavier"), OurVgg(channels=1, size=8, classes=10, width=4)
    with seeded_init(1):
        plain, plain_vgg = models.Ncf(30, 40, 3), models.SmallVgg(4)
    joined = models.JoinedNcf(30, 40, 3)
    assert plain.state_dict().keys() == net.state_dict().keys()
    torch.testing.assert_close(list(plain.parameters()), list(net.parameters()), rtol=0, atol=0)
    torch.testing.assert_close(list(plain_vgg.parameters()), list(vgg.parameters()), rtol=0, atol=0)
    torch.testing.assert_close(plain(users, items), net(users, items))
    torch.testing.assert_close(plain_vgg(images), vgg(images))
    with torch.no_grad():
        joined.embedding.weight.copy_(torch.cat([net.user_embedding.weight, net.item_embedding.weight]))
        for layer, other in zip(
            (joined.tower[0], joined.tower[2], joined.tower[4]), (net.hidden1, net.hidden2, net.output), strict=True
        ):
            assert isinstance(layer, torch.nn.Linear)
            layer.load_state_dict(other.state_dict())
    torch.testing.assert_close(joined(torch.stack([users, items + 30], dim=1)), net(users, items))


@pytest.mark.parametrize("warmup", [0.0, 0.25, 1.0, 2.9])
def test_the_rates_are_ours(warmup: float) -> None:
    point: Point = {"batch_size": 64, "peak_lr": 1.0, "warmup_epochs": warmup, "weight_decay": 0.0}
    steps, epochs = 21, 3
    factor = rate_factor(point, DIGITS, epochs)
    expected = lr_factor("linear", torch.arange(steps * epochs), torch.tensor(warmup * steps), steps * epochs)
    assert [factor(step) for step in range(steps * epochs)] == pytest.approx(expected.tolist())


FULL = {
    "digits": a_case("digits", batch_size=DIGITS, epochs=5, peak_lr=0.01),
    "movielens-100k": a_case("movielens-100k", batch_size=5000, epochs=8, peak_lr=0.03),
}


def epochs_of(workload: Resident) -> Iterator[tuple[Tensor, ...]]:
    """What we train on, epoch after epoch."""
    return (workload.epoch(epoch_generator(0, epoch)) for epoch in count())


@both
@pytest.mark.parametrize("dataset", FULL)
def test_on_our_examples_in_one_batch_from_our_initial_values_every_curve_is_ours(
    dataset: str, side: str, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch of all examples their order makes no difference: every number of every epoch must agree."""
    case = FULL[dataset]
    workload = workload_of(case, films)[1]
    with seeded_init(0):
        initial = workload.build_model()
    name = "SmallVgg" if dataset == "digits" else "Ncf"
    build = getattr(models, name)

    def plain(*sizes: int) -> torch.nn.Module:
        model: torch.nn.Module = build(*sizes)
        model.load_state_dict(dict(zip(model.state_dict(), initial.state_dict().values(), strict=True)))
        return model

    monkeypatch.setattr(models, name, plain)
    if dataset != "digits":
        drawn, users = epochs_of(workload), data.movielens(films).user_count
        monkeypatch.setattr(typical.MovieLens, "epoch", lambda self: TensorDataset(*next(drawn)))
        monkeypatch.setattr(expert.MovieLens, "epoch", lambda self: joined(users, *next(drawn)))
    expected, found = ours(case, films), theirs(side, case, films)
    assert [report["epoch"] for report in found] == list(range(1, case.epochs + 1))
    assert expected[-1]["train_loss"] < 0.95 * expected[0]["train_loss"]
    for one, other in zip(expected, found, strict=True):
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)
        assert other["validation"] == pytest.approx(one["validation"], abs=1)  # one example on the border
        assert other["test"] == pytest.approx(one["test"], abs=1)


def joined(first_item: int, users: Tensor, items: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """An epoch as the expert's net reads it: rows of one table."""
    return torch.stack([users, items + first_item], dim=1), labels


@both
def test_digits_in_small_batches_are_learnt_as_well_as_by_us(side: str, tmp_path: Path) -> None:
    case = a_case("digits", batch_size=64, epochs=4, peak_lr=0.02)
    expected, found = ours(case, tmp_path), theirs(side, case, tmp_path)
    losses = [report["train_loss"] for report in found]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(expected[-1]["train_loss"], rel=0.5)
    assert found[-1]["test"] == pytest.approx(expected[-1]["test"], abs=5)


@both
def test_films_are_learnt_as_well_as_by_us(side: str, films: Path) -> None:
    case = a_case("movielens-100k", batch_size=50, epochs=10, peak_lr=0.01, size=16)
    expected, found = ours(case, films), theirs(side, case, films)
    losses = [report["train_loss"] for report in found]
    assert losses[-1] < losses[0] / 2
    assert losses[-1] == pytest.approx(expected[-1]["train_loss"], rel=0.3)
    for split in ("validation", "test"):
        assert found[-1][split] == pytest.approx(expected[-1][split], abs=10)
        assert found[-1][split] > 80  # of 10 by chance


def test_hit_rates_of_one_model_are_ours(films: Path) -> None:
    case = a_case("movielens-100k", batch_size=100, epochs=1, peak_lr=0.03)
    plain, fast = typical.MovieLens(case, films), expert.MovieLens(case, films)
    torch.manual_seed(3)
    user_scores, item_scores = torch.randn(100, 200), torch.randn(200)
    score = user_scores + item_scores
    plain.model, fast.model = ByTable(score), ByTable(score)
    workload = workload_of(case, films)[1]
    for split in ("validation", "test"):
        evaluation = workload.evaluate(lambda users, items: score[users, items].unsqueeze(0), split)
        expected = evaluation.metrics["hr@10"].item()
        assert 0 < expected < 100
        assert plain.evaluate(split) == pytest.approx(expected)
        assert torch.equal(fast.hits(split), evaluation.hits[0])


class ByTable(torch.nn.Module):
    """Answers both forms of the question from a table of scores."""

    def __init__(self, score: Tensor) -> None:
        super().__init__()
        self.score = score

    def forward(self, *pair: Tensor) -> Tensor:
        users, items = pair if len(pair) == 2 else (pair[0][:, 0], pair[0][:, 1] - len(self.score))
        return self.score[users, items]


def test_an_epoch_has_every_positive_once_and_four_films_that_its_user_has_not(films: Path) -> None:
    case = a_case("movielens-100k", batch_size=100, epochs=1, peak_lr=0.03)
    ratings = data.movielens(films)
    known = set(zip(ratings.users.tolist(), ratings.items.tolist(), strict=True))
    pairs, labels = expert.MovieLens(case, films).epoch()
    epochs = {
        "typical": [column.tolist() for column in typical.MovieLens(case, films).epoch().tensors],
        "expert": [pairs[:, 0].tolist(), (pairs[:, 1] - ratings.user_count).tolist(), labels.tolist()],
    }
    for users, items, marks in epochs.values():
        positive = [pair for *pair, mark in zip(users, items, marks, strict=True) if mark == 1]
        negative = [(user, item) for user, item, mark in zip(users, items, marks, strict=True) if mark == 0]
        assert sorted(map(tuple, positive)) == sorted(known)
        assert sorted(user for user, _ in negative) == sorted(4 * ratings.users.tolist())
        assert not known & set(negative)
        assert {item for _, item in negative} == set(range(200))


@pytest.mark.parametrize("name", CASES)
def test_the_space_of_a_case_plans_exactly_its_points(name: str, tmp_path: Path) -> None:
    case = Case.from_json(CASES[name].to_json())
    assert case == CASES[name]
    path = tmp_path / "raced.toml"
    path.write_text(space_text(case))
    cells = plan(load_space(path))
    planned = [
        {"batch_size": cell.task.batch_size, **trial.hyperparameters} for cell in cells for trial in cell.search_trials
    ]
    assert planned == case.points
    assert {(cell.task.dataset, cell.task.model, cell.task.epochs) for cell in cells} == {
        (case.dataset, model_of(case), case.epochs)
    }


def test_a_point_that_optuna_trained_twice_counts_once_and_from_what_ended_first() -> None:
    study = optuna.create_study()
    start = datetime(2026, 1, 1)
    for value, ended in ((1, 10), (2, 30), (1, 20), (2, 25)):
        trial = optuna.trial.create_trial(
            value=0.0,
            params={"x": value},
            distributions={"x": CategoricalDistribution([1, 2])},
            user_attrs={"last": {"test": float(ended)}},
        )
        trial.datetime_start, trial.datetime_complete = start, start + timedelta(seconds=ended)
        study.add_trial(trial)
    spans = first_of_each_point(study.get_trials())
    assert [(span.ended - span.started, span.last["test"]) for span in spans] == [(10, 10), (25, 25)]
