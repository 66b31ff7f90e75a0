"""LAWN around another optimizer's step on a GPU, by the kernels of SGD without momentum.

Their step is w ← c · n(w − η·P g), with P g left in the slot. So its first part alone projects a gradient (line 4), and
all of it with η = 1 and another optimizer's move in place of g makes that move LAWN's (lines 9-11).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.optimizers import gpu
from trainables.optimizers.lists import Number, Tensors
from trainables.optimizers.repeated import Choices, addresses_of


class Tangents:
    """Projects gradients, and the moves that follow from them."""

    def __init__(self) -> None:
        self._projections, self._moves = Choices("sgd"), Choices("sgd")

    def take(self, *lists: Sequence[Tensor]) -> bool:
        """Whether the kernels take these tensors now; the first ones of all lists are alike, and so on."""
        first = lists[0]
        alike = all([x.numel() for x in xs] == [x.numel() for x in first] for xs in lists[1:])
        return alike and not gpu.capturing(first[0].device) and gpu.usable(*(x for xs in lists for x in xs))

    def project(self, w: Tensors, g: Tensors, radii: Sequence[Number]) -> Tensors:
        """Returns P g of each gradient as new tensors."""
        projected = [torch.empty_like(x) for x in g]
        torch._foreach_zero_(projected)
        self._step(self._projections, w, projected, g, radii, moves=False)
        return projected

    def replace(self, w: Tensors, moved: Tensors, radii: Sequence[Number]) -> None:
        """Makes the move from `w` to `moved` LAWN's, in place in `moved`; w is overwritten."""
        self._step(self._moves, w, moved, torch._foreach_sub(w, moved), radii)
        torch._foreach_copy_(moved, w)

    def _step(
        self,
        choices: Choices,
        w: Sequence[Tensor],
        slot: Sequence[Tensor],
        g: Sequence[Tensor],
        radii: Sequence[Number],
        moves: bool = True,
    ) -> None:
        own, slots, gradients = map(addresses_of, (w, slot, g))
        held = tuple(map(float, radii))
        choices.of(w)((own, slots, slots, gradients), 1.0, None, {"momentum": 0.0}, held, moves)
