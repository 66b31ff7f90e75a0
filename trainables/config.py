"""What a trial is, as plain values: datasets, models, optimizers, packs. Imports no torch, so planning is quick."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal

NUMERICS: Mapping[str, int] = {"float32": 1, "bfloat16": 2}
"""Precision → a number that is raised when a change of ours alters what its trials produce beyond rounding; part of
every trial's key. bfloat16: 2 sums embedding gradients, and evaluates, in float32."""

Direction = Literal["maximize", "minimize"]
TrainOn = Literal["train", "train+validation"]
Split = Literal["validation", "test"]


@dataclass(frozen=True)
class Metric:
    """A figure of merit on a split: its direction, its unit, and how many digits a table shows."""

    direction: Direction
    unit: str
    digits: int = 2


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("maximize", "%"),
    "hr@10": Metric("maximize", "%"),
    "ndcg@10": Metric("maximize", "%"),
}

ECE_BINS = 15
"""Equal-width bins of confidence in an expected calibration error and its reliability diagram (our choice)."""

SCHEDULES = ("linear", "cosine")
CONSTRAINTS = ("all", "final")
LOSSES = ("cross-entropy", "bce")
PRECISIONS = ("float32", "bfloat16")


# --- optimizers: one dataclass each; a grid's keys are exactly its fields ---------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """SGD with heavy-ball momentum and L2 in the gradient (paper §4, baselines)."""

    rule: ClassVar[str] = "sgd"
    lawn: ClassVar[bool] = False
    peak_lr: float
    warmup_epochs: float
    weight_decay: float
    momentum: float = 0.9


@dataclass(frozen=True, kw_only=True)
class SgdLawn:
    """SGD with momentum under LAWN; no weight decay in either phase (paper §3, "any gradient-based optimizer")."""

    rule: ClassVar[str] = "sgd"
    lawn: ClassVar[bool] = True
    peak_lr: float
    warmup_epochs: float
    free_epochs: float
    momentum: float = 0.9


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam with decoupled weight decay, multiplied by the learning rate (AdamW; paper §4)."""

    rule: ClassVar[str] = "adam"
    lawn: ClassVar[bool] = False
    peak_lr: float
    warmup_epochs: float
    weight_decay: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass(frozen=True, kw_only=True)
class AdamLawn:
    """Adam under LAWN (paper Algorithm 1); epsilon 1e-6 as in §4."""

    rule: ClassVar[str] = "adam"
    lawn: ClassVar[bool] = True
    peak_lr: float
    warmup_epochs: float
    free_epochs: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6


@dataclass(frozen=True, kw_only=True)
class Lamb:
    """LAMB with weight decay inside the trust ratio, which is always on (paper §4; variant: our choice)."""

    rule: ClassVar[str] = "lamb"
    lawn: ClassVar[bool] = False
    peak_lr: float
    warmup_epochs: float
    weight_decay: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6


@dataclass(frozen=True, kw_only=True)
class LambLawn:
    """LAMB under LAWN; the ratio is of the projected direction, so a step has length eta·c exactly (our choice)."""

    rule: ClassVar[str] = "lamb"
    lawn: ClassVar[bool] = True
    peak_lr: float
    warmup_epochs: float
    free_epochs: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6


OptimizerConfig = Sgd | SgdLawn | Adam | AdamLawn | Lamb | LambLawn

OPTIMIZERS: Mapping[str, type[OptimizerConfig]] = {
    "sgd": Sgd,
    "sgd-lawn": SgdLawn,
    "adam": Adam,
    "adam-lawn": AdamLawn,
    "lamb": Lamb,
    "lamb-lawn": LambLawn,
}

LAWN_OF: Mapping[str, str] = {"sgd": "sgd-lawn", "adam": "adam-lawn", "lamb": "lamb-lawn"}
"""The pairs that comparisons are about: base optimizer with weight decay, and its LAWN variant."""


# --- models and datasets ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SmallVgg:
    """VGG-style net: 3x3 convolutions without bias, BN, ReLU, max-pooling; one fully connected layer at the end.

    Args:
        width: channels of the first stage; each stage after a pooling doubles it.
    """

    name: ClassVar[str] = "small-vgg"
    width: int = 16


@dataclass(frozen=True, kw_only=True)
class Ncf:
    """NCF's MLP tower over a user and an item embedding (paper §4.3; sizes are our choice, `docs/choices.md`).

    Args:
        factors: width of the last hidden layer; embeddings are 2·factors wide each, the tower halves from 4·factors.
        init: "normal-0.01" draws every weight from N(0, 0.01²); "xavier" uses Xavier for the tower instead.
    """

    name: ClassVar[str] = "ncf"
    factors: int = 64
    init: Literal["normal-0.01", "xavier"] = "normal-0.01"


ModelConfig = SmallVgg | Ncf

MODELS: Mapping[str, type[ModelConfig]] = {"small-vgg": SmallVgg, "ncf": Ncf}


@dataclass(frozen=True)
class Dataset:
    """What planning must know of a dataset without loading it.

    Args:
        models: names of the models that fit it.
        losses: names of the losses that fit it.
        metrics: figures its workload reports on validation and test, the paper's one first.
        train_examples: examples in one epoch on train, sampled negatives included.
        full_examples: the same on train + validation.
        bundled: True when an installed package carries the data, so nothing has to be fetched.
    """

    models: tuple[str, ...]
    losses: tuple[str, ...]
    metrics: tuple[str, ...]
    train_examples: int
    full_examples: int
    bundled: bool = False


DATASETS: Mapping[str, Dataset] = {
    "synthetic": Dataset(("small-vgg",), ("cross-entropy",), ("accuracy",), 192, 256, bundled=True),
    "digits": Dataset(("small-vgg",), ("cross-entropy",), ("accuracy",), 1293, 1437, bundled=True),
    "fashion-mnist": Dataset(("small-vgg",), ("cross-entropy",), ("accuracy",), 54_000, 60_000),
    "movielens-100k": Dataset(("ncf",), ("bce",), ("hr@10", "ndcg@10"), 490_570, 495_285),
}


# --- a trial and a pack ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that the trials of one pack have in common and that changes their numbers."""

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

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values; the model carries its name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {"model": {"name": self.model.name} | asdict(self.model)}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Task:
        """The inverse of `to_dict`."""
        model = dict(values["model"])
        return Task(**(dict(values) | {"model": MODELS[model.pop("name")](**model)}))


@dataclass(frozen=True, kw_only=True)
class Member:
    """One trial of a pack: its key, seed and hyperparameters (learning rates absolute, epochs may be fractional)."""

    key: str
    seed: int
    hyperparameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """K trials of one task that a worker trains as one computation."""

    task: Task
    members: tuple[Member, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values, fit to send to a worker."""
        return {"task": self.task.to_dict(), "members": [asdict(member) for member in self.members]}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> PackConfig:
        """The inverse of `to_dict`."""
        members = tuple(Member(**member) for member in values["members"])
        return PackConfig(task=Task.from_dict(values["task"]), members=members)


def optimizer_config(name: str, hyperparameters: Mapping[str, float]) -> OptimizerConfig:
    """Returns the dataclass of optimizer `name`, defaults filled in."""
    return OPTIMIZERS[name](**hyperparameters)


def trial_key(task: Task, seed: int, hyperparameters: Mapping[str, float]) -> str:
    """Returns the identity of a trial: 16 hex digits of a hash of all that changes its numbers, and of nothing else."""
    full = asdict(optimizer_config(task.optimizer, hyperparameters))
    numbers = {name: float(value) for name, value in full.items()}
    identity = {"numerics": NUMERICS[task.precision], "task": task.to_dict(), "seed": seed, "hyperparameters": numbers}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- what training reports -------------------------------------------------------------------------------------------


SERIES = (
    "train_loss",
    "learning_rate",
    "grad_norm",
    "weight_norm",
    "last_layer_norm",
    "last_bn_gamma_norm",
    "margin_p10",
    "margin_p50",
    "margin_p90",
)
"""Measured for every trial each epoch, beside "validation/<metric>" and "test/<metric>" of the dataset's metrics."""


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch's measurements of a whole pack.

    Args:
        epoch: epochs finished, from 1.
        series: name → one value per member in the order of the pack; None where not measured or already diverged.
    """

    epoch: int
    series: Mapping[str, list[float | None]]


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """What remains of one finished trial.

    Args:
        key: the trial's key.
        outcome: "complete", or "diverged" when a loss or weight stopped being finite.
        epochs: epochs finished by this trial.
        summary: "last/<series>", "best/<series>" and "ece" values; "seconds" (wall time of the pack over its members),
            "peak_memory_bytes"; of classifiers "calibration/<examples, confidence or accuracy>/<bin from 00>" of the
            reliability diagram's bins that hold an example of the test split.
        examples: one bit per test example, packed big-endian (`numpy.packbits`): hit or correct. Empty if diverged.
        example_count: number of test examples, as the last byte may be padded.
        constrained: names of the tensors whose norm LAWN holds in the constrained phase; () for base optimizers.
    """

    key: str
    outcome: Literal["complete", "diverged"]
    epochs: int
    summary: Mapping[str, float | None]
    examples: bytes = b""
    example_count: int = 0
    constrained: tuple[str, ...] = ()
