"""What a trial is, as plain values: task, trial, pack, and the key that identifies a trial. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, Literal

from trainables.catalogue import Catalogue, catalogue, rows_text
from trainables.catalogue.plugins import identity
from trainables.catalogue.rows import Dataset, Loss, Method, Model, Value
from trainables.catalogue.sizes import Footprint

NUMERICS: Mapping[str, int] = {"float32": 1, "bfloat16": 2}
"""Precision → a number that is raised when a change of ours alters what its trials produce beyond rounding; part of
every trial's key. bfloat16: 2 sums embedding gradients, and evaluates, in float32."""

TrainOn = Literal["train", "train+validation"]
Split = Literal["validation", "test"]

SCHEDULES = ("linear", "cosine")
CONSTRAINTS = ("all", "final", "hidden")
PRECISIONS = tuple(NUMERICS)

LANES = 8
"""Partial sums of a step: micro-batch i is added to sum i modulo 8, and these in pairs, see `ranks.summed`."""

AHEAD = 2
"""Batches of images of a folder that are decoded while one is trained on."""

GPU_CALL = 2**20
"""Examples of all rows together in one call of models that a GPU evaluates, where one row alone has fewer (our choice:
on one H200, evaluating 25,600 examples of one model took as long as a training step of 100,000)."""

RANKS = (1, 2, 4, 8)
"""Numbers of GPUs that can train one pack: each has as many of these sums as the others."""

LATER = ("rows", "steps", "micro_batch")
"""Fields of a task that are left out where they are empty, so that the keys of older trials stay the same."""


@dataclass(frozen=True)
class ModelConfig:
    """A model with its options, in the order of its row."""

    name: str
    items: tuple[tuple[str, Value], ...] = ()

    @property
    def options(self) -> dict[str, Value]:
        """Option → value, defaults included."""
        return dict(self.items)

    def to_dict(self) -> dict[str, Value]:
        """Returns plain JSON values."""
        return {"name": self.name, **self.options}


def model_config(name: str, /, *, known: Catalogue | None = None, **options: Value) -> ModelConfig:
    """Returns a model with the defaults of its row filled in.

    Raises:
        ValueError: there is no such model or option.
    """
    models = (known or catalogue()).models
    if name not in models:
        raise ValueError(f"model must be one of {', '.join(models)}, got '{name}'")
    defaults = {option.name: option.default for option in models[name].options}
    if unknown := [option for option in options if option not in defaults]:
        raise ValueError(f"options of model {name} are {', '.join(defaults)}, got '{unknown[0]}'")
    return ModelConfig(name, tuple((defaults | options).items()))


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that the trials of one pack have in common and that changes their numbers.

    Args:
        dataset, loss, optimizer: names of rows of the catalogue; `optimizer` is a method.
        model: with its options.
        batch_size: examples a step.
        epochs: of the whole training.
        train_on, schedule, constrain, precision: see `docs/choices.md`.
        rows: rows of the catalogue that are not built in, see `catalogue.carried`.
        steps: maximum steps of an epoch, for a smoke run: see `workloads.short`; 0 for whole epochs.
        micro_batch: most examples on the device at once; BatchNorm's statistics are of these. 0 for those of a step.
    """

    dataset: str
    model: ModelConfig
    loss: str
    optimizer: str
    batch_size: int
    epochs: int
    train_on: TrainOn = "train"
    schedule: str = "linear"
    constrain: str = "all"
    precision: str = "float32"
    rows: str = ""
    steps: int = 0
    micro_batch: int = 0

    @property
    def catalogue(self) -> Catalogue:
        """The rows its names refer to."""
        return catalogue(self.rows)

    @property
    def method(self) -> Method:
        """The row of its method."""
        return self.catalogue.methods[self.optimizer]

    @property
    def dataset_row(self) -> Dataset:
        """The row of its data set."""
        return self.catalogue.datasets[self.dataset]

    @property
    def model_row(self) -> Model:
        """The row of its model."""
        return self.catalogue.models[self.model.name]

    @property
    def footprint(self) -> Footprint | None:
        """The size of its model on its data set; None where the model's row does not tell."""
        known = self.model_row.footprint
        return known(self.model.options, self.dataset_row.shape) if callable(known) else known

    @property
    def loss_row(self) -> Loss:
        """The row of its loss."""
        return self.catalogue.losses[self.loss]

    @property
    def at_once(self) -> int:
        """Examples of one trial that are on the device at once."""
        return self.micro_batch or self.batch_size

    @property
    def optimizer_class(self) -> str:
        """The torch optimizer class that makes its steps, "" for none or an unknown method."""
        row = self.catalogue.methods.get(self.optimizer)
        return row.rule.optimizer if row else ""

    @property
    def alone(self) -> bool:
        """Whether its trials are trained one at a time."""
        return self.by_function or bool(self.optimizer_class)

    @property
    def code_of(self) -> str:
        """Name of the user's code that its workers are given: a function or workload, or a class; "" for none."""
        return self.dataset if self._dataset_code else self.optimizer_class if self.code else ""

    @property
    def code(self) -> str:
        """Digest of the sources of `code_of`; "" for none, and where what it names is not known."""
        return self._dataset_code or (self.method.rule.code if self.optimizer_class else "")

    @property
    def _dataset_code(self) -> str:
        row = self.catalogue.datasets.get(self.dataset)
        return row.code if row else ""

    @property
    def by_function(self) -> bool:
        """Whether a training function trains it, alone and in a process of its own: only that has no model to name."""
        return bool(self.code) and not self.model_row.build

    def complete(self, given: Mapping[str, float]) -> dict[str, float]:
        """Returns all hyperparameters of a point, defaults included; a training function may have any of its own.

        Raises:
            ValueError: one is unknown or missing.
        """
        if not self.by_function:
            return self.method.complete(given)
        known = self.method.hyperparameters
        own = {name: value for name, value in given.items() if name not in known}
        return self.method.complete({name: given[name] for name in given if name in known}) | own

    @property
    def examples(self) -> int:
        """Training examples in one epoch."""
        row = self.dataset_row
        whole = row.train_examples if self.train_on == "train" else row.full_examples
        return min(whole, self.steps * self.batch_size) if self.steps else whole

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values; the model carries its name."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in LATER}
        later = {name: getattr(self, name) for name in LATER if getattr(self, name)}
        rows = {"rows": json.loads(self.rows)} if self.rows else {}
        return values | later | {"model": self.model.to_dict()} | rows

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Task:
        """The inverse of `to_dict`.

        Raises:
            ValueError, TypeError, KeyError: the values are of no task.
        """
        rows = rows_text(values["rows"]) if "rows" in values else ""
        model = dict(values["model"])
        config = model_config(model.pop("name"), known=catalogue(rows), **model)
        return Task(**(dict(values) | {"model": config, "rows": rows}))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial: its key, seed and hyperparameters (learning rates absolute, epochs may be fractional)."""

    key: str
    seed: int
    hyperparameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """K trials of one task that a worker trains as one computation."""

    task: Task
    members: tuple[Trial, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values, fit to send to a worker."""
        members = [{"key": m.key, "seed": m.seed, "hyperparameters": dict(m.hyperparameters)} for m in self.members]
        return {"task": self.task.to_dict(), "members": members}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> PackConfig:
        """The inverse of `to_dict`."""
        members = tuple(Trial(**member) for member in values["members"])
        return PackConfig(task=Task.from_dict(values["task"]), members=members)


def trial_key(task: Task, seed: int, hyperparameters: Mapping[str, float]) -> str:
    """Returns the identity of a trial: 16 hex digits of a hash of all that changes its numbers, and of nothing else."""
    point, numerics = _json(task.complete(hyperparameters)), NUMERICS[task.precision]
    text = f'{{"hyperparameters":{point},"numerics":{numerics},"seed":{seed},"task":{_identity(task)}}}'
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@lru_cache(maxsize=256)
def _identity(task: Task) -> str:
    """Returns a task as JSON; trials of one cell share it."""
    described = task.to_dict()
    if task.rows:
        described["rows"] = identity(described["rows"])
    return _json(described)
