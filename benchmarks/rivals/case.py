"""A benchmark case: one grid of AdamW on one dataset, the same for every side."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

WORKERS = 2
"""Trials at once, each with one thread, on every side."""

Point = dict[str, float]
"""batch_size, peak_lr, warmup_epochs and weight_decay of one trial."""

Report = Callable[[dict[str, float]], None]
"""Called after each epoch with epoch, train_loss (mean over the examples) and the metric on validation and test (%)."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A grid with its dataset and model.

    Args:
        dataset: "movielens-100k" or "digits".
        size: factors of the NCF, or channels of the small VGG's first stage.
        epochs: of every trial.
        batch_size, peak_lr, warmup_epochs, weight_decay: levels of the grid.
    """

    dataset: str
    size: int
    epochs: int
    batch_size: tuple[int, ...]
    peak_lr: tuple[float, ...]
    warmup_epochs: tuple[float, ...]
    weight_decay: tuple[float, ...]

    @property
    def levels(self) -> dict[str, tuple[float, ...]]:
        """Hyperparameter → its levels, the last one varying fastest."""
        names = ("batch_size", "peak_lr", "warmup_epochs", "weight_decay")
        return {name: getattr(self, name) for name in names}

    @property
    def points(self) -> list[Point]:
        """Every combination of levels."""
        return [dict(zip(self.levels, values, strict=True)) for values in product(*self.levels.values())]

    def to_json(self) -> str:
        """Returns the case as text."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Case:
        """The inverse of `to_json`."""
        values = json.loads(text).items()
        plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values}
        return Case(**plain)


@dataclass(frozen=True)
class Job:
    """Arguments of an alternative: the case, the data folder, and the output file for its `Span`s."""

    case: Case
    data_dir: Path
    output: Path

    @staticmethod
    def from_arguments(arguments: list[str]) -> Job:
        """Reads the case's file, the data folder and the output file."""
        case, data_dir, output = map(Path, arguments)
        return Job(Case.from_json(case.read_text()), data_dir.resolve(), output.resolve())


@dataclass(frozen=True)
class Span:
    """Start and end of one trial, in Unix time, and its last metrics."""

    started: float
    ended: float
    last: dict[str, float]


def write_spans(path: Path, spans: list[Span]) -> None:
    """Writes spans for `read_spans`."""
    path.write_text(json.dumps([asdict(span) for span in spans]))


def read_spans(path: Path) -> list[Span]:
    """Returns the spans that `write_spans` wrote."""
    return [Span(**values) for values in json.loads(path.read_text())]


def rate_factor(point: Point, examples: int, epochs: int) -> Callable[[int], float]:
    """Returns step → learning rate over peak: linear warm-up from 0, linear decay to 0, per step.

    Args:
        point: of the trial.
        examples: in one epoch.
        epochs: of the trial.
    """
    steps = ceil(examples / point["batch_size"])
    warmup, total = point["warmup_epochs"] * steps, epochs * steps
    return lambda step: min((step + 1) / warmup if warmup else 1.0, (total - step) / (total - warmup), 1.0)
