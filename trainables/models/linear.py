"""Linear layers of few outputs, which a CPU computes faster with the examples last.

torch multiplies [B, I] by [I, O]. With eight outputs, that leaves most of a CPU's vector unit empty, forward and in the
gradient of the weights, and takes up to four times as long as [O, I] by [I, B], which fills it with examples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainables.models.lookup import sign, stacked

FEW_OUTPUTS = 16
"""Outputs up to which this is faster; with 32 and more it is slower."""


def examples_last(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Returns W x + b of every example, [O, B], of inputs [B, I], weights [O, I] and biases [O]."""
    if torch.is_autocast_enabled(x.device.type):  # which does not reach into the way back of our own function
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    product: Tensor = _ExamplesLast.apply(x, weight)
    return product.add_(bias.unsqueeze(-1))


class _ExamplesLast(torch.autograd.Function):
    """W x^T, [O, B]; the gradient of x is [B, I] in memory too, as the operations before it are."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return weight @ x.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return gradient.mT @ weight, gradient @ x

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int | None], x: Tensor, weight: Tensor) -> tuple[Tensor, int]:
        inputs = (stacked(tensor, dim, info.batch_size) for tensor, dim in zip((x, weight), in_dims, strict=True))
        return _ExamplesLast.apply(*inputs), 0


sign(_ExamplesLast)
