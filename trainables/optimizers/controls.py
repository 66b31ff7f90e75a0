"""What a method does to a weight besides its update rule: one hook before the moments and one after them.

    g ← project(w, g)        r ← direction of the rule        update(w, r, lr)

Weight decay, L2, LAWN, bounded weight norm, Hyperball, CPR and AdamP are implemented by this hook, for stacked models,
the torch optimizers and `Lawn(base)` alike. P d = d − (wᵀd / |w|²)·w removes the part of d along the weights (eq. 3),
tensor by tensor; c is the norm that a tensor had when the control began.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainables.catalogue.code import CodeError, resolved
from trainables.catalogue.rows import Control as ControlRow
from trainables.optimizers.lists import Number, Tensors, move_, spread
from trainables.optimizers.weights import (
    Weights,
    add_multiple_,
    along,
    combine_,
    counts_of,
    each,
    give_length_,
    matrix_mask,
    number_like,
    of_held,
    record,
    rescale_,
    scale_,
    stacked,
    tangent,
    tangent_,
)


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
        add_multiple_(r, w.tensors, self.weight_decay)
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
        add_multiple_([r[i] for i in w.matrices], [w.tensors[i] for i in w.matrices], self.weight_decay)
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
            give_length_(w, r)
        move_(w.tensors, r, lr)  # line 10
        rescale_(w)  # line 11

    def replace(self, w: Weights, moved: Tensors, lr: Number) -> None:
        """As `Control.replace`; for LAWN, w − P(w − w') = w' + (1 − wᵀw'/|w|²)·w takes one pass instead of three."""
        if self.fixed_length or not self.direction:
            super().replace(w, moved, lr)
            return
        share = along(w, moved)
        if not combine_(w, moved, share):
            torch._foreach_addcmul_(moved, w.tensors, torch._foreach_add(torch._foreach_neg(share), 1))
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
        torch._foreach_mul_(gradients, each(of_held(w, self._stretch(w).reciprocal(), 1.0), gradients))
        return gradients

    def update(self, w: Weights, r: Tensors, lr: Number) -> None:
        """Moves v and returns to the sphere."""
        scale_(w, each(self._stretch(w), w.tensors))
        w.adapt(w, r)
        move_(w.tensors, r, lr)
        norms = torch.stack(w.sums.norms(w.tensors))
        record(w, norms / stacked(w.radius, norms) - 1)
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
        excess = (squares - stacked(w.radius, squares).square()) / counts_of(w, squares)
        multiplier = torch.stack([m.to(squares.dtype) for m in w.multiplier])
        multiplier = (multiplier + number_like(self.rate, squares) * excess).clamp_min(0)
        record(w, multiplier)
        scale_(w, list((1 - 2 * multiplier).unbind()))


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
        limit = self.delta / counts_of(w, squares).sqrt() * (squares * torch.stack(w.sums.squares(g))).sqrt()
        record(w, (cosine < limit) & matrix_mask(w, cosine))
        return g

    def update(self, w: Weights, r: Tensors, lr: Number) -> None:
        """Projects the directions of the recorded tensors, adds the decay and follows them."""
        noted = torch.stack([m.bool() for m in w.multiplier])
        tangent_(w, r, where=noted)
        if isinstance(self.weight_decay, Tensor) or self.weight_decay:
            decay = number_like(self.weight_decay, r[0]) * torch.where(noted, self.decay_ratio, 1.0)
            torch._foreach_addcmul_(r, w.tensors, each(of_held(w, decay, 0.0), r))
        w.adapt(w, r)
        move_(w.tensors, r, lr)


def control_of(row: ControlRow, values: Mapping[str, Number]) -> Control:
    """Returns the control of a row of the catalogue; the code it names is imported.

    Args:
        row: names a control, or a class of one.
        values: its hyperparameters, numbers or tensors [R, 1].
    """
    hook = resolved(row.hook)
    made = hook(**values) if isinstance(hook, type) else hook
    if not isinstance(made, Control):
        rule = "must be a trainables.optimizers.controls.Control, or a class of one"
        raise CodeError(f"'{row.hook}', the hook of control '{row.name}', {rule}, got {type(made).__name__}")
    return made
