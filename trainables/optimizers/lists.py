"""Arithmetic on lists of tensors: one call of torch for all of them, in their own shapes (`torch._foreach_*`).

On an accelerator such a call is a few launches whatever the number of tensors. Coefficients are floats, or tensors that
broadcast against each tensor, such as [R, 1] for R stacked models; they are rounded to the tensor's precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = list[Tensor]
Number = float | Tensor
Coefficient = Number | Sequence[float]
"""One number for all tensors, a tensor that broadcasts against each, or a number for each tensor."""

LIST_SUMS = False
"""True takes the sums of accelerators on a CPU too; the tests compare the two."""


def spread(a: Coefficient, xs: Tensors) -> float | list[float] | Tensors:
    """Returns a coefficient in the form that `torch._foreach_*` takes for the tensors xs."""
    if isinstance(a, Tensor):
        return [a.to(x.dtype) for x in xs]
    return float(a) if isinstance(a, int | float) else list(a)


def lerp_(xs: Tensors, ys: Tensors, a: Coefficient) -> None:
    """x ← (1 − a)·x + a·y, in place."""
    torch._foreach_lerp_(xs, ys, spread(a, xs))


def lerp_squares_(xs: Tensors, ys: Tensors, a: Coefficient) -> None:
    """x ← (1 − a)·x + a·y², in place."""
    if isinstance(a, float):
        torch._foreach_mul_(xs, 1 - a)
        torch._foreach_addcmul_(xs, ys, ys, value=a)
    else:
        lerp_(xs, list(torch._foreach_mul(ys, ys)), a)


def move_(xs: Tensors, ys: Tensors, a: Number) -> None:
    """x ← x − a·y, in place; y is scratch afterwards."""
    if isinstance(a, Tensor):
        torch._foreach_mul_(ys, spread(a, ys))
        torch._foreach_sub_(xs, ys)
    else:
        torch._foreach_add_(xs, ys, alpha=-a)


@dataclass(frozen=True)
class Sums:
    """How the sum over a tensor is taken: over all of it, or row by row of stacked models; over every shard of it.

    Args:
        rows: True sums the last dimension alone and keeps it, so that a sum is [R, 1] for a tensor [R, n].
        reduce: adds up the sums of the shards that other processes hold, in place; None where there are none.
    """

    rows: bool = False
    reduce: Callable[[Tensor], None] | None = None

    def dots(self, xs: Tensors, ys: Tensors) -> Tensor:
        """Returns xᵀy of each pair in at least fp32, stacked along a new first dimension: [L], or [L, R, 1]."""
        xs, ys = [wide(x) for x in xs], [wide(y) for y in ys]
        if self.rows:
            sums = torch.stack([(x * y).sum(dim=-1, keepdim=True) for x, y in zip(xs, ys, strict=True)])
        elif self._listed(xs):
            sums = _signed_sums(list(torch._foreach_mul(xs, ys)))
        else:
            # A CPU launches nothing; its sums are pairwise, where its list-based norms lose four digits in fp32.
            sums = torch.stack([(x * y).sum() for x, y in zip(xs, ys, strict=True)])
        return self._whole(sums)

    def squares(self, xs: Tensors) -> Tensor:
        """Returns |x|² of each tensor, like `dots`."""
        return self.norms(xs).square() if self._listed(xs) and self.reduce is None else self._squares(xs)

    def norms(self, xs: Tensors) -> Tensor:
        """Returns |x| of each tensor, like `dots`."""
        if self._listed(xs) and self.reduce is None:
            return torch.stack(torch._foreach_norm([wide(x) for x in xs]))
        return self._squares(xs).sqrt()

    def _squares(self, xs: Tensors) -> Tensor:
        if self._listed(xs):
            return self._whole(torch.stack(torch._foreach_norm([wide(x) for x in xs])).square())
        return self.dots(xs, xs)

    def _listed(self, xs: Tensors) -> bool:
        return not self.rows and (LIST_SUMS or xs[0].device.type != "cpu")

    def _whole(self, sums: Tensor) -> Tensor:
        if self.reduce is not None:
            self.reduce(sums)
        return sums


def _signed_sums(xs: Tensors) -> Tensor:
    """Sums of entries from sums of magnitudes, as only these exist for lists: Σx = 2·Σmax(x, 0) − Σ|x|."""
    magnitudes = torch.stack(torch._foreach_norm([*torch._foreach_clamp_min(xs, 0), *xs], 1))
    positive, total = magnitudes.chunk(2)
    return torch.lerp(total, positive, 2)


def wide(x: Tensor) -> Tensor:
    """Returns a tensor in at least fp32, in which norms are taken."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
