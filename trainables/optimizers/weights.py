"""The tensors that a control acts on in a step, and what controls are made of: projections, norms, trust ratios.

P d = d − (wᵀd / |w|²)·w removes the part of d along the weights (eq. 3), tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainables.optimizers.lists import Number, Sums, Tensors, constants, spread


def unadapted(w: Weights, r: Tensors) -> None:
    """Leaves the direction unchanged, for rules without a trust ratio."""


@dataclass
class Weights:
    """The tensors that one control acts on in a step.

    Args:
        tensors: the weights, each in its own shape, or [R, n] for R stacked models; changed in place by `update`.
        radius: c of each tensor: floats, or tensors [R, 1].
        multiplier: the control's own number for each tensor, changed in place; empty if it has none.
        sums: how sums over a tensor are taken.
        held: the rows under the control, bool [R, 1] per tensor; None for all. Other rows keep their bits.
        adapt: changes a direction in place before the step: LAMB's trust ratio.
        matrix: whether each tensor has two or more dimensions; empty if all have.
        squares: |w|² of each tensor before the step, computed on first use.
        memory: tensors like the weights that a projected gradient may be written into; empty for new ones.
    """

    tensors: Tensors
    radius: Sequence[Number] = ()
    multiplier: Tensors = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)
    held: Tensors | None = None
    adapt: Callable[[Weights, Tensors], None] = unadapted
    matrix: Sequence[bool] = ()
    squares: Tensors = field(default_factory=list)
    memory: Tensors = field(default_factory=list)

    @property
    def matrices(self) -> list[int]:
        """Positions of the tensors with two or more dimensions."""
        return [i for i in range(len(self.tensors)) if not self.matrix or self.matrix[i]]


def tangent(w: Weights, d: Tensors) -> Tensors:
    """Returns P d = d − (wᵀd / |w|²)·w of each tensor (eq. 3)."""
    if w.held is not None:
        return _tangent_of(w, d, w.held)
    if not w.memory:
        return list(torch._foreach_addcmul(d, w.tensors, along(w, d), value=-1))
    parts = zip(d, w.tensors, along(w, d), w.memory, strict=True)
    return [torch.addcmul(x, y, a, value=-1, out=out) for x, y, a, out in parts]


def tangent_(w: Weights, d: Tensors, where: Tensor | None = None) -> None:
    """As `tangent`, in place; only where `where` is True, [L] or [L, R, 1]."""
    if w.held is None and where is None:
        torch._foreach_addcmul_(d, w.tensors, along(w, d), value=-1)
        return
    where = of_held(w, where, False) if where is not None else None
    torch._foreach_copy_(d, _tangent_of(w, d, list(where.unbind()) if where is not None else w.held or []))


def _tangent_of(w: Weights, d: Tensors, where: Tensors) -> Tensors:
    """As `tangent`, where `where` is True; the rest keeps its bits."""
    return [
        torch.where(chosen, (x - a * y).to(x.dtype), x)
        for chosen, x, y, a in zip(where, d, w.tensors, along(w, d), strict=True)
    ]


def rescale_(w: Weights) -> None:
    """Brings each tensor back to its norm, in place: c·w/|w| (eq. 2)."""
    norms = w.sums.norms(w.tensors)
    factors = list(torch._foreach_reciprocal(norms))
    torch._foreach_mul_(factors, _radius(w, factors))
    # The difference is 0, or NaN for a norm that overflowed: c / inf would silently turn a diverged tensor into zeros.
    torch._foreach_add_(factors, torch._foreach_sub(norms, norms))
    scale_(w, factors)


def combine_(w: Weights, moved: Tensors, share: Tensors) -> bool:
    """moved ← c·n(moved + (1 − s)·w) in one pass on a CPU, from its squared norm |moved|² + (1 − s²)·|w|².

    Args:
        w: the weights before a move, with `squares` and no rows of their own.
        moved: the weights after it.
        share: s = wᵀmoved/|w|² of each.

    Returns:
        False, with nothing changed, where it takes more passes: on accelerators, for tensors that are not contiguous,
        and where the move is so long that the sum of squares would lose digits.
    """
    if not all(x.device.type == "cpu" and x.is_contiguous() for x in (*w.tensors, *moved)):
        return False
    squares, s, before = (torch.stack(list(xs)).double() for xs in (w.sums.squares(moved), share, w.squares))
    after = squares + (1 - s.square()) * before
    if not bool((4 * after > squares).all()):  # nor where one is not finite
        return False
    factors = torch.tensor(w.radius, dtype=torch.float64) / after.sqrt()
    numbers = zip(factors.tolist(), (factors * (1 - s)).tolist(), strict=True)
    for x, y, (own, rest) in zip(moved, w.tensors, numbers, strict=True):
        x.view(1, x.numel()).addr_(x.new_ones(1), y.view(-1), beta=own, alpha=rest)
    return True


def trust_(w: Weights, r: Tensors) -> None:
    """LAMB: gives each direction the norm of its weights in place, (|w|/|r|)·r; the ratio is 1 where either is zero.

    phi is the identity, without a clip: our choice among LAMB's variants.
    """
    torch._foreach_mul_(r, each(_trust_ratio(w, r), r))


def clipped_trust_(w: Weights, r: Tensors) -> None:
    """LAMB+: as `trust_` with a ratio of at most 1, for tensors with two or more dimensions only (our reading)."""
    ratio = _trust_ratio(w, r).clamp_max(1)
    torch._foreach_mul_(r, each(torch.where(matrix_mask(w, ratio), ratio, 1.0), r))


def _trust_ratio(w: Weights, r: Tensors) -> Tensor:
    norms, targets = torch.stack(w.sums.norms(r)), torch.stack(w.sums.norms(w.tensors))
    return torch.where((norms > 0) & (targets > 0), targets / _positive(norms), 1.0)


def along(w: Weights, d: Tensors) -> Tensors:
    """wᵀd / |w|², 0 for weights that are all 0: an additive epsilon would leave a little of d along w."""
    if not w.squares:  # both projections of a step use the weights before it
        w.squares = w.sums.squares(w.tensors)
        torch._foreach_clamp_min_(w.squares, torch.finfo(w.squares[0].dtype).tiny)
    return list(torch._foreach_div(w.sums.dots(w.tensors, d), w.squares))


def give_length_(w: Weights, r: Tensors) -> None:
    """Gives each direction the norm c of its tensor, in place; one of norm 0 stays 0."""
    norms = torch.stack(w.sums.norms(r))
    factor = torch.where(norms > 0, stacked(w.radius, norms) / _positive(norms), 0.0)  # no direction, no move
    torch._foreach_mul_(r, each(of_held(w, factor, 1.0), r))


def scale_(w: Weights, factors: Tensors) -> None:
    """Multiplies the weights by a factor for each tensor, in place; rows that are not held keep their bits."""
    if w.held is not None:  # times one keeps the bits
        factors = [torch.where(held, x, 1.0) for held, x in zip(w.held, factors, strict=True)]
    torch._foreach_mul_(w.tensors, factors)


def of_held(w: Weights, values: Tensor, rest: float | bool) -> Tensor:
    """Returns values, [L] or [L, R, 1], and `rest` for rows that are not under the control."""
    return values if w.held is None else torch.where(torch.stack(w.held), values, rest)


def record(w: Weights, values: Tensor) -> None:
    """Stores the control's number of each tensor, for the rows under the control."""
    for kept, value in zip(w.multiplier, of_held(w, values, False), strict=True):
        kept.copy_(value)


def add_multiple_(xs: Tensors, ys: Tensors, a: Number | None) -> None:
    """Adds a·y to each x in place; nothing for None."""
    if not xs:
        return
    if isinstance(a, Tensor):
        torch._foreach_add_(xs, torch._foreach_mul(ys, spread(a, ys)))
    elif a:
        torch._foreach_add_(xs, ys, alpha=a)


def each(values: Tensor, xs: Tensors) -> Tensors:
    """One coefficient per tensor, in its precision; half precision is scaled in fp32 by torch itself."""
    return list((values if values.dtype == xs[0].dtype else values.to(xs[0].dtype)).unbind())


def _radius(w: Weights, like: Tensors) -> list[float] | Tensors:
    """c of each tensor in the form that torch accepts with a list of numbers."""
    if isinstance(w.radius[0], Tensor):
        return [torch.as_tensor(c, dtype=x.dtype, device=x.device) for c, x in zip(w.radius, like, strict=True)]
    return [float(c) for c in w.radius]


def stacked(values: Sequence[Number], like: Tensor) -> Tensor:
    """Returns numbers or tensors as one tensor of the kind of `like`."""
    if isinstance(values[0], Tensor):
        return torch.stack([torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in values])
    return torch.tensor(values, dtype=like.dtype, device=like.device)


def number_like(value: Number, x: Tensor) -> Number:
    """A number in the precision and on the device of x."""
    return value.to(x) if isinstance(value, Tensor) else value


def matrix_mask(w: Weights, like: Tensor) -> Tensor:
    """Whether each tensor has two or more dimensions, bool [L, ...] for values like `like`."""
    chosen = constants(tuple(map(bool, w.matrix)) or (True,) * len(w.tensors), torch.bool, like.device)
    return chosen.view(-1, *([1] * (like.dim() - 1)))


def counts_of(w: Weights, like: Tensor) -> Tensor:
    """The number of weights of each tensor, over all its shards."""
    sizes = tuple(x.shape[-1] if w.sums.rows else x.numel() for x in w.tensors)
    counts = constants(sizes, like.dtype, like.device)
    if w.sums.reduce is not None:
        counts = counts.clone()
        w.sums.reduce(counts)
    return counts.view(-1, *([1] * (like.dim() - 1)))


def _positive(x: Tensor) -> Tensor:
    """Bounds x from below: an additive epsilon would shrink small tensors a little at every step."""
    return x.clamp_min(torch.finfo(x.dtype).tiny)
