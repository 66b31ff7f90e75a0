"""Throughput of a pack of K relative to K solo runs of the same trials, and seconds per example; one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import interleaved, ratio, summary
from trainables.data import check
from trainables.tasks import ModelConfig, PackConfig, Task, Trial, model_config, trial_key
from trainables.training.loop import Training
from trainables.training.process_memory import keep_freed_memory
from trainables.workloads import build_workload

CPU = torch.device("cpu")
CASES: tuple[tuple[str, ModelConfig, int, tuple[int, ...]], ...] = (
    ("digits", model_config("small-vgg", width=8), 64, (1, 4, 16)),
    ("digits", model_config("small-vgg", width=8), 512, (1, 4, 16)),
    ("movielens-100k", model_config("ncf", factors=8, init="xavier"), 256, (1, 4, 16)),
    ("movielens-100k", model_config("ncf", factors=8, init="xavier"), 1000, (1, 4, 16)),
    ("movielens-100k", model_config("ncf", factors=64, init="xavier"), 1000, (1, 4, 16)),
    ("movielens-100k", model_config("ncf", factors=64, init="xavier"), 10_000, (1, 4)),
    ("movielens-100k", model_config("ncf", factors=64, init="xavier"), 100_000, (1, 4)),
    ("fashion-mnist", model_config("small-vgg", width=16), 1024, (1,)),
)
"""Dataset, model, batch size, and the pack sizes to measure."""


def run(data_dir: Path, repeats: int = 3) -> dict[str, Any]:
    """Measures every case whose data is available: one epoch with its evaluation, for packs of several sizes."""
    torch.set_num_threads(1)
    keep_freed_memory()
    return {
        f"{dataset} {_name(model)} batch {batch}": _case(dataset, model, batch, sizes, data_dir, repeats)
        for dataset, model, batch, sizes in CASES
        if check(dataset, data_dir).state == "ready"
    }


def _case(
    dataset: str, model: ModelConfig, batch: int, sizes: tuple[int, ...], data_dir: Path, repeats: int
) -> dict[str, Any]:
    loss = "bce" if model.name == "ncf" else "cross-entropy"
    task = Task(dataset=dataset, model=model, loss=loss, optimizer="adam", batch_size=batch, epochs=1000)
    packs = {f"K={size}": training_of(task, size, data_dir) for size in sizes}
    for training in packs.values():
        training.run_epoch()
    seconds = interleaved({name: training.run_epoch for name, training in packs.items()}, repeats)
    examples = packs["K=1"].workload.examples
    return {
        "seconds_per_epoch": {name: summary(values) for name, values in seconds.items()},
        "seconds_per_example": {
            name: summary(values)["median"] / examples / int(name[2:]) for name, values in seconds.items()
        },
        "speed_up_over_solo": {
            name: ratio([value * int(name[2:]) for value in seconds["K=1"]], seconds[name])
            for name in seconds
            if name != "K=1"
        },
    }


def train_ncf(data_dir: Path, batch: int) -> Training:
    """Returns one NCF trial with 64 factors on MovieLens-100k, ready to train."""
    model = model_config("ncf", factors=64, init="xavier")
    task = Task(dataset="movielens-100k", model=model, loss="bce", optimizer="adam", batch_size=batch, epochs=1000)
    return training_of(task, 1, data_dir)


def training_of(task: Task, size: int, data_dir: Path) -> Training:
    """Returns a pack of this many trials that differ in weight decay, ready to train."""
    points = [{"peak_lr": 0.003, "warmup_epochs": 1.0, "weight_decay": 0.01 * (1 + i)} for i in range(size)]
    members = tuple(Trial(key=trial_key(task, 0, point), seed=0, hyperparameters=point) for point in points)
    return Training(PackConfig(task=task, members=members), build_workload(task, data_dir, CPU), CPU)


def _name(model: ModelConfig) -> str:
    return f"{model.name}-{next(iter(model.options.values()))}"
