"""The contract of `Workload`, over every row of the table and the workload of the page on own ones."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from lawn_tune.planning.functions import archives
from search_spaces.loader import load_space
from tests.helpers.fabricated import published, write_data
from tests.helpers.own_workload import waves
from trainables.catalogue import catalogue
from trainables.catalogue.datasets import DATASETS
from trainables.data import MissingDataError
from trainables.examples import gains, hits
from trainables.tasks import ModelConfig, Split, Task, TrainOn, model_config
from trainables.training.measure import margin_series
from trainables.workloads import build_workload
from trainables.workloads.base import Batch, Evaluation, Resident, Workload
from trainables.workloads.own_code import import_code

CPU = torch.device("cpu")
TINY: dict[str, ModelConfig] = {
    "small-vgg": model_config("small-vgg", width=2),
    "ncf": model_config("ncf", factors=2, init="xavier"),
}

OWN = "waves.py:Waves"

every_workload = pytest.mark.parametrize("name", [*DATASETS, OWN])
every_mode = pytest.mark.parametrize("train_on", get_args(TrainOn))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    import_code(own()[1], "waves:Waves")
    with published(folder):
        yield folder


@cache
def own() -> tuple[Task, bytes]:
    """A task of the page on own workloads, and the sources of its workload."""
    with TemporaryDirectory() as folder:
        space = waves(Path(folder))
        (archive,) = archives([load_space(space.file)]).values()
        return space.cells[0].task, archive


def task(name: str, train_on: TrainOn = "train") -> Task:
    if name == OWN:
        return replace(own()[0], train_on=train_on)
    dataset = DATASETS[name]
    return Task(
        dataset=name,
        model=TINY[catalogue().models_of(dataset)[0]],
        loss=catalogue().losses_of(dataset)[0],
        optimizer="adam",
        batch_size=32,
        epochs=1,
        train_on=train_on,
    )


def resident(what: Task, data_dir: Path) -> Resident:
    workload = build_workload(what, data_dir, CPU)
    assert isinstance(workload, Resident)
    return workload


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Stack:
    """R models of a workload, in evaluation mode."""

    def __init__(self, workload: Workload, rows: int) -> None:
        torch.manual_seed(0)
        self.models = [workload.build_model().eval() for _ in range(rows)]
        self.parameters, self.buffers = stack_module_state(self.models)

    def predict(self, *inputs: Tensor) -> Tensor:
        def forward(weights: dict[str, Tensor], state: dict[str, Tensor]) -> Tensor:
            outputs: Tensor = functional_call(self.models[0], (weights, state), inputs)
            return outputs

        with torch.no_grad():
            return torch.vmap(forward)(self.parameters, self.buffers)

    def alone(self, row: int, *inputs: Tensor) -> Tensor:
        with torch.no_grad():
            outputs: Tensor = self.models[row](*inputs)
        return outputs.unsqueeze(0)


def positives(epoch: tuple[Tensor, ...]) -> list[tuple[int, ...]]:
    """The examples of an epoch without labels and crops, and without those that are labelled as negatives."""
    *parts, last = (part.tolist() for part in epoch)
    if len(epoch) < 3:
        return [(index,) for index in epoch[0].tolist()]
    return [key for key, label in zip(zip(*parts, strict=True), last, strict=True) if label == 1]


def splits(train_on: TrainOn) -> tuple[Split, ...]:
    return ("validation", "test") if train_on == "train" else ("test",)


def same(first: Evaluation, second: Evaluation) -> bool:
    metrics = all(first.metrics[name].equal(second.metrics[name]) for name in first.metrics)
    return metrics and first.hits.equal(second.hits)


@every_workload
@every_mode
def test_an_epoch_is_drawn_from_its_generator_alone(name: str, train_on: TrainOn, data_dir: Path) -> None:
    first, second = (resident(task(name, train_on), data_dir) for _ in range(2))
    torch.manual_seed(1)
    epoch = first.epoch(generator(5))
    torch.manual_seed(2)
    first.epoch(generator(6))
    again, other = second.epoch(generator(5)), second.epoch(generator(6))
    assert len({len(part) for part in epoch}) == 1
    assert all(part.dim() == 1 for part in epoch)
    assert all(a.equal(b) for a, b in zip(epoch, again, strict=True))
    assert any(not a.equal(b) for a, b in zip(epoch, other, strict=True))
    state = generator(5)
    first.epoch(state)
    assert any(not a.equal(b) for a, b in zip(epoch, first.epoch(state), strict=True))


@every_workload
@every_mode
def test_every_positive_is_seen_once_an_epoch(name: str, train_on: TrainOn, data_dir: Path) -> None:
    workload = resident(task(name, train_on), data_dir)
    first, second = (positives(workload.epoch(generator(seed))) for seed in (1, 2))
    assert sorted(first) == sorted(second)
    assert len(first) == len(set(first))


@every_workload
def test_confirm_trains_on_more(name: str, data_dir: Path) -> None:
    search, full = (resident(task(name, mode), data_dir) for mode in get_args(TrainOn))
    assert len(search.epoch(generator(0))[0]) < len(full.epoch(generator(0))[0])
    stack = Stack(search, 2)
    assert same(search.evaluate(stack.predict, "test"), search.evaluate(stack.predict, "test"))
    assert search.evaluate(stack.predict, "test").hits.shape == full.evaluate(stack.predict, "test").hits.shape
    with pytest.raises(ValueError, match="'validation' is part of the training data"):
        full.evaluate(stack.predict, "validation")


@every_workload
def test_a_batch_a_row_is_each_rows_batch(name: str, data_dir: Path) -> None:
    workload = resident(task(name), data_dir)
    rows = [tuple(part[:7] for part in workload.epoch(generator(seed))) for seed in range(3)]
    stacked = tuple(torch.stack(parts) for parts in zip(*rows, strict=True))
    inputs, targets = workload.batch(*stacked)
    assert targets.shape == (3, 7)
    for index, row in enumerate(rows):
        own_inputs, own_targets = workload.batch(*row)
        assert all(part[index].equal(own) for part, own in zip(inputs, own_inputs, strict=True))
        assert targets[index].equal(own_targets)


@every_workload
def test_loss_and_margin_are_one_number_an_example(name: str, data_dir: Path) -> None:
    workload = resident(task(name), data_dir)
    torch.manual_seed(0)
    model = workload.build_model()
    inputs, targets = workload.batch(*(part[:9] for part in workload.epoch(generator(0))))
    outputs = model(*inputs)
    loss_of = workload.loss_of(task(name).loss_row)
    loss, margin = loss_of(outputs, targets), workload.margin(outputs, targets)
    assert loss.shape == margin.shape == (9,)
    assert loss.isfinite().all()
    # Raising what the margin measures lowers the loss, for every example.
    (slope,) = torch.autograd.grad(margin.sum(), outputs, retain_graph=True)
    assert (loss_of(outputs + 0.01 * slope, targets) < loss).all()


@every_workload
@every_mode
@pytest.mark.parametrize("seeds", [[5], [5, 6]])
def test_steps_and_micro_batches_are_an_epoch_cut_into_parts(
    name: str, train_on: TrainOn, seeds: list[int], data_dir: Path
) -> None:
    workload, size, micro_batch = resident(task(name, train_on), data_dir), 50, 20
    epochs = [workload.batch(*workload.epoch(generator(seed))) for seed in seeds]
    whole = [Batch(*part, workload.examples) for part in epochs]
    assert all(len(batch.targets) == workload.examples for batch in whole)
    steps = [list(step) for step in workload.batches(list(map(generator, seeds)), size, micro_batch)]
    assert len(steps) == -(-workload.examples // size)
    assert [sum(part.examples for part in step) for step in steps[:-1]] == [size] * (len(steps) - 1)
    assert all(0 < part.examples <= micro_batch for step in steps for part in step)
    axis = 1 if len(seeds) > 1 else 0
    for place in range(1 + len(whole[0].inputs)):

        def cut(batch: Batch, place: int = place) -> Tensor:
            return (*batch.inputs, batch.targets)[place]

        joined = torch.cat([cut(part) for step in steps for part in step], dim=axis)
        assert joined.equal(torch.stack(list(map(cut, whole))) if axis else cut(whole[0]))
    uncut = [list(step) for step in workload.batches(list(map(generator, seeds)), size)]
    assert [len(step) for step in uncut] == [1] * len(steps)


@every_workload
@every_mode
def test_stacked_models_are_judged_like_solo_ones(name: str, train_on: TrainOn, data_dir: Path) -> None:
    workload = resident(task(name, train_on), data_dir)
    stack = Stack(workload, 3)
    for split in splits(train_on):
        together = workload.evaluate(stack.predict, split)
        assert tuple(together.metrics) == task(name).dataset_row.metrics
        assert together.hits.shape[0] == 3
        assert together.hits.dtype == torch.bool
        for row, found in enumerate(together.outcomes.numpy()):
            means = {name: values[row].item() for name, values in together.metrics.items()}
            assert np.array_equal(hits(found), together.hits[row].numpy())
            assert means.get("ndcg@10", 0.0) == pytest.approx(100 * gains(found).mean() if "ndcg@10" in means else 0.0)
        for row in range(3):
            alone = workload.evaluate(lambda *inputs, row=row: stack.alone(row, *inputs), split)
            # Kernels sum in another order when stacked, so at most a few examples near a border may differ.
            assert (alone.hits[0] ^ together.hits[row]).sum() <= 1
            for metric, values in together.metrics.items():
                assert 0 <= values[row] <= 100
                assert values[row].item() == pytest.approx(alone.metrics[metric].item(), abs=2.0)
        if together.ece is not None:
            assert together.ece.shape == (3,)
            assert ((together.ece >= 0) & (together.ece <= 1)).all()


@every_workload
def test_every_evaluation_is_cut_into_calls_and_the_same_as_uncut(name: str, data_dir: Path) -> None:
    workload = resident(task(name), data_dir)
    stack, calls = Stack(workload, 2), list[int]()

    def predict(*inputs: Tensor) -> Tensor:
        calls.append(len(inputs[0]))
        return stack.predict(*inputs)

    found = []
    for limit in (10**9, 110):  # a user's 100 candidates are one call at least
        calls.clear()
        workload.examples_per_call = limit
        margins = margin_series(predict, workload)
        assert sum(calls) == len(workload.probe_examples()[0])
        assert len(calls) == -(-sum(calls) // limit)
        evaluation = workload.evaluate(predict, "test")
        assert max(calls) <= limit
        found.append((torch.stack(list(margins.values())), evaluation))
    (margins_uncut, uncut), (margins_cut, cut) = found
    # Kernels may sum in another order for another batch size: a few units in fp32's last place.
    torch.testing.assert_close(margins_cut, margins_uncut, rtol=1e-5, atol=1e-6)
    assert (cut.hits ^ uncut.hits).sum() <= 1


@every_workload
def test_a_model_of_nan_scores_nothing(name: str, data_dir: Path) -> None:
    workload = resident(task(name), data_dir)
    stack = Stack(workload, 2)
    evaluation = workload.evaluate(lambda *inputs: stack.predict(*inputs) * torch.nan, "test")
    assert not evaluation.hits.any()
    assert all(values.tolist() == [0, 0] for values in evaluation.metrics.values())


@every_workload
def test_splits_and_candidates_do_not_depend_on_any_seed(name: str, data_dir: Path) -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        workload = resident(task(name), data_dir)
        found.append((workload, workload.probe_examples()))
    stack = Stack(found[0][0], 2)
    for split in splits("train"):
        assert same(*(workload.evaluate(stack.predict, split) for workload, _ in found))
    assert all(a.equal(b) for a, b in zip(found[0][1], found[1][1], strict=True))


@every_workload
@every_mode
def test_the_probe_is_a_fixed_sample_of_training_examples(name: str, train_on: TrainOn, data_dir: Path) -> None:
    workload = resident(task(name, train_on), data_dir)
    probe = workload.probe_examples()
    epoch = workload.epoch(generator(0))
    assert 0 < len(probe[0]) <= 4096
    assert [part.dtype for part in probe] == [part.dtype for part in epoch]
    assert all(a.equal(b) for a, b in zip(probe, workload.probe_examples(), strict=True))
    labels = workload.batch(*epoch)[1].double().mean()
    assert workload.batch(*probe)[1].double().mean().item() == pytest.approx(labels.item(), rel=0.1)


@every_workload
def test_models_come_from_the_global_generator(name: str, data_dir: Path) -> None:
    workload = resident(task(name), data_dir)
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(torch.cat([weight.flatten() for weight in workload.build_model().parameters()]))
    assert models[0].equal(models[1])
    assert not models[0].equal(models[2])


@every_workload
def test_a_task_that_does_not_fit_is_refused(name: str, data_dir: Path) -> None:
    wrong_model: ModelConfig = (
        model_config("ncf") if task(name).dataset_row.data == "images" else model_config("small-vgg")
    )
    with pytest.raises(ValueError, match=f"model of dataset '{name}' must be one of"):
        build_workload(replace(task(name), model=wrong_model), data_dir, CPU)
    with pytest.raises(ValueError, match=f"loss of dataset '{name}' must be one of .*, got 'hinge'"):
        build_workload(replace(task(name), loss="hinge"), data_dir, CPU)


def test_an_unknown_dataset_is_refused(data_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset must be one of synthetic, digits, .*, got 'cifar'"):
        build_workload(replace(task("digits"), dataset="cifar"), data_dir, CPU)


@pytest.mark.parametrize("name", [name for name in DATASETS if DATASETS[name].files])
def test_missing_data_is_reported_with_the_command_that_fetches_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=f"`lawn-tune data fetch {name} --data-dir {tmp_path}`") as caught:
        build_workload(task(name), tmp_path, CPU)
    assert "http" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # workers send it to the driver
