"""SGD, Adam and LAMB as pure functions in the paper's symbols, and LAWN, which stacks on any of them.

A rule turns a gradient g into a direction r. LAWN puts the same three things around every rule:

    free phase                            w ← w − η·r(g)
    constrained phase (Algorithm 1)       w ← c · n(w − η·P r(P g))

where, layer by layer, P d = d − (wᵀd / |w|²)·w removes the part of d along the weights (eq. 3), c is the norm the layer
had at the switch (eq. 1), and n(x) = x / |x|.

Vectors are flat: one model's parameters [P], or R models stacked [R, P]. Hyperparameters are floats, or tensors [R, 1]
with one value a row; double precision keeps a row's bits equal to those of a float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.optimizers.layers import Layer

Number = float | Tensor
State = dict[str, Tensor]
"""A rule's slots, each shaped like w: "momentum_buffer" for sgd, "m" and "v" for adam and lamb."""

Hyper = Mapping[str, Number]
Direction = Callable[[Tensor, Tensor, State, Number, Hyper], tuple[Tensor, State]]
"""(w, g, state, t, hyper) → (r, new state)."""


@dataclass(frozen=True)
class Rule:
    """An update rule: what it keeps, what it must be told, how it makes a direction, and LAMB's trust ratio."""

    slots: tuple[str, ...]
    hyper: tuple[str, ...]
    direction: Direction
    trust_ratio: bool = False


def init_state(rule: str, w: Tensor) -> State:
    """Returns the slots of a rule that has made no step yet; also its state right after the switch."""
    return {slot: torch.zeros_like(w) for slot in _rule(rule).slots}


def step(
    rule: str,
    w: Tensor,
    g: Tensor,
    state: State,
    *,
    lr: Number,
    t: int | Tensor,
    hyper: Hyper,
    layers: Sequence[Layer],
    constrained: Tensor | bool = False,
    radii: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Makes one step; changes none of its inputs.

    Args:
        rule: "sgd", "adam" or "lamb".
        w: weights before the step, [P] or [R, P].
        g: gradient at w, shaped like w.
        state: the rule's slots (`init_state`), each shaped like w.
        lr: η of this step, a float or [R, 1].
        t: steps since the state was last reset, this one included: 1 at the first step. An int or [R, 1].
        hyper: momentum (sgd), or beta1, beta2 and eps (adam, lamb); weight_decay, absent means none. Floats or [R, 1].
        layers: the layers of w, end to end.
        constrained: True or False for all, or bool [R, 1]; a row that is False comes out as if LAWN did not exist,
            bit for bit.
        radii: c of each layer, [..., L]; 0 for a layer that is not held. Needed when anything is constrained.

    Returns:
        The new weights and the new state, shaped like w.

    Raises:
        ValueError: rule unknown, hyperparameters missing or unknown, layers that do not span w, a constrained step
            without radii, or weight decay in one.

    Source: Algorithm 1, its line numbers beside the code; sgd and lamb in place of lines 5-8 are our reading of §3,
        "any given gradient-based optimizer".
    """
    law = check(rule, hyper, w, layers)
    held = None if constrained is False else _held(constrained, radii, hyper)
    hyper = {name: _double(value) for name, value in hyper.items()}
    if held is not None:
        g = project(g, w, layers, held)  # line 4
    r, state = law.direction(w, g, state, _double(t), hyper)  # lines 5-8
    if held is not None:
        r = project(r, w, layers, held)  # line 9
    if law.trust_ratio:
        r = _trusted(r, w, layers)
    w = w - _as(lr, w) * r  # line 10
    if held is not None and radii is not None:
        w = rescale(w, layers, held, radii)  # line 11
    return w, state


# --- LAWN: what goes around a rule ------------------------------------------------------------------------------------


def radii_of(w: Tensor, layers: Sequence[Layer]) -> Tensor:
    """Reads c: the norm of each constrained layer (eq. 1), to be stored once at the switch and never read again.

    Args:
        w: weights [P] or [R, P].
        layers: the layers of w.

    Returns:
        [..., L] in at least fp32; 0 for free layers and for constrained ones whose norm is zero, which stay free.
    """
    norms = [_norm(x if layer.constrained else x[..., :0]) for layer, x in _cut(w, layers)]  # an empty sum is zero
    return torch.cat(norms, dim=-1)


def project(d: Tensor, w: Tensor, layers: Sequence[Layer], held: Tensor) -> Tensor:
    """Removes from d its part along w, layer by layer: d − (wᵀd / |w|²)·w (eq. 3; Algorithm 1, lines 4 and 9).

    Args:
        d: gradient or direction, shaped like w.
        w: weights [P] or [R, P].
        layers: the layers of w; free ones keep d.
        held: bool [..., L]; a layer that is False keeps d, bit for bit.
    """
    pieces = []
    for i, ((layer, x), (_, y)) in enumerate(zip(_cut(d, layers), _cut(w, layers), strict=True)):
        pieces.append(torch.where(held[..., i : i + 1], _orthogonal(x, y), x) if layer.constrained else x)
    return _joined(pieces)


def rescale(w: Tensor, layers: Sequence[Layer], held: Tensor, radii: Tensor) -> Tensor:
    """Brings each held layer of w back to its stored norm: c·w/|w| (eq. 2; Algorithm 1, line 11)."""
    pieces = []
    for i, (layer, x) in enumerate(_cut(w, layers)):
        at = (..., slice(i, i + 1))
        # Times one keeps the bits of a layer that is not held, so no second select over the whole layer.
        pieces.append((torch.where(held[at], _factor(x, radii[at]), 1) * x).to(x.dtype) if layer.constrained else x)
    return _joined(pieces)


def _orthogonal(d: Tensor, w: Tensor) -> Tensor:
    return (d - _over(_dot(w, d), _dot(w, w)) * w).to(d.dtype)


def _factor(w: Tensor, c: Tensor) -> Tensor:
    # A norm that overflows makes the weights NaN: c / inf would quietly turn a diverged layer into zeros.
    norm = _norm(w)
    return torch.where(norm.isfinite(), _over(c, norm), torch.nan)


def _held(constrained: Tensor | bool, radii: Tensor | None, hyper: Hyper) -> Tensor:
    if radii is None:
        raise ValueError("a constrained step needs the radii that radii_of read at the switch, got None")
    if "weight_decay" in hyper:
        raise ValueError("LAWN uses no weight decay anywhere: leave weight_decay out of hyper in a constrained step")
    return (radii > 0) & constrained


# --- the rules --------------------------------------------------------------------------------------------------------


def _sgd(w: Tensor, g: Tensor, state: State, t: Number, hyper: Hyper) -> tuple[Tensor, State]:
    """Heavy ball without dampening, L2 in the gradient: b ← μ·b + g + λ·w, r = b. Equals torch.optim.SGD."""
    buffer = _as(hyper["momentum"], w) * state["momentum_buffer"] + _decayed(g, w, hyper)
    return buffer, {"momentum_buffer": buffer}


def _adam(w: Tensor, g: Tensor, state: State, t: Number, hyper: Hyper) -> tuple[Tensor, State]:
    """Adam with decay beside it, so times η: r = m̂/(√v̂ + ε) + λ·w. Equals torch.optim.AdamW; LAMB's u as well."""
    beta1, beta2 = hyper["beta1"], hyper["beta2"]
    # In place on tensors made in the same line only: at millions of weights a CPU spends half the step on allocation.
    m = (_as(beta1, w) * state["m"]).add_(_as(1 - beta1, w) * g)  # line 5
    v = (_as(beta2, w) * state["v"]).add_((_as(1 - beta2, w) * g).mul_(g))  # line 6
    m_hat, v_hat = _as(1 / (1 - beta1**t), w) * m, _as(1 / (1 - beta2**t), w) * v  # line 7
    r = m_hat.div_(v_hat.sqrt_().add_(_as(hyper["eps"], w)))  # line 8
    return _decayed(r, w, hyper), {"m": m, "v": v}


def _trusted(u: Tensor, w: Tensor, layers: Sequence[Layer]) -> Tensor:
    """LAMB: gives u the norm of w in every layer, 1-D ones included, with or without decay: (|w|/|u|)·u.

    The ratio is 1 where either norm is zero. phi is the identity: no clip. Our choice among LAMB's variants.
    """
    pieces = []
    for (_, x), (_, y) in zip(_cut(u, layers), _cut(w, layers), strict=True):
        norm, target = _norm(x), _norm(y)
        ratio = torch.where((norm > 0) & (target > 0), _over(target, norm), 1)
        pieces.append((ratio * x).to(x.dtype))
    return _joined(pieces)


def _decayed(d: Tensor, w: Tensor, hyper: Hyper) -> Tensor:
    return d + _as(hyper["weight_decay"], w) * w if "weight_decay" in hyper else d


RULES: Mapping[str, Rule] = {
    "sgd": Rule(("momentum_buffer",), ("momentum",), _sgd),
    "adam": Rule(("m", "v"), ("beta1", "beta2", "eps"), _adam),
    "lamb": Rule(("m", "v"), ("beta1", "beta2", "eps"), _adam, trust_ratio=True),
}


def _rule(name: str) -> Rule:
    if name not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, got '{name}'")
    return RULES[name]


def check(rule: str, hyper: Hyper, w: Tensor, layers: Sequence[Layer]) -> Rule:
    """Returns the rule of that name.

    Raises:
        ValueError: there is none, hyperparameters are missing or unknown, or the layers do not span w.
    """
    law = _rule(rule)
    if set(hyper) - {"weight_decay"} != set(law.hyper):
        raise ValueError(f"{rule} takes {', '.join(law.hyper)} and perhaps weight_decay, got {', '.join(hyper)}")
    if not layers or layers[-1].stop != w.shape[-1]:
        raise ValueError(f"layers must span all {w.shape[-1]} weights, got an end at {layers[-1:] and layers[-1].stop}")
    return law


# --- arithmetic -------------------------------------------------------------------------------------------------------


def _double(x: Number) -> Number:
    return x.double() if isinstance(x, Tensor) else x


def _as(x: Number, w: Tensor) -> Number:
    """Rounds a coefficient to w's precision, as torch does with a float, instead of widening w to the coefficient's."""
    return x.to(w.dtype) if isinstance(x, Tensor) else x


def _cut(x: Tensor, layers: Sequence[Layer]) -> list[tuple[Layer, Tensor]]:
    return [(layer, x[..., layer.start : layer.stop]) for layer in layers]


def _joined(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Row-wise xᵀy, [..., 1], in at least fp32; summed pairwise by torch, which a BLAS dot product does not promise."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return (x.to(wide) * y.to(wide)).sum(dim=-1, keepdim=True)


def _norm(x: Tensor) -> Tensor:
    return _dot(x, x).sqrt()


def _over(a: Tensor, b: Tensor) -> Tensor:
    """a/b, and a where b is zero: a guard, as an additive epsilon would shrink small layers a little every step."""
    return a / torch.where(b == 0, 1, b)
