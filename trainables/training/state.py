"""What training changes of a pack: parameters, buffers and optimizer state, stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class PackState:
    """Everything that training changes, each with the leading axis of rows; `select` and checkpoints see only this.

    Args:
        weights: all parameters, [R, P], fp32.
        slots: the update rule's buffers, each [R, P].
        buffers: the model's buffers (BN statistics), each [R, ...].
        step: steps since the moments were last reset, [R, 1], int64.
        constrained: whether LAWN holds the row's norms, [R, 1], bool.
        radii: the norms c read at the switch, [R, L]; 0 where a layer is not constrained.
    """

    weights: Tensor
    slots: dict[str, Tensor]
    buffers: dict[str, Tensor]
    step: Tensor
    constrained: Tensor
    radii: Tensor

    def select(self, source: Sequence[int]) -> PackState:
        """Returns the state whose row i is a copy of row `source[i]`: forks, drops and reorders rows."""
        index = torch.tensor(source, device=self.weights.device, dtype=torch.long)
        return PackState(
            weights=self.weights[index],
            slots={name: slot[index] for name, slot in self.slots.items()},
            buffers={name: buffer[index] for name, buffer in self.buffers.items()},
            step=self.step[index],
            constrained=self.constrained[index],
            radii=self.radii[index],
        )
