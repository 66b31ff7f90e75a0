"""CPU seconds of one trial's epoch with its evaluation, by lawn_tune and by *expert*, in turn on one thread.

Without Ray, reading data, and the first epoch, in which lawn_tune records its steps: what a long trial takes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import ratio, summary
from benchmarks.packs import training_of
from benchmarks.rivals import expert
from benchmarks.rivals.case import Case
from benchmarks.throughput import CASES
from trainables.data import check
from trainables.optimizers import build_kernels
from trainables.tasks import Task, model_config
from trainables.training.loop import Training
from trainables.training.process_memory import keep_freed_memory

PACKS: Mapping[str, int] = {
    "movielens-100k ncf-8 batch 1000": 12,
    "movielens-100k ncf-64 batch 100000": 1,
    "digits quickstart": 9,
}
"""Trials of a pack, as many as on the two workers of the comparison of whole grids."""


def run(data_dir: Path, repeats: int = 5) -> dict[str, Any]:
    """Measures every case whose data is available."""
    torch.set_num_threads(1)
    keep_freed_memory()
    build_kernels()
    return {
        name: _case(CASES[name], size, data_dir.resolve(), repeats)
        for name, size in PACKS.items()
        if check(CASES[name].dataset, data_dir).state == "ready"
    }


def _case(case: Case, size: int, data_dir: Path, repeats: int) -> dict[str, Any]:
    training = training_of(_task(case), size, data_dir)
    for _ in range(2):
        training.run_epoch()
    pairs = [(_ours(training) / size, _theirs(case, data_dir)) for _ in range(repeats)]
    ours, theirs = map(list, zip(*pairs, strict=True))
    return {
        "K": size,
        "cpu_seconds": {"lawn_tune": summary(ours), "expert": summary(theirs)},
        "expert_over_ours": ratio(theirs, ours),
    }


def _task(case: Case) -> Task:
    images = case.dataset == "digits"
    model = (
        model_config("small-vgg", width=case.size) if images else model_config("ncf", factors=case.size, init="xavier")
    )
    loss, batch = "cross-entropy" if images else "bce", case.batch_size[0]
    return Task(dataset=case.dataset, model=model, loss=loss, optimizer="adam", batch_size=batch, epochs=1000)


def _ours(training: Training) -> float:
    start = time.thread_time()
    training.run_epoch()
    return time.thread_time() - start


def _theirs(case: Case, data_dir: Path) -> float:
    """The mean of a trial's second and third epoch."""
    ends: list[float] = []
    expert.train(replace(case, epochs=3), case.points[0], data_dir, lambda values: ends.append(time.thread_time()))
    return (ends[2] - ends[0]) / 2
