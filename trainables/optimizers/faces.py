"""SgdLawn, AdamLawn, LambLawn and Lamb: the update rules as torch optimizers, for ordinary training loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from trainables.optimizers import fused, rules
from trainables.optimizers.phases import (
    HALF,
    TwoPhase,
    one_layer,
    reject_gradients,
    restore_precision,
    weights,
)


class _RuleLawn(TwoPhase):
    """LAWN over a rule of `rules`; subclasses name the rule and its hyperparameters."""

    rule: ClassVar[str]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        check_ranges(self, self.defaults | param_group)
        super().add_param_group(param_group)

    def _advance(self) -> None:
        for group in self.param_groups:
            advance(self.rule, group, self.state)

    def _forget(self) -> None:
        for p, state in self.state.items():
            self.state[p] = {"master": state["master"]} if "master" in state else {}


class AdamLawn(_RuleLawn):
    """Adam under LAWN (Algorithm 1); no weight decay in either phase.

    Args:
        params: parameters or param groups; a group's `constrained` overrules "two or more dimensions".
        lr: η, per step.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment; 1e-6 as in §4.
        free_steps: steps before the switch; 0 from the start, None when the loop calls `constrain()`.

    Source: Algorithm 1; phases, checkpoints and errors as in `TwoPhase`.
    """

    rule = "adam"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        free_steps: int | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "constrained": None}, free_steps)


class LambLawn(_RuleLawn):
    """LAMB under LAWN: each constrained step of a tensor has length lr·c exactly; arguments as for `AdamLawn`.

    Source: §4; the trust ratio is that of the projected direction (our choice).
    """

    rule = "lamb"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        free_steps: int | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "constrained": None}, free_steps)


class SgdLawn(_RuleLawn):
    """SGD with heavy-ball momentum under LAWN; arguments as for `AdamLawn`, and momentum, 0.9 as in §4."""

    rule = "sgd"

    def __init__(
        self, params: ParamsT, lr: float | Tensor = 1e-3, momentum: float = 0.9, free_steps: int | None = None
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "constrained": None}, free_steps)


class Lamb(Optimizer):
    """LAMB: Adam's direction and the decay, given the norm of the tensor they move: w ← w − lr·(|w|/|u|)·u.

    Bias-corrected, nothing clipped, the ratio on for every tensor, 1-D ones included, with or without decay.

    Args:
        params: parameters or param groups.
        lr: η, per step: the share of its norm by which a tensor moves.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.
        weight_decay: λ in u = r + λ·w, so inside the ratio.

    Source: §4, baseline; the variant is our choice.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group as torch does."""
        check_ranges(self, self.defaults | param_group)
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Makes one step.

        Raises:
            ValueError: a gradient is sparse or complex; nothing was changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        reject_gradients(self)
        for group in self.param_groups:
            advance("lamb", group, self.state)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a saved state bit for bit."""
        super().load_state_dict(state_dict)
        restore_precision(self, state_dict)


def advance(rule: str, group: Mapping[str, Any], states: Mapping[Tensor, dict[str, Any]]) -> None:
    """Makes one step of `rule` for each parameter of a group that has a gradient.

    Args:
        rule: name of the rule.
        group: a param group with the rule's hyperparameters, Adam's as `betas`.
        states: each parameter's own state: step count and the rule's slots, made here when missing; `master`, an fp32
            copy, for half-precision parameters; `radius`, where present, makes the step a constrained one.
    """
    named = dict(group) | dict(zip(("beta1", "beta2"), group.get("betas", ()), strict=False))
    hyper = {name: named[name] for name in (*rules.RULES[rule].hyper, "weight_decay") if name in named}
    for p in dict.fromkeys(group["params"]):  # each once, as torch only warns of duplicates
        if p.grad is not None:
            _advance_one(rule, p, p.grad, states[p], group["lr"], hyper)


def _advance_one(rule: str, p: Tensor, grad: Tensor, state: dict[str, Any], lr: float, hyper: rules.Hyper) -> None:
    if p.dtype in HALF and "master" not in state:
        state["master"] = p.detach().float().contiguous()
    w = weights(p, state)
    if "step" not in state:
        fresh = {slot: x.view(p.shape) for slot, x in rules.init_state(rule, w.reshape(-1)).items()}
        state |= {"step": 0} | fresh
    state["step"] += 1
    slots = {slot: state[slot] for slot in rules.RULES[rule].slots}
    if fused.usable(w, *slots.values()):
        _step_in_place(rule, w, grad, state, slots, lr, hyper)
    else:
        _step_anew(rule, w, grad, state, slots, lr, hyper)
    if "master" in state:
        p.copy_(state["master"])


def _step_in_place(
    rule: str, w: Tensor, grad: Tensor, state: dict[str, Any], slots: rules.State, lr: float, hyper: rules.Hyper
) -> None:
    radius = state.get("radius")
    fused.step(
        rule,
        w.view(1, -1),
        [grad.to(w.dtype)],
        {slot: x.view(1, -1) for slot, x in slots.items()},
        lr=lr,
        t=state["step"],
        hyper=hyper,
        layers=one_layer(w.view(-1), constrained=radius is not None),
        radii=None if radius is None else radius.view(1, 1),
    )


def _step_anew(
    rule: str, w: Tensor, grad: Tensor, state: dict[str, Any], slots: rules.State, lr: float, hyper: rules.Hyper
) -> None:
    radius, flat = state.get("radius"), w.reshape(-1)
    moved, slots = rules.step(
        rule,
        flat,
        grad.reshape(-1).to(w.dtype),
        {slot: x.reshape(-1) for slot, x in slots.items()},
        lr=lr,
        t=state["step"],
        hyper=hyper,
        layers=one_layer(flat, constrained=radius is not None),
        constrained=radius is not None,
        radii=radius,
    )
    state |= {slot: x.view(w.shape) for slot, x in slots.items()}
    w.copy_(moved.view(w.shape))


RANGES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "lr": ("0 or more", lambda x: x >= 0),
    "eps": ("0 or more", lambda x: x >= 0),
    "weight_decay": ("0 or more", lambda x: x >= 0),
    "momentum": ("in [0, 1)", lambda x: 0 <= x < 1),
    "betas": ("two numbers in [0, 1)", lambda x: len(x) == 2 and all(0 <= beta < 1 for beta in x)),
    "constrained": ("True, False, or None for 'two or more dimensions'", lambda x: x in (True, False, None)),
}
"""Hyperparameter → the values allowed, in words and as a test."""


def check_ranges(optimizer: Optimizer, group: Mapping[str, Any]) -> None:
    """Raises ValueError if a hyperparameter of a group is out of its range."""
    for name, (allowed, holds) in RANGES.items():
        if name in group and not holds(group[name]):
            raise ValueError(f"{name} of {type(optimizer).__name__} must be {allowed}, got {group[name]}")
