"""SGD, Adam and LAMB in the paper's symbols: a rule turns a gradient g into a direction r.

Everything else that is done to the weights is a control (`controls`), which works with any rule. LAWN's:

    free phase                            w ← w − η·r(g)
    constrained phase (Algorithm 1)       w ← c · n(w − η·P r(P g))

where, layer by layer, P d = d − (wᵀd / |w|²)·w removes the part of d along the weights (eq. 3), c is the norm the layer
had at the switch (eq. 1), and n(x) = x / |x|.

Rules take lists of tensors in any shapes. `step` is the whole step of stacked models: vectors are flat, one model's
parameters [P], or R models stacked [R, P]; hyperparameters are floats, or tensors [R, 1] with one value per row; in
double precision a row has the same bits as with a float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.catalogue.code import resolved
from trainables.catalogue.methods import METHODS
from trainables.catalogue.methods import RULES as BUILT_IN
from trainables.catalogue.rows import Rule as RuleRow
from trainables.optimizers.controls import LAWN, Control, Decay
from trainables.optimizers.layers import Layer
from trainables.optimizers.lists import Coefficient, Sums, Tensors, affine_, lerp_, lerp_squares_, spread
from trainables.optimizers.lists import Number as Number
from trainables.optimizers.weights import Weights, clipped_trust_, trust_, unadapted

State = dict[str, Tensor]
"""A rule's slots of stacked models, each shaped like w: "momentum_buffer" for sgd, "m" and "v" for adam and lamb."""

Hyper = Mapping[str, Number]
Steps = int | Tensor | Sequence[int]
"""t: one for all tensors, one per row [R, 1], or one per tensor."""
Direction = Callable[[Tensors, Mapping[str, Tensors], Steps, Hyper], Tensors]
"""(g, slots, t, hyper) → r as new tensors; the slots are changed in place."""
NO_DECAY = "LAWN uses no weight decay: omit weight_decay from hyper in a constrained step"


@dataclass(frozen=True)
class Rule:
    """An update rule: its buffers, hyperparameters, direction, form of weight decay and trust ratio.

    Args:
        slots: its buffers, each shaped like the weights, initially 0.
        hyper: names of its hyperparameters.
        direction: computes the direction.
        decay: its form of weight decay.
        trust_ratio: whether directions are scaled to the norm of their weights (LAMB).
        trust_clip: whether that ratio is at most 1 and for matrices only (LAMB+).
    """

    slots: tuple[str, ...]
    hyper: tuple[str, ...]
    direction: Direction
    decay: Callable[[Number | None], Control]
    trust_ratio: bool = False
    trust_clip: bool = False

    @property
    def adapt(self) -> Callable[[Weights, Tensors], None]:
        """The function applied to a direction before the step."""
        if not self.trust_ratio:
            return unadapted
        return clipped_trust_ if self.trust_clip else trust_


# --- the rules --------------------------------------------------------------------------------------------------------


def sgd_direction(g: Tensors, slots: Mapping[str, Tensors], t: Steps, hyper: Hyper) -> Tensors:
    """Heavy ball without dampening: b ← μ·b + g, r = b. Equals torch.optim.SGD."""
    buffers = slots["momentum_buffer"]
    r = list(torch._foreach_mul(buffers, spread(hyper["momentum"], buffers)))
    torch._foreach_add_(r, g)
    torch._foreach_copy_(buffers, r)
    return r


def adam_direction(g: Tensors, slots: Mapping[str, Tensors], t: Steps, hyper: Hyper) -> Tensors:
    """r = m̂/(√v̂ + ε). Equals torch.optim.AdamW without decay; LAMB's u as well."""
    m, v, beta1, beta2 = slots["m"], slots["v"], hyper["beta1"], hyper["beta2"]
    lerp_(m, g, 1 - beta1)  # line 5
    lerp_squares_(v, g, 1 - beta2)  # line 6
    # Lines 7 and 8, m̂/(√v̂ + ε) with the corrections b of m and v in the denominator: m/((√v·√(1/b_v) + ε)·b_m).
    bias1, bias2 = _bias(beta1, t), _bias(beta2, t)
    below = list(torch._foreach_sqrt(v))
    affine_(
        below,
        _map(lambda one, two: one / two**0.5, bias1, bias2),
        _map(lambda one, _: hyper["eps"] * one, bias1, bias1),
    )
    return list(torch._foreach_div(m, below))


def _bias(beta: Number, t: Steps) -> Coefficient:
    """1 − βᵗ."""
    return 1 - beta**t if isinstance(t, int | Tensor) else [float(1 - beta**one) for one in t]


def _map(function: Callable[[Number, Number], Number], xs: Coefficient, ys: Coefficient) -> Coefficient:
    """Applies arithmetic to coefficients, element by element if there is one per tensor."""
    if isinstance(xs, Sequence) and isinstance(ys, Sequence):
        return [float(function(x, y)) for x, y in zip(xs, ys, strict=True)]
    assert not isinstance(xs, Sequence)
    assert not isinstance(ys, Sequence)
    return function(xs, ys)


_NONE = f"{__name__}:no_direction"


def no_direction(g: Tensors, slots: Mapping[str, Tensors], t: Steps, hyper: Hyper) -> Tensors:
    """In place of the direction of a torch optimizer class, which steps itself."""
    raise NotImplementedError("a torch optimizer class makes these steps")


def rule_of(row: RuleRow) -> Rule:
    """Returns the rule of a row of the catalogue; the code it names is imported.

    That of a torch optimizer class has no direction: see `trainables.optimizers.classes`.
    """
    pair = METHODS.get(row.name)
    own = resolved(pair.control.hook) if pair and pair.rule == row and pair.control else Decay
    hyper = tuple(hyperparameter.name for hyperparameter in row.hyperparameters)
    trust = {"trust_ratio": row.trust_ratio, "trust_clip": row.trust_clip}
    return Rule(row.state, hyper, resolved(row.direction or _NONE), own, **trust)


RULES: Mapping[str, Rule] = {name: rule_of(row) for name, row in BUILT_IN.items()}


def find(name: str) -> Rule:
    """Returns the built-in rule of that name.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, got '{name}'")
    return RULES[name]


# --- stacked models ---------------------------------------------------------------------------------------------------


def init_state(rule: str | Rule, w: Tensor, control: Control = LAWN, layers: Sequence[Layer] = ()) -> State:
    """Returns the slots of a rule that has made no step yet; also its state right after the switch.

    A control with a number for each layer stores them as "multiplier", [..., L].
    """
    slots = {slot: torch.zeros_like(w) for slot in _rule(rule).slots}
    return slots | ({"multiplier": w.new_zeros(*w.shape[:-1], len(layers))} if control.multiplies else {})


def step(
    rule: str | Rule,
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
    control: Control = LAWN,
    free: Control | None = None,
) -> tuple[Tensor, State]:
    """Makes one step; changes none of its inputs.

    Args:
        rule: "sgd", "adam" or "lamb", or a rule.
        w: weights before the step, [P] or [R, P].
        g: gradient at w, shaped like w.
        state: from `init_state`: the rule's slots, each shaped like w; multipliers of the control, if any, [..., L].
        lr: η of this step, a float or [R, 1].
        t: steps since the state was last reset, this one included: 1 at the first step. An int or [R, 1].
        hyper: momentum (sgd), or beta1, beta2 and eps (adam, lamb); weight_decay, absent means none. Floats or [R, 1].
        layers: the layers of w, end to end.
        constrained: True or False for all, or bool [R, 1]; a row that is False comes out as if LAWN did not exist,
            bit for bit.
        radii: c of each layer, [..., L]; 0 for a layer that is not held. Needed when anything is constrained.
        control: what holds the constrained layers.
        free: what acts on all others; the rule's own weight decay if None.

    Returns:
        The new weights and the new state, shaped like w.

    Raises:
        ValueError: rule unknown, hyperparameters missing or unknown, layers that do not span w, a constrained step
            without radii, or weight decay in one.

    Source: Algorithm 1, with its line numbers in comments; sgd and lamb in place of lines 5-8 are our reading of §3,
        "any given gradient-based optimizer".
    """
    w, slots = w.clone(), {name: slot.clone() for name, slot in state.items()}
    step_(
        rule, w, g.clone(), slots, lr=lr, t=t, hyper=hyper, layers=layers, constrained=constrained, radii=radii,
        control=control, free=free,
    )  # fmt: skip
    return w, slots


def step_(
    rule: str | Rule,
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
    control: Control = LAWN,
    free: Control | None = None,
) -> None:
    """Makes the step of `step` in place: changes w and the state; g is overwritten."""
    spec = check(rule, hyper, w, layers)
    held = [layer for layer in layers if layer.constrained and constrained is not False]
    decay = hyper.get("weight_decay")
    other = free or spec.decay(None if decay is None else _tensor(decay, w))
    own = state.get("multiplier")
    parts = [(other, _weights(spec, w, [layer for layer in layers if layer not in held]))]
    if other.multiplies and own is not None:
        at = [i for i, layer in enumerate(layers) if layer not in held]
        parts[0][1].multiplier = [own[..., i : i + 1] for i in at]
    if constrained is not False:
        parts.append((control, _held_weights(spec, w, held, constrained, _given(radii, hyper), layers, own)))
    cuts = [[layer for layer in layers if layer not in held], held]
    for (part, weights), cut in zip(parts, cuts, strict=False):
        views = _views(g, cut)
        projected = part.project(weights, views) if cut else views  # line 4
        if projected is not views:
            torch._foreach_copy_(views, projected)
    numbers = {name: _tensor(value, w) for name, value in hyper.items() if name != "weight_decay"}
    (r,) = spec.direction([g], {name: [state[name]] for name in spec.slots}, _tensor(t, w), numbers)  # lines 5-8
    for (part, weights), cut in zip(parts, cuts, strict=False):
        if cut:
            part.update(weights, _views(r, cut), _tensor(lr, w))  # lines 9-11


def radii_of(w: Tensor, layers: Sequence[Layer]) -> Tensor:
    """Reads c: the norm of each constrained layer (eq. 1), to be stored once at the switch.

    Args:
        w: weights [P] or [R, P].
        layers: the layers of w.

    Returns:
        [..., L] in at least fp32; 0 for free layers and for constrained ones whose norm is zero, which stay free.
    """
    views = [x if layer.constrained else x[..., :0] for layer, x in zip(layers, _views(w, layers), strict=True)]
    return torch.cat(Sums(rows=True).norms(views), dim=-1)  # an empty sum is zero


def check(rule: str | Rule, hyper: Hyper, w: Tensor, layers: Sequence[Layer]) -> Rule:
    """Returns the rule of that name.

    Raises:
        ValueError: the name is unknown, hyperparameters are missing or unknown, or the layers do not span w.
    """
    spec = _rule(rule)
    if set(hyper) - {"weight_decay"} != set(spec.hyper):
        name = rule if isinstance(rule, str) else "the rule"
        raise ValueError(f"{name} takes {', '.join(spec.hyper)} and optionally weight_decay, got {', '.join(hyper)}")
    if not layers or layers[-1].stop != w.shape[-1]:
        raise ValueError(
            f"layers must span all {w.shape[-1]} weights, got layers ending at {layers[-1:] and layers[-1].stop}"
        )
    return spec


def _rule(rule: str | Rule) -> Rule:
    return rule if isinstance(rule, Rule) else find(rule)


def _weights(spec: Rule, w: Tensor, layers: Sequence[Layer]) -> Weights:
    matrix = [layer.matrix for layer in layers]
    return Weights(_views(w, layers), sums=Sums(rows=True), adapt=spec.adapt, matrix=matrix)


def _held_weights(
    spec: Rule,
    w: Tensor,
    held: Sequence[Layer],
    constrained: Tensor | bool,
    radii: Tensor,
    layers: Sequence[Layer],
    multiplier: Tensor | None,
) -> Weights:
    at = [i for i, layer in enumerate(layers) if layer in held]
    radius = [radii[..., i : i + 1] for i in at]
    part = _weights(spec, w, held)
    part.radius, part.held = radius, [(c > 0) & constrained for c in radius]
    part.multiplier = [] if multiplier is None else [multiplier[..., i : i + 1] for i in at]
    return part


def _given(radii: Tensor | None, hyper: Hyper) -> Tensor:
    if radii is None:
        raise ValueError("a constrained step requires the radii that radii_of returned at the switch, got None")
    if "weight_decay" in hyper:
        raise ValueError(NO_DECAY)
    return radii


def _views(x: Tensor, layers: Sequence[Layer]) -> Tensors:
    return [x[..., layer.start : layer.stop] for layer in layers]


def _tensor(x: Number, w: Tensor) -> Tensor:
    """Converts floats too, since torch rounds w + a·x once for a float and twice for a tensor."""
    return torch.as_tensor(x, dtype=torch.float64, device=w.device)
