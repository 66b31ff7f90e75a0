"""Tiny tasks and packs for the tests of training: seconds on one core, no data files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from trainables.catalogue.methods import METHODS
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.tasks import PackConfig, Task, Trial, model_config, trial_key
from trainables.training.loop import Training
from trainables.training.trial import EpochEnded, Event, PackRun, Records
from trainables.workloads import build_workload

CORE = ("sgd", "sgd-lawn", "adam", "adam-lawn", "lamb", "lamb-lawn")
"""A pack of 8 for each rule with each of the two controls that have kernels; other methods have shorter tests."""

CPU = torch.device("cpu")

RANKING = Task(
    dataset="movielens-100k",
    model=model_config("ncf", factors=2),
    loss="bce",
    optimizer="adam",
    batch_size=64,
    epochs=1,
)
IMAGES = Task(
    dataset="fashion-mnist",
    model=model_config("small-vgg", width=2),
    loss="cross-entropy",
    optimizer="adam",
    batch_size=64,
    epochs=1,
)
"""For data in files, fabricated ones."""

PEAK_LR = {"sgd": 0.05, "adam": 0.01, "lamb": 0.02, "lamb-plus": 0.02}
LEVELS = {
    "free_epochs": (1.0, 0.0, 0.5, 9.0),
    "weight_decay": (0.01, 0.0, 0.1, 1.0),
    "flood_level": (2.25, 0.0, 1.0, 2.0),
    "smoothing": (0.05, 0.0, 0.1, 0.4),
    "rate": (1.0, 0.1, 0.01, 10.0),
    "beta1": (0.9, 0.5, 0.8, 0.0),
}
"""Of what a method's control or loss is set by, the first one where a test needs only one."""


def task(optimizer: str = "adam-lawn", **changes: Any) -> Task:
    plain = Task(
        dataset="synthetic",
        model=model_config("small-vgg", width=4),
        loss="cross-entropy",
        optimizer=optimizer,
        batch_size=48,
        epochs=4,
    )
    return replace(plain, **changes)


def point(optimizer: str, **changes: float) -> dict[str, float]:
    method = METHODS[optimizer]
    own = {name: LEVELS[name][0] for name in method.required if name in LEVELS}
    return {"peak_lr": PEAK_LR[method.rule.name], "warmup_epochs": 1.0} | own | changes


def pack(what: Task, points: list[dict[str, float]], seeds: list[int] | None = None) -> PackConfig:
    seeds = seeds or [0] * len(points)
    members = tuple(
        Trial(key=trial_key(what, seed, values), seed=seed, hyperparameters=values)
        for values, seed in zip(points, seeds, strict=True)
    )
    return PackConfig(task=what, members=members)


def training(config: PackConfig) -> Training:
    return Training(config, build_workload(config.task, Path("nowhere"), CPU), CPU)


def run(
    config: PackConfig, should_stop: Callable[[], bool] = lambda: False, **options: Any
) -> tuple[list[EpochRecord], list[TrialOutcome]]:
    """Trains a pack to its end; without outcomes if it was stopped, which is asked after every epoch."""
    events, outcomes = events_of(config, should_stop, **options)
    return [record for event in events if isinstance(event, Records) for record in event.records], outcomes or []


def events_of(
    config: PackConfig,
    should_stop: Callable[[], bool] = lambda: False,
    device: torch.device = CPU,
    **options: Any,
) -> tuple[list[Event], list[TrialOutcome] | None]:
    """Like `run`, with all that happened."""
    pack_run = PackRun(config, data_dir=Path("nowhere"), device=device, **options)
    events = []
    for event in pack_run:
        events.append(event)
        if isinstance(event, EpochEnded) and should_stop():
            pack_run.stop()
    return events, pack_run.outcomes


def curve(records: list[EpochRecord], member: int) -> list[dict[str, float | None]]:
    return [{name: values[member] for name, values in record.series.items()} for record in records]


def eight_points(optimizer: str) -> list[dict[str, float]]:
    """Eight points that differ in everything a grid may differ in."""
    method = METHODS[optimizer]
    own = next(name for name in (*method.required, *method.hyperparameters) if name in LEVELS)
    peak = PEAK_LR[method.rule.name]
    return [
        point(optimizer, peak_lr=lr, warmup_epochs=warmup) | {own: value}
        for lr, warmup in ((peak, 0.0), (peak / 3, 1.5))
        for value in sorted(LEVELS[own])
    ]
