"""A workload of a user's: data, model, loss and metric in one class, trained in packs like any other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables import metrics
from trainables.catalogue.rows import Loss
from trainables.losses import LossFn
from trainables.tasks import Split, Task
from trainables.training.seeding import make_deterministic
from trainables.workloads.base import Evaluation, Predict, Resident, in_calls, trained_on
from trainables.workloads.images import EXAMPLES_PER_CALL, evenly_spaced
from trainables.workloads.own_errors import WorkloadError, users

Examples = Sequence[Tensor]
"""Inputs and, last, targets, each [N, ...]."""

SPLITS = ("training", "validation", "test")
FORM = "data() must return three tuples (training, validation, test), each with tensors of inputs and, last, of targets"


class OwnWorkload(Resident):
    """Examples in memory; a subclass defines `data`, `model`, `loss` and `metric`.

    None of the four may draw random numbers in a way that depends on the trial, except that `model` draws its initial
    weights from torch's global generator, and its layers may draw (dropout) where trials are trained one at a time.

    Args:
        task: what is trained. Under `train_on = "train+validation"` training and validation examples are joined.
        data_dir: folder of `--data-dir`.
        device: where the data will be.

    Raises:
        WorkloadError: `data` raises, or returns something else.
    """

    def __init__(self, task: Task, data_dir: Path, device: torch.device) -> None:
        self.examples_per_call = EXAMPLES_PER_CALL
        make_deterministic(0)  # so that data which is made with the global generators is the same for every trial
        with users("data()"):
            found = self.data(data_dir)
        train, validation, test = _checked(found)
        row = task.dataset_row
        if len(train[-1]) != row.train_examples:
            declared = f"examples = {row.train_examples} in the space"
            raise WorkloadError(
                f"data() returns {len(train[-1])} training examples, not {declared}: correct one of the two"
            )
        search = task.train_on == "train"
        joined = train if search else [torch.cat(parts) for parts in zip(train, validation, strict=True)]
        self._train = [part.to(device) for part in joined]
        self._held_out: dict[Split, Examples] = {"test": [part.to(device) for part in test]}
        if search:
            self._held_out["validation"] = [part.to(device) for part in validation]
        self._task, self._metric, self._device = task, row.metrics[0], device
        self.examples = len(self._train[-1])

    @abstractmethod
    def data(self, data_dir: Path) -> tuple[Examples, Examples, Examples]:
        """Returns the examples to train on, to choose winners on, and to report: inputs and, last, targets."""

    @abstractmethod
    def model(self) -> nn.Module:
        """Returns a fresh model in fp32, which takes a batch of each input."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns the loss of each example [B]; a method's parameters of the loss come by keyword, as `smoothing`."""

    @abstractmethod
    def metric(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns the metric: of each example [B], whose mean counts, or of all together [].

        Of True and False it is their percentage, and trials are compared example by example.
        """

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `Workload.margin`; of class indices [B] and logits [B, C], else NaN unless a subclass defines it."""
        classes = outputs.dim() == 2 and targets.dim() == 1 and not targets.is_floating_point()
        return metrics.multiclass_margin(outputs, targets) if classes else outputs.new_full((len(targets),), torch.nan)

    def loss_of(self, row: Loss) -> LossFn:
        """See `Workload.loss_of`."""
        return self.loss

    def build_model(self) -> nn.Module:
        """See `Workload.build_model`."""
        return self.model()

    def epoch(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns all training examples' indices [N] in random order."""
        return (torch.randperm(self.examples, generator=generator).to(self._device),)

    def batch(self, *examples: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """See `Resident.batch`."""
        *inputs, targets = (part[examples[0]] for part in self._train)
        return tuple(inputs), targets

    def probe_examples(self) -> tuple[Tensor, ...]:
        """Returns the indices of at most 4,096 training examples, evenly spaced."""
        return (evenly_spaced(self.examples).to(self._device),)

    def extreme_examples(self, count: int) -> tuple[Tensor, ...]:
        """Returns the indices of `count` training examples and of those with the lowest and the highest target."""
        targets = self._train[-1].reshape(self.examples, -1).double()  # argmin takes no True and False
        ends = (targets.amin(1).argmin(), targets.amax(1).argmax())
        return (torch.cat([torch.arange(min(count, self.examples), device=self._device), torch.stack(ends)]),)

    def evaluate(self, predict: Predict, split: Split) -> Evaluation:
        """Returns the metric, and which examples are right where it is True or False; outputs with a NaN are wrong."""
        if split not in self._held_out:
            raise trained_on(split, self._task)
        *inputs, targets = self._held_out[split]
        outputs = in_calls(predict, inputs, self.examples_per_call)
        values = torch.stack([self.metric(row, targets) for row in outputs])
        if values.dtype != torch.bool:
            return Evaluation(
                {self._metric: values.double().reshape(len(values), -1).mean(dim=1)},
                outputs.new_zeros((len(outputs), 0), dtype=torch.bool),
            )
        hits = values & ~outputs.isnan().reshape(*outputs.shape[:2], -1).any(dim=-1)
        return Evaluation({self._metric: metrics.percentage(hits)}, hits)


def _checked(found: object) -> Sequence[Examples]:
    """Returns what `data` returned, if it has the form that it should have."""
    if not isinstance(found, tuple | list) or len(found) != len(SPLITS):
        raise WorkloadError(f"{FORM}; it returned {_shown(found)}")
    for split, part in zip(SPLITS, found, strict=True):
        tensors = isinstance(part, tuple | list) and all(isinstance(one, Tensor) and one.dim() for one in part)
        if not tensors or len(part) < 2:
            raise WorkloadError(f"{FORM}; the {split} part is {_shown(part)}")
        if len({len(one) for one in part}) > 1:
            lengths = ", ".join(str(len(one)) for one in part)
            raise WorkloadError(f"data() returns {split} tensors of different lengths, {lengths}: one entry an example")
        if not len(part[-1]):
            raise WorkloadError(f"data() returns no {split} examples: hold some out")
        if any(one.is_floating_point() and not one.isfinite().all() for one in part):
            raise WorkloadError(f"data() returns {split} tensors with NaN or infinity: remove these examples")
        forms = [[(one.shape[1:], one.dtype) for one in some] for some in (found[0], part)]
        if forms[0] != forms[1]:
            raise WorkloadError(
                f"data() returns {split} tensors whose shapes or types differ from the training tensors'"
            )
    return found


def _shown(value: object) -> str:
    if isinstance(value, tuple | list) and len(value) <= len(SPLITS):
        return f"({', '.join(map(_shown, value))})"
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"of type {type(value).__name__}"
