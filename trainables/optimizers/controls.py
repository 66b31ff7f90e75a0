"""What a method does to a weight besides its update rule: one hook before the moments and one after them.

    g ← project(w, g)        r ← direction of the rule        update(w, r, lr)

Weight decay, L2, LAWN, bounded weight norm, Hyperball, CPR and AdamP are implemented by this hook, for stacked models,
the torch optimizers and `Lawn(base)` alike. P d = d − (wᵀd / |w|²)·w removes the part of d along the weights (eq. 3),
tensor by tensor; c is the norm that a tensor had when the control began.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import ClassVar

import torch
from torch import Tensor

from trainables.catalogue.rows import Control as ControlRow
from trainables.optimizers.lists import Number, Sums, Tensors, constants, move_, spread


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


class Control(ABC):
    """The hook; numbers per tensor are kept in `Weights`, not in the control."""

    held: ClassVar[bool] = False
    """Whether it reads the norm of the tensors it acts on, as LAWN does at the switch."""
    multiplies: ClassVar[bool] = False
    """Whether it has a multiplier for each tensor, initially 0."""
    bends_by_norm: ClassVar[bool] = False
    """Whether "inflection" is that of the size of the tensors it will hold, not of the margins."""
    resets: ClassVar[bool] = True
    """Whether moments and step count start afresh when it begins to hold tensors."""

    def project(self, w: Weights, g: Tensors) -> Tensors:
        """Returns the gradient that the rule uses, as new tensors or g itself; changes nothing."""
        return g

    @abstractmethod
    def update(self, w: Weights, r: Tensors, lr: Number) -> None:
        """Moves the weights along the rule's direction r in place; r is overwritten."""

    def replace(self, w: Weights, moved: Tensors, lr: Number) -> None:
        """Makes another optimizer's move from `w.tensors` to `moved` the control's, in place in `moved`.

        Args:
            w: the weights before the move; overwritten.
            moved: the weights after it.
            lr: η of the move.
        """
        r = list(torch._foreach_sub(w.tensors, moved))
        torch._foreach_div_(r, lr)
        self.update(w, r, lr)
        torch._foreach_copy_(moved, w.tensors)


@dataclass(frozen=True)
class Decay(Control):
    """Decoupled weight decay, times the learning rate: w ← w − η·(r + λ·w); inside LAMB's trust ratio (AdamW, LAMB).

    Args:
        weight_decay: λ, a float or [R, 1]; 0 or None for no decay.
    """

    weight_decay: Number | None = None

    def update(self, w: Weights, r: Tensors, lr: Number) -> None:
        """Adds the decay to the direction and follows it."""
        _add_multiple_(r, w.tensors, self.weight_decay)
        w.adapt(w, r)
        move_(w.tensors, r, lr)


@dataclass(frozen=True)
class MatrixDecay(Control):
    """Decoupled weight decay of tensors with two or more dimensions only: as `Decay`, with λ = 0 for all others.

    Args:
        weight_decay: λ, a float or [R, 1]; 0 or None for no decay.
    """

    weight_decay: Number | None = None

    def update(self, w: Weights, r: Tensors, lr: Number) -> None:
        """Adds the decay to the directions of matrices and follows all."""
        _add_multiple_([r[i] for i in w.matrices], [w.tensors[i] for i in w.matrices], self.weight_decay)
        w.adapt(w, r)
        move_(w.tensors, r, lr)


@dataclass(frozen=True)
class L2(Control):
    """The gradient of (λ/2)·|w|², included in the moments: g ← g + λ·w (SGD's weight decay, Adam with L2).

    Args:
        weight_decay: λ, a float or [R, 1]; 0 or None leaves g unchanged.
    """

    weight_decay: Number | None = None

    def project(self, w: Weights, g: Tensors) -> Tensors:
        """Returns g + λ·w."""
        if self.weight_decay is None or (isinstance(self.weight_decay, float | int) and self.weight_decay == 0):
            return g
        sums = list(torch._foreach_mul(w.tensors, spread(self.weight_decay, w.tensors)))
        torch._foreach_add_(sums, g)
        return sums

    def update(self, w: Weights, r: Tensors, lr: Number) -> None:
        """Follows the direction."""
        w.adapt(w, r)
        move_(w.tensors, r, lr)


@dataclass(frozen=True)
class Sphere(Control):
    """Holds each tensor's norm at c: w ← c·n(w − η·r), n(x) = x/|x|, with options that distinguish LAWN's relatives.

    Args:
        gradient: projects the gradient before the moments, P g (Algorithm 1, line 4).
        direction: projects the direction, P r at the weights before the step (line 9).
        fixed_length: gives the move the length η·c, independent of r's (Hyperball, arXiv 2606.16899).
    """

    gradient: bool = True
    direction: bool = True
    fixed_length: bool = False
    held: ClassVar[bool] = True

    def project(self, w: Weights, g: Tensors) -> Tensors:
        """Returns P g."""
        return tangent(w, g) if self.gradient else g

    def update(self, w: Weights, r: Tensors, lr: Number) -> None:
        """Projects r, moves and returns to the sphere."""
        if self.direction:
            tangent_(w, r)  # line 9
        w.adapt(w, r)
        if self.fixed_length:
            _give_length_(w, r)
        move_(w.tensors, r, lr)  # line 10
        rescale_(w)  # line 11

    def replace(self, w: Weights, moved: Tensors, lr: Number) -> None:
        """As `Control.replace`; for LAWN, w − P(w − w') = w' + (1 − wᵀw'/|w|²)·w takes one pass instead of three."""
        if self.fixed_length or not self.direction:
            super().replace(w, moved, lr)
            return
        rest = _along(w, moved)
        torch._foreach_neg_(rest)
        torch._foreach_add_(rest, 1)
        torch._foreach_addcmul_(moved, w.tensors, rest)
        rescale_(Weights(moved, w.radius, sums=w.sums))


LAWN_FIXED = Sphere(fixed_length=True)
"""LAWN with steps of length η·c, independent of r's; for the ablation."""
LAWN = Sphere()
"""Algorithm 1; from initialization it is also the bounded norm of Hoffer et al. 2018 (our reading)."""
BOUNDED_NORM = Sphere(gradient=False, direction=False)
"""Holds the norm without any projection."""
HYPERBALL = Sphere(gradient=False, direction=False, fixed_length=True)
"""AdamH and MuonH: the norm of the weights and that of the update are fixed (arXiv 2606.16899)."""


@dataclass(frozen=True)
class Reparametrized(Control):
    """LAWN with the constraint in the model: it computes with w = c·v/|v|, and the rule trains v without a constraint.

        g ← (c/|v|)·P g        v ← v − η·r        w ← c·n(v)

    The multiplier of a tensor is |v|/c − 1, which grows with every step, so that steps on the sphere become shorter.

    Source: paper §3, "LAWN Implementation", the first of its two methods; gradients without autograd are our choice.
    """

    held: ClassVar[bool] = True
    multiplies: ClassVar[bool] = True

    def project(self, w: Weights, g: Tensors) -> Tensors:
        """Returns the gradient of v."""
        gradients = tangent(w, g)
        torch._foreach_mul_(gradients, _each(_of_held(w, self._stretch(w).reciprocal(), 1.0), gradients))
        return gradients

    def update(self, w: Weights, r: Tensors, lr: Number) -> None:
        """Moves v and returns to the sphere."""
        _scale_(w, _each(self._stretch(w), w.tensors))
        w.adapt(w, r)
        move_(w.tensors, r, lr)
        norms = torch.stack(w.sums.norms(w.tensors))
        _record(w, norms / _stacked(w.radius, norms) - 1)
        rescale_(w)

    @staticmethod
    def _stretch(w: Weights) -> Tensor:
        """|v|/c of each tensor."""
        return torch.stack(list(w.multiplier)) + 1


REPARAMETRIZED = Reparametrized()


@dataclass(frozen=True)
class Cpr(Control):
    """Constrained parameter regularization: an upper bound on each tensor's size by an augmented Lagrangian.

        w ← w − η·r        λ ← max(0, λ + (μ/n)·(|w|² − κ))        w ← w − 2·λ·w

    for a tensor of n weights; κ = c², its squared norm when the bound begins (warm start).

    Args:
        rate: μ, a float or [R, 1].

    Source: Franke et al., NeurIPS 2024, with the L2 measure; the factors are those of its authors' code, as is that the
    moments go on when the bound begins.
    """

    rate: Number = 1.0
    held: ClassVar[bool] = True
    multiplies: ClassVar[bool] = True
    bends_by_norm: ClassVar[bool] = True
    resets: ClassVar[bool] = False

    def update(self, w: Weights, r: Tensors, lr: Number) -> None:
        """Follows the direction, then pulls tensors that are too large toward zero."""
        w.adapt(w, r)
        move_(w.tensors, r, lr)
        squares = torch.stack(w.sums.squares(w.tensors))
        excess = (squares - _stacked(w.radius, squares).square()) / _sizes(w, squares)
        multiplier = torch.stack([m.to(squares.dtype) for m in w.multiplier])
        multiplier = (multiplier + _like(self.rate, squares) * excess).clamp_min(0)
        _record(w, multiplier)
        _scale_(w, list((1 - 2 * multiplier).unbind()))


@dataclass(frozen=True)
class AdamP(Control):
    """Drops the radial part of the update of a tensor whose gradient is nearly orthogonal to it, and most of its decay.

    P r and λ·`decay_ratio` where |cos(g, w)| < delta/√n, else r and λ: for weights that appear scale-invariant. Of the
    paper's two views of a tensor, per channel and whole, this uses the whole tensor (our choice: one norm per tensor).
    Tensors of one dimension are never projected.

    Args:
        weight_decay: λ, decoupled and times η, a float or [R, 1].
        delta, decay_ratio: the paper's defaults.

    Source: Heo et al., arXiv 2006.08217, Algorithm 2 and eq. (11).
    """

    weight_decay: Number = 0.0
    delta: float = 0.1
    decay_ratio: float = 0.1
    multiplies: ClassVar[bool] = True

    def project(self, w: Weights, g: Tensors) -> Tensors:
        """Leaves g unchanged, and records in the multiplier which tensors appear scale-invariant."""
        cosine = torch.stack(w.sums.dots(w.tensors, g)).abs()
        squares = torch.stack(w.sums.squares(w.tensors))
        limit = self.delta / _sizes(w, squares).sqrt() * (squares * torch.stack(w.sums.squares(g))).sqrt()
        _record(w, (cosine < limit) & _matrices(w, cosine))
        return g

    def update(self, w: Weights, r: Tensors, lr: Number) -> None:
        """Projects the directions of the recorded tensors, adds the decay and follows them."""
        noted = torch.stack([m.bool() for m in w.multiplier])
        tangent_(w, r, where=noted)
        if isinstance(self.weight_decay, Tensor) or self.weight_decay:
            decay = _like(self.weight_decay, r[0]) * torch.where(noted, self.decay_ratio, 1.0)
            torch._foreach_addcmul_(r, w.tensors, _each(_of_held(w, decay, 0.0), r))
        w.adapt(w, r)
        move_(w.tensors, r, lr)


def control_of(row: ControlRow, values: Mapping[str, Number]) -> Control:
    """Returns the control of a row of the catalogue; the code it names is imported.

    Args:
        row: names a control, or a class of one.
        values: its hyperparameters, numbers or tensors [R, 1].
    """
    hook = resolve_name(row.hook)
    made: Control = hook(**values) if isinstance(hook, type) else hook
    return made


# --- what controls are made of ----------------------------------------------------------------------------------------


def tangent(w: Weights, d: Tensors) -> Tensors:
    """Returns P d = d − (wᵀd / |w|²)·w of each tensor (eq. 3)."""
    if w.held is not None:
        return _tangent_of(w, d, w.held)
    if not w.memory:
        return list(torch._foreach_addcmul(d, w.tensors, _along(w, d), value=-1))
    parts = zip(d, w.tensors, _along(w, d), w.memory, strict=True)
    return [torch.addcmul(x, y, a, value=-1, out=out) for x, y, a, out in parts]


def tangent_(w: Weights, d: Tensors, where: Tensor | None = None) -> None:
    """As `tangent`, in place; only where `where` is True, [L] or [L, R, 1]."""
    if w.held is None and where is None:
        torch._foreach_addcmul_(d, w.tensors, _along(w, d), value=-1)
        return
    where = _of_held(w, where, False) if where is not None else None
    torch._foreach_copy_(d, _tangent_of(w, d, list(where.unbind()) if where is not None else w.held or []))


def _tangent_of(w: Weights, d: Tensors, where: Tensors) -> Tensors:
    """As `tangent`, where `where` is True; the rest keeps its bits."""
    return [
        torch.where(chosen, (x - a * y).to(x.dtype), x)
        for chosen, x, y, a in zip(where, d, w.tensors, _along(w, d), strict=True)
    ]


def rescale_(w: Weights) -> None:
    """Brings each tensor back to its norm, in place: c·w/|w| (eq. 2)."""
    norms = w.sums.norms(w.tensors)
    factors = list(torch._foreach_reciprocal(norms))
    torch._foreach_mul_(factors, _radius(w, factors))
    # The difference is 0, or NaN for a norm that overflowed: c / inf would silently turn a diverged tensor into zeros.
    torch._foreach_add_(factors, torch._foreach_sub(norms, norms))
    _scale_(w, factors)


def trust_(w: Weights, r: Tensors) -> None:
    """LAMB: gives each direction the norm of its weights in place, (|w|/|r|)·r; the ratio is 1 where either is zero.

    phi is the identity, without a clip: our choice among LAMB's variants.
    """
    torch._foreach_mul_(r, _each(_trust_ratio(w, r), r))


def clipped_trust_(w: Weights, r: Tensors) -> None:
    """LAMB+: as `trust_` with a ratio of at most 1, for tensors with two or more dimensions only (our reading)."""
    ratio = _trust_ratio(w, r).clamp_max(1)
    torch._foreach_mul_(r, _each(torch.where(_matrices(w, ratio), ratio, 1.0), r))


def _trust_ratio(w: Weights, r: Tensors) -> Tensor:
    norms, targets = torch.stack(w.sums.norms(r)), torch.stack(w.sums.norms(w.tensors))
    return torch.where((norms > 0) & (targets > 0), targets / _positive(norms), 1.0)


def _along(w: Weights, d: Tensors) -> Tensors:
    """wᵀd / |w|², 0 for weights that are all 0: an additive epsilon would leave a little of d along w."""
    if not w.squares:  # both projections of a step use the weights before it
        w.squares = w.sums.squares(w.tensors)
        torch._foreach_clamp_min_(w.squares, torch.finfo(w.squares[0].dtype).tiny)
    return list(torch._foreach_div(w.sums.dots(w.tensors, d), w.squares))


def _give_length_(w: Weights, r: Tensors) -> None:
    norms = torch.stack(w.sums.norms(r))
    factor = torch.where(norms > 0, _stacked(w.radius, norms) / _positive(norms), 0.0)  # no direction, no move
    torch._foreach_mul_(r, _each(_of_held(w, factor, 1.0), r))


def _scale_(w: Weights, factors: Tensors) -> None:
    if w.held is not None:  # times one keeps the bits
        factors = [torch.where(held, x, 1.0) for held, x in zip(w.held, factors, strict=True)]
    torch._foreach_mul_(w.tensors, factors)


def _of_held(w: Weights, values: Tensor, rest: float | bool) -> Tensor:
    """Returns values, [L] or [L, R, 1], and `rest` for rows that are not under the control."""
    return values if w.held is None else torch.where(torch.stack(w.held), values, rest)


def _record(w: Weights, values: Tensor) -> None:
    """Stores the control's number of each tensor, for the rows under the control."""
    for kept, value in zip(w.multiplier, _of_held(w, values, False), strict=True):
        kept.copy_(value)


def _add_multiple_(xs: Tensors, ys: Tensors, a: Number | None) -> None:
    if not xs:
        return
    if isinstance(a, Tensor):
        torch._foreach_add_(xs, torch._foreach_mul(ys, spread(a, ys)))
    elif a:
        torch._foreach_add_(xs, ys, alpha=a)


def _each(values: Tensor, xs: Tensors) -> Tensors:
    """One coefficient per tensor, in its precision; half precision is scaled in fp32 by torch itself."""
    return list((values if values.dtype == xs[0].dtype else values.to(xs[0].dtype)).unbind())


def _radius(w: Weights, like: Tensors) -> list[float] | Tensors:
    """c of each tensor in the form that torch accepts with a list of numbers."""
    if isinstance(w.radius[0], Tensor):
        return [torch.as_tensor(c, dtype=x.dtype, device=x.device) for c, x in zip(w.radius, like, strict=True)]
    return [float(c) for c in w.radius]


def _stacked(values: Sequence[Number], like: Tensor) -> Tensor:
    if isinstance(values[0], Tensor):
        return torch.stack([torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in values])
    return torch.tensor(values, dtype=like.dtype, device=like.device)


def _like(value: Number, x: Tensor) -> Number:
    """A number in the precision and on the device of x."""
    return value.to(x) if isinstance(value, Tensor) else value


def _matrices(w: Weights, like: Tensor) -> Tensor:
    """Whether each tensor has two or more dimensions, bool [L, ...] for values like `like`."""
    chosen = constants(tuple(map(bool, w.matrix)) or (True,) * len(w.tensors), torch.bool, like.device)
    return chosen.view(-1, *([1] * (like.dim() - 1)))


def _sizes(w: Weights, like: Tensor) -> Tensor:
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
