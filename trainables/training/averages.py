"""BatchNorm's running statistics over the micro-batches of a step, as a sum that several processes can add up.

After micro-batches with statistics s_j, j from 0 to n - 1, an average b of momentum m is
(1 - m)^n·b + sum_j (1 - m)^(n - 1 - j)·m·s_j. Source: the update b <- (1 - m)·b + m·s of torch.nn.BatchNorm, n times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables import ranks


class _Average(NamedTuple):
    """A running statistic: the name of its buffer, that of the counter of its updates, and its momentum m."""

    name: str
    counter: str
    momentum: float

    def kept(self, updates: Tensor) -> Tensor:
        """Returns the weight (1 - m)^n of the value before n updates, [R] to [R, 1]."""
        return torch.pow(1 - self.momentum, updates.float()).unsqueeze(1)


class Averages:
    """The running statistics of a model, of which R are stacked; other buffers change as the model changes them."""

    def __init__(self, model: nn.Module) -> None:
        self._averages = [
            _Average(f"{prefix}{kind}", f"{prefix}num_batches_tracked", module.momentum)
            for prefix, module in ((f"{name}." if name else "", module) for name, module in model.named_modules())
            if isinstance(module, _BatchNorm) and module.track_running_stats and module.momentum is not None
            for kind in ("running_mean", "running_var")
        ]
        self._own = {name for average in self._averages for name in (average.name, average.counter)}
        self._parts: dict[str, Tensor] = {}

    def of_part(self, buffers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the buffers [R, ...] that one of several micro-batches changes in place: zeros where terms add up.

        These stay where they are from call to call, and each overwrites those of the one before.
        """
        return {
            name: self._zeros(name, buffer) if name in self._own else buffer.clone() if ranks.count() > 1 else buffer
            for name, buffer in buffers.items()
        }

    def _zeros(self, name: str, buffer: Tensor) -> Tensor:
        if name not in self._parts or self._parts[name].shape != buffer.shape:
            self._parts[name] = torch.empty_like(buffer)
        return self._parts[name].zero_()

    def terms(self, changed: Mapping[str, Tensor], buffers: Mapping[str, Tensor], later: int) -> list[Tensor]:
        """Returns a micro-batch's term of each average [R, ...], and how often it updated each [R].

        Args:
            changed: those of `of_part` after the micro-batch.
            buffers: those before the step.
            later: micro-batches of the step that come after it.

        Raises:
            ValueError: several ranks cannot combine what the model has done to a buffer.
        """
        for name in sorted(buffers.keys() - self._own) if ranks.count() > 1 else ():
            if not torch.equal(changed[name], buffers[name]):
                raise ValueError(
                    f"training changes the buffer '{name}', and of a model's buffers several GPUs can only combine "
                    "running statistics of BatchNorm that have a momentum; train it with --gpus-per-trial 1"
                )
        updates = [changed[average.counter] for average in self._averages]
        terms = [
            changed[average.name] * average.kept(times * later)
            for average, times in zip(self._averages, updates, strict=True)
        ]
        return terms + [times.float() for times in updates]

    def nothing(self, buffers: Mapping[str, Tensor], rows: Tensor) -> list[Tensor]:
        """Returns the terms of no micro-batch; `rows` are zeros [R]."""
        return [torch.zeros_like(buffers[average.name]) for average in self._averages] + [rows] * len(self._averages)

    def update(self, buffers: dict[str, Tensor], total: Sequence[Tensor]) -> None:
        """Puts the averages after a step into the buffers, from the sums of all its terms."""
        terms, updates = total[: len(self._averages)], total[len(self._averages) :]
        before = {average.counter: buffers[average.counter] for average in self._averages}
        for average, term, times in zip(self._averages, terms, updates, strict=True):
            buffers[average.name] = buffers[average.name] * average.kept(times) + term
            buffers[average.counter] = before[average.counter] + times.long()
