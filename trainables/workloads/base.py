"""The contract of a workload: data on the device, a model, a loss, a margin and metrics, stacked and solo."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from trainables import ranks
from trainables.catalogue.rows import Loss
from trainables.losses import LossFn, loss_of
from trainables.metrics import Calibration, calibration, ece
from trainables.tasks import Split, Task

Part = tuple[Tensor, ...]
"""Examples, in the form that a workload draws."""

Predict = Callable[..., Tensor]
"""Maps the inputs of a batch, shared by all rows, to outputs [R, B, ...] of R stacked models in evaluation mode."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of R stacked models on one split.

    Args:
        metrics: metric name → values [R] in the metric's unit (percent).
        hits: outcome on each example, bool [R, E]: correct, or positive ranked in the top 10.
        confidence: probability of the predicted class [R, E]; None where calibration is undefined.
        places: of each positive in its ranking, 0 to `examples.PLACES`, uint8 [R, E]; None where nothing is ranked.
    """

    metrics: dict[str, Tensor]
    hits: Tensor
    confidence: Tensor | None = None
    places: Tensor | None = None

    @property
    def outcomes(self) -> Tensor:
        """What a ledger keeps of each example [R, E]: `places` where there are any, else `hits`."""
        return self.hits if self.places is None else self.places

    @property
    def ece(self) -> Tensor | None:
        """Expected calibration error [R] as a fraction, see `metrics.ece`."""
        return None if self.confidence is None else ece(self.confidence, self.hits)

    @property
    def calibration(self) -> Calibration | None:
        """The bins of `ece`, [R, bins] each, see `metrics.calibration`."""
        return None if self.confidence is None else calibration(self.confidence, self.hits)


def in_calls(function: Callable[..., Tensor], examples: Sequence[Tensor], per_call: int) -> Tensor:
    """Applies `function` to all examples in parts, so that memory does not grow with their number; ranks share them.

    Args:
        function: maps part of the examples, tensors [B, ...], to values [R, B, ...], each from its example alone.
        examples: tensors of equal length, [E, ...].
        per_call: maximum B.

    Returns:
        [R, E, ...].
    """
    parts = list(zip(*(torch.split(tensor, per_call) for tensor in examples), strict=True))
    return torch.cat(ranks.divided(function, parts), dim=1)


class Batch(NamedTuple):
    """Training examples, in the form that the model and the loss take.

    Args:
        inputs: each [B, ...] for one seed, [S, B, ...] for S seeds.
        targets: [B] or [S, B].
        examples: B.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    examples: int


class Workload(Protocol):
    """One dataset with its model, on a device or streamed to it.

    Every method is a pure function of its arguments and the data; all randomness comes from the generators given.

    Args:
        examples: training examples in one epoch.
        examples_per_call: examples a row in one call of `predict`; bounds the memory of every evaluation.
    """

    examples: int
    examples_per_call: int

    def build_model(self) -> nn.Module:
        """Returns a fresh model on the CPU in fp32, initialized from the global generator, which the caller seeds."""
        ...

    def batches(
        self, generators: Sequence[torch.Generator], size: int, micro_batch: int | None = None, first: int = 0
    ) -> Iterator[Iterator[Batch]]:
        """Yields one epoch's steps in random order, each as its micro-batches: those that begin at `ranks.shares`.

        Args:
            generators: one a seed, on the CPU, so that an epoch is the same on every device.
            size: examples a step; the last step of an epoch may have fewer.
            micro_batch: most examples of a micro-batch; None for one that is the whole step.
            first: steps to leave out, as they are done; the others are the same.
        """
        ...

    def loss_of(self, row: Loss) -> LossFn:
        """Returns the loss of examples: that of a row of the catalogue, except where a user's workload has its own."""
        return loss_of(row)

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns each example's logit margin [B]: score of the target minus the best other, or ±logit (§2.1)."""
        ...

    def probe(self) -> Iterator[Batch]:
        """Yields a fixed sample of at most 4,096 training examples for margins, in parts for one call of `predict`."""
        ...

    def evaluate(self, predict: Predict, split: Split) -> Evaluation:
        """Returns the metrics of R models on `split`, independent of the batch size of the calls to `predict`.

        Raises:
            ValueError: the workload trains on validation data, so `split` must not be "validation".
        """
        ...

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """Returns what needs no training: name of a row of `catalogue.losses.REFERENCES` → metric → value on test."""
        return {}

    @property
    def digest(self) -> str:
        """sha256 of what it was read from; "" where the row of the data set says it."""
        return ""


class Resident(Workload):
    """A workload whose epoch is drawn at once; a dataset says what an epoch is and what an example is.

    The examples are on the device, or the numbers that name them are in memory. Tensors of examples may carry leading
    dimensions: [B] of one seed, [S, B] of S seeds.
    """

    @abstractmethod
    def epoch(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns one epoch's training examples in random order as tensors of equal length [N], on the device.

        They are what `batch` understands: indices for images, (user, item, label) with freshly drawn negatives for NCF.
        """

    @abstractmethod
    def batch(self, *examples: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Returns the model's inputs and the targets for a slice [..., B] of what `epoch` returned."""

    @abstractmethod
    def probe_examples(self) -> tuple[Tensor, ...]:
        """Returns a fixed sample of training examples (at most 4,096), in the form of `epoch`."""

    def batches(
        self, generators: Sequence[torch.Generator], size: int, micro_batch: int | None = None, first: int = 0
    ) -> Iterator[Iterator[Batch]]:
        """See `Workload.batches`."""
        for parts in self.drawn_steps(generators, size, micro_batch, first):
            yield self.in_order(parts)

    def drawn_steps(
        self, generators: Sequence[torch.Generator], size: int, micro_batch: int | None, first: int
    ) -> Iterator[list[Part]]:
        """Yields the examples of each of an epoch's steps as this rank's micro-batches, see `Workload.batches`."""
        drawn = [self.epoch(generator) for generator in generators]
        examples = drawn[0] if len(drawn) == 1 else tuple(map(torch.stack, zip(*drawn, strict=True)))
        for step in cut(examples, size, range(first * size, self.examples, size)):
            if micro_batch:
                yield list(cut(step, micro_batch, ranks.shares(step[0].shape[-1], micro_batch)))
            else:
                yield [step]

    def probe(self) -> Iterator[Batch]:
        """See `Workload.probe`."""
        return self.in_order(cut(self.probe_examples(), self.examples_per_call))

    def in_order(self, parts: Iterable[Part]) -> Iterator[Batch]:
        """Yields the batch of each part of an epoch's examples."""
        for part in parts:
            inputs, targets = self.batch(*part)
            yield Batch(inputs, targets, part[0].shape[-1])


def trained_on(split: Split, task: Task) -> ValueError:
    """Returns the error of a split that cannot be evaluated, as its examples are trained on."""
    return ValueError(f"split '{split}' is part of the training data when train_on is '{task.train_on}'")


def cut(examples: Part, size: int, starts: Iterable[int] | None = None) -> Iterator[Part]:
    """Yields parts of tensors [..., N] of at most `size` examples each, all of them or those that begin at `starts`."""
    count = examples[0].shape[-1]
    for start in range(0, count, size) if starts is None else starts:
        yield tuple([tensor.narrow(-1, start, min(size, count - start)) for tensor in examples])
