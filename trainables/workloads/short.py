"""A workload cut short for a smoke run: few steps an epoch, few examples measured, the memory of the whole one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from trainables.catalogue.rows import Loss
from trainables.losses import LossFn
from trainables.tasks import Split
from trainables.workloads.base import Batch, Evaluation, Predict, Workload


class Short(Workload):
    """The first steps of each epoch of another workload; see `Workload` for the methods.

    Batches and calls of `predict` are as large as those of the whole workload. An evaluation computes its first call
    and repeats that output for all others, so metrics have the right form and no meaning.

    Args:
        whole: the workload.
        examples: maximum training examples in an epoch, a multiple of the batch size.
    """

    def __init__(self, whole: Workload, examples: int) -> None:
        self._whole = whole
        self.examples = min(whole.examples, examples)
        self.examples_per_call = whole.examples_per_call

    def build_model(self) -> nn.Module:
        """See `Workload.build_model`."""
        return self._whole.build_model()

    def batches(
        self, generators: Sequence[torch.Generator], size: int, micro_batch: int | None = None, first: int = 0
    ) -> Iterator[Iterator[Batch]]:
        """See `Workload.batches`."""
        return islice(self._whole.batches(generators, size, micro_batch, first), -(-self.examples // size) - first)

    def loss_of(self, row: Loss) -> LossFn:
        """See `Workload.loss_of`."""
        return self._whole.loss_of(row)

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `Workload.margin`."""
        return self._whole.margin(outputs, targets)

    def probe(self) -> Iterator[Batch]:
        """Yields the first part of the sample."""
        return islice(self._whole.probe(), 1)

    def evaluate(self, predict: Predict, split: Split) -> Evaluation:
        """See `Workload.evaluate`."""
        first: list[Tensor] = []

        def once(*inputs: Tensor) -> Tensor:
            if not first:
                first.append(predict(*inputs))
            (output,) = first
            return output[:, torch.arange(len(inputs[0]), device=output.device) % output.shape[1]]

        return self._whole.evaluate(once, split)

    @property
    def digest(self) -> str:
        """See `Workload.digest`."""
        return self._whole.digest

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """See `Workload.references`."""
        return self._whole.references()
