"""The code that the rows of catalogue.toml name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.optimizers.controls import Control
from trainables.optimizers.lists import Number, Tensors, lerp_
from trainables.optimizers.rules import Hyper, Steps
from trainables.optimizers.weights import Weights
from trainables.tasks import Split, Task
from trainables.workloads.base import Evaluation, Predict
from trainables.workloads.images import ImageWorkload, LabeledImages


def signum(g: Tensors, state: Mapping[str, Tensors], t: Steps, hyper: Hyper) -> Tensors:
    """The sign of a running mean of gradients."""
    lerp_(state["m"], g, 1 - hyper["beta"])
    return [m.sign() for m in state["m"]]


@dataclass(frozen=True)
class Shrink(Control):
    """w ← (1 - η·rate)·(w - η·r)."""

    shrink_rate: Number

    def update(self, w: Weights, r: Tensors, lr: Number) -> None:
        """Follows the direction and shrinks."""
        for x, step in zip(w.tensors, r, strict=True):
            x.sub_((lr * step).to(x.dtype)).mul_(1 - lr * self.shrink_rate)


def tempered(outputs: Tensor, targets: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
    """Cross-entropy of outputs divided by a temperature."""
    return F.cross_entropy(outputs.float() / temperature, targets, reduction="none")


def linear(*, channels: int, pixels: int, classes: int, scale: float) -> nn.Module:
    """One layer over all pixels."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(channels * pixels * pixels, classes))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale)
    return model


class Stripes(ImageWorkload):
    """Images whose error is reported as well."""

    def evaluate(self, predict: Predict, split: Split) -> Evaluation:
        """See `Workload.evaluate`."""
        found = super().evaluate(predict, split)
        return replace(found, metrics=found.metrics | {"error": 100 - found.metrics["accuracy"]})


def stripes(task: Task, data_dir: Path, device: torch.device) -> Stripes:
    """Returns 96 training, 32 validation and 64 test images."""
    generator = torch.Generator().manual_seed(7)
    pattern = (torch.arange(8) % 2).float().expand(8, 8)

    def images(count: int) -> LabeledImages:
        labels = torch.arange(count) % 2
        clean = torch.stack([pattern if label else pattern.T for label in labels.tolist()]).unsqueeze(1)
        return LabeledImages(clean + torch.randn(clean.shape, generator=generator), labels)

    train, validation = images(128).hold_out(every=4)
    return Stripes(task, train=train, validation=validation, test=images(64), classes=2, device=device)
