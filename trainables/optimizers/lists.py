"""Arithmetic on lists of tensors of any shapes, with one torch call per list (`torch._foreach_*`).

On an accelerator such a call is a few launches for any number of tensors. Coefficients are floats, or tensors that
broadcast against each tensor, such as [R, 1] for R stacked models; they are rounded to the tensor's precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

Tensors = list[Tensor]
Number = float | Tensor
Coefficient = Number | Sequence[float]
"""One number for all tensors, a tensor that broadcasts against each, or a number for each tensor."""

LIST_SUMS = False
"""True uses the sums for accelerators on a CPU too; the tests compare both."""


def spread(a: Coefficient, xs: Tensors) -> float | list[float] | Tensors:
    """Returns a coefficient in the form that `torch._foreach_*` accepts for the tensors xs."""
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


def affine_(xs: Tensors, a: Coefficient, b: Coefficient) -> None:
    """x ← a·x + b, in place."""
    if isinstance(a, float) and isinstance(b, float) and not _launches(xs):
        for x in xs:  # one pass over memory instead of two
            torch.add(x.new_tensor(b), x, alpha=a, out=x)
    else:
        torch._foreach_mul_(xs, spread(a, xs))
        torch._foreach_add_(xs, spread(b, xs))


def move_(xs: Tensors, ys: Tensors, a: Number) -> None:
    """x ← x − a·y, in place; y is overwritten."""
    if isinstance(a, Tensor):
        torch._foreach_mul_(ys, spread(a, ys))
        torch._foreach_sub_(xs, ys)
    else:
        torch._foreach_add_(xs, ys, alpha=-a)


@dataclass(frozen=True)
class Sums:
    """How sums over a tensor are taken: over all of it or row by row of stacked models, and over its shards.

    Args:
        rows: True sums the last dimension only and keeps it: a sum is [R, 1] for a tensor [R, n].
        reduce: adds the sums of shards in other processes, in place; None without shards.
    """

    rows: bool = False
    reduce: Callable[[Tensor], None] | None = None

    def dots(self, xs: Tensors, ys: Tensors) -> Tensors:
        """Returns xᵀy of each pair in at least fp32: a scalar tensor, or [R, 1]."""
        xs, ys = [wide(x) for x in xs], [wide(y) for y in ys]
        if self.rows:
            return [(x * y).sum(dim=-1, keepdim=True) for x, y in zip(xs, ys, strict=True)]
        if _launches(xs):
            return self._whole(_signed_sums(list(torch._foreach_mul(xs, ys))))
        # A CPU has no launches, and its list-based norms lose four digits in fp32.
        return self._whole([_dot(x, y) for x, y in zip(xs, ys, strict=True)])

    def squares(self, xs: Tensors) -> Tensors:
        """Returns |x|² of each tensor, like `dots`."""
        if self.rows:
            return self.dots(xs, xs)
        if not _launches(xs):
            return self._whole([_square(wide(x)) for x in xs])
        norms = torch._foreach_norm([wide(x) for x in xs])
        return self._whole(list(torch._foreach_mul(norms, norms)))

    def norms(self, xs: Tensors) -> Tensors:
        """Returns |x| of each tensor, like `dots`."""
        if not self.rows and self.reduce is None and _launches(xs):
            return list(torch._foreach_norm([wide(x) for x in xs]))
        return list(torch._foreach_sqrt(self.squares(xs)))

    def _whole(self, sums: Tensors) -> Tensors:
        if self.reduce is None:
            return sums
        stacked = torch.stack(sums)
        self.reduce(stacked)
        return list(stacked.unbind())


BLOCK = 4096
"""Entries per norm on a CPU: a list-based norm of millions of entries loses digits, one of few does not."""


PART = 131_072
"""Entries per product on a CPU: `torch.dot` of millions of entries loses digits."""


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """xᵀy on a CPU; in parts for contiguous tensors, without an intermediate tensor of products."""
    if x.dtype != y.dtype or not (x.is_contiguous() and y.is_contiguous()):
        return (x * y).sum()
    sizes = _sizes(x.numel())
    parts = list(map(torch.dot, *(z.view(-1).split_with_sizes(sizes) for z in (x, y))))
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum()


def _square(x: Tensor) -> Tensor:
    """|x|² on a CPU; in blocks for a contiguous tensor, without an intermediate tensor of squares."""
    whole = x.numel() // BLOCK * BLOCK if x.is_contiguous() else 0
    if not whole:
        return (x * x).sum()
    flat = x.view(-1)
    norms = torch.linalg.vector_norm(flat[:whole].view(-1, BLOCK), dim=1)
    head, tail = torch.dot(norms, norms), flat[whole:]
    return head + torch.dot(tail, tail) if len(tail) else head


@lru_cache(maxsize=256)
def _sizes(count: int) -> list[int]:
    """Returns the sizes of the parts of a tensor: `PART`, but for the last."""
    return [PART] * (count // PART) + ([count % PART] if count % PART or not count else [])


def _launches(xs: Tensors) -> bool:
    return LIST_SUMS or xs[0].device.type != "cpu"


def _signed_sums(xs: Tensors) -> Tensors:
    """Sums of entries from sums of magnitudes, which exist for lists: Σx = 2·Σmax(x, 0) − Σ|x|."""
    magnitudes = list(torch._foreach_norm([*torch._foreach_clamp_min(xs, 0), *xs], 1))
    positive, total = magnitudes[: len(xs)], magnitudes[len(xs) :]
    torch._foreach_lerp_(total, positive, 2.0)
    return total


def wide(x: Tensor) -> Tensor:
    """Returns a tensor in at least fp32, in which norms are taken."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


@lru_cache(maxsize=64)
def constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns numbers on a device, copied there once: a copy at every step would wait for the device."""
    return torch.tensor(values, dtype=dtype, device=device)
