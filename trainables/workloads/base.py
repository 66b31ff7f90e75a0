"""The contract of a workload: data on the device, a model, a loss, a margin and metrics, stacked and solo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from trainables.config import Split
from trainables.metrics import Calibration, calibration, ece

Predict = Callable[..., Tensor]
"""Maps the inputs of a batch, shared by all rows, to outputs [R, B, ...] of R stacked models in evaluation mode."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of R stacked models on one split.

    Args:
        metrics: metric name → values [R] in the metric's unit (percent).
        hits: outcome on each example, bool [R, E]: correct, or positive ranked in the top 10.
        confidence: probability of the predicted class [R, E]; None where calibration is undefined.
    """

    metrics: dict[str, Tensor]
    hits: Tensor
    confidence: Tensor | None = None

    @property
    def ece(self) -> Tensor | None:
        """Expected calibration error [R] as a fraction, see `metrics.ece`."""
        return None if self.confidence is None else ece(self.confidence, self.hits)

    @property
    def calibration(self) -> Calibration | None:
        """The bins of `ece`, [R, bins] each, see `metrics.calibration`."""
        return None if self.confidence is None else calibration(self.confidence, self.hits)


def in_calls(function: Callable[..., Tensor], examples: Sequence[Tensor], per_call: int) -> Tensor:
    """Applies `function` to all examples in parts, so that memory does not grow with their number.

    Args:
        function: maps part of the examples, tensors [B, ...], to values [R, B, ...], each from its example alone.
        examples: tensors of equal length, [E, ...].
        per_call: maximum B.

    Returns:
        [R, E, ...].
    """
    parts = zip(*(torch.split(tensor, per_call) for tensor in examples), strict=True)
    return torch.cat([function(*part) for part in parts], dim=1)


class Workload(Protocol):
    """One dataset with its model and loss, resident on a device.

    Every method is a pure function of its arguments and the data; all randomness comes from the given generator.
    Tensors of examples may carry any leading dimensions: [B] for a shared batch, [R, B] for one batch per row.

    Args:
        examples_per_call: examples per row in one call of `predict`; bounds the memory of an evaluation.
    """

    examples_per_call: int

    def build_model(self) -> nn.Module:
        """Returns a fresh model on the CPU in fp32, initialized from the global generator, which the caller seeds."""
        ...

    def epoch(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns one epoch's training examples in random order as tensors of equal length [N], on the device.

        They are the arguments of `batch`: indices for images, (user, item, label) with newly drawn negatives for NCF.
        The generator is on the CPU, so an epoch is the same on every device.
        """
        ...

    def batch(self, *examples: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Returns the model's inputs and the targets for a slice [..., B] of the tensors of `epoch`."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns each example's loss [B] for outputs [B, ...] of one model (vmapped by the caller when stacked)."""
        ...

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns each example's logit margin [B]: score of the target minus the best other, or ±logit (§2.1)."""
        ...

    def probe(self) -> tuple[Tensor, ...]:
        """Returns a fixed sample of training examples (at most 4,096), in the form of `epoch`, for margins."""
        ...

    def evaluate(self, predict: Predict, split: Split) -> Evaluation:
        """Returns the metrics of R models on `split`, independent of the batch size of the calls to `predict`.

        Raises:
            ValueError: the workload trains on validation data, so `split` must not be "validation".
        """
        ...
