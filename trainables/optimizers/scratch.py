"""Memory for the copies that a step makes."""

from __future__ import annotations

from torch import Tensor, empty_like


class Scratch:
    """Tensors by parameter that hold copies during a step, and on a CPU stay allocated until the next.

    New memory has to be mapped page by page there, which takes as long as the arithmetic of a step. The allocators of
    other devices keep what was freed.
    """

    def __init__(self) -> None:
        self._kept: dict[Tensor, Tensor] = {}

    def like(self, p: Tensor, x: Tensor) -> Tensor:
        """Returns a tensor with the shape, strides, precision and device of x, of arbitrary content."""
        if x.device.type != "cpu":
            return empty_like(x)
        kept = self._kept.get(p)
        if kept is None or (kept.shape, kept.stride(), kept.dtype) != (x.shape, x.stride(), x.dtype):
            self._kept[p] = kept = empty_like(x)
        return kept
