"""One step of a param group of torch's optimizers: by kernels for the tensors that they support, else on lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainables.optimizers import fused, gpu, rules
from trainables.optimizers.controls import LAWN, Control
from trainables.optimizers.layers import Layer
from trainables.optimizers.lists import Sums, constants
from trainables.optimizers.phases import multipliers, radius_in, trained_dtype, unique
from trainables.optimizers.shards import local, sums_over
from trainables.optimizers.weights import Weights

States = Mapping[Tensor, dict[str, Any]]


def advance(
    rule: str,
    group: Mapping[str, Any],
    gradients: Mapping[Tensor, Tensor],
    states: States,
    control: Control = LAWN,
) -> None:
    """Makes one step of `rule` for each parameter of a group that has a gradient.

    Args:
        rule: name of the rule.
        group: a param group with the rule's hyperparameters, Adam's as `betas`.
        gradients: the gradient of each parameter that has one.
        states: each parameter's own state: step count and the rule's slots, created here if missing; `master`, an fp32
            copy, for half-precision parameters; `radius`, which puts the parameter under the control.
        control: applied to parameters with a radius other than 0.
    """
    named = dict(group) | dict(zip(("beta1", "beta2"), group.get("betas", ()), strict=False))
    hyper = {name: float(named[name]) for name in rules.RULES[rule].hyper}
    step = _Step(
        rule, gradients, states, float(group["lr"]), hyper, float(group.get("weight_decay", 0)), control
    )  # fmt: skip
    params = [p for p in unique(group["params"]) if p in gradients]
    for p in params:
        prepare(rule, p, states[p])
    for sums, part in sums_over(params):
        for some in portions(step.by_kernels(part)):
            step.on_lists(some, sums)
    for p in params:
        if "master" in states[p]:
            p.copy_(states[p]["master"])


def prepare(rule: str, p: Tensor, state: dict[str, Any]) -> None:
    """Creates the state of a parameter if missing, applies outside changes of its weights, and counts the step."""
    if p.dtype != trained_dtype(p) and "master" not in state:
        state["master"] = p.detach().float()
    refresh_master(p, state)
    if "step" not in state:
        w = state.get("master", p.detach())
        state |= {"step": 0} | {slot: torch.zeros_like(w) for slot in rules.RULES[rule].slots}
    state["step"] += 1


def refresh_master(p: Tensor, state: Mapping[str, Any]) -> None:
    """Copies half-precision weights that others changed since the last step into the master weights."""
    if "master" in state:
        master, weights = local(state["master"]), local(p.detach())
        master.copy_(torch.where(weights == master.to(p.dtype), master, weights.to(master.dtype)))


PORTION = 2**20
"""Weights per step on a CPU: with a bounded size, memory of intermediate tensors is reused instead of mapped again."""


def portions(params: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Splits a list on a CPU; an accelerator takes it whole, as every operation is a launch."""
    some: list[Tensor] = []
    for p in params:
        if some and p.device.type == "cpu" and sum(x.numel() for x in some) + p.numel() > PORTION:
            yield some
            some = []
        some.append(p)
    if some:
        yield some


@dataclass(frozen=True)
class _Step:
    """What all parameters of a group share in a step; the arguments of `advance`, and λ as `decay`."""

    rule: str
    gradients: Mapping[Tensor, Tensor]
    states: States
    lr: float
    hyper: Mapping[str, float]
    decay: float
    control: Control

    def by_kernels(self, params: Sequence[Tensor]) -> list[Tensor]:
        """Makes the step of the parameters that compiled kernels support; returns the others."""
        if self.rule not in fused.CODES:
            return list(params)
        rest, on_gpu = [], {}
        for p in params:
            if (tensors := self._tensors(p, fused)) is not None:
                self._on_cpu(p, *tensors)
            elif (tensors := self._tensors(p, gpu)) is not None:
                on_gpu[p] = tensors
            else:
                rest.append(p)
        if on_gpu:
            self._on_gpu(on_gpu)
        return rest

    def _tensors(self, p: Tensor, kernels: Any) -> list[Tensor] | None:
        """Returns weights, slots and gradient of a parameter as rows [1, n]; None if these kernels do not take them."""
        state = self.states[p]
        tensors = [state.get("master", p.detach()), *(state[slot] for slot in rules.RULES[self.rule].slots)]
        if (radius_in(state) and self.control != LAWN) or not kernels.usable(*tensors):
            return None
        gradient = self.gradients[p].to(tensors[0].dtype).contiguous()
        return [x.view(1, -1) for x in (*tensors, gradient)] if kernels.usable(gradient) else None

    def _on_cpu(self, p: Tensor, w: Tensor, *slots_and_gradient: Tensor) -> None:
        *slots, gradient = slots_and_gradient
        radius = radius_in(self.states[p]) or 0.0
        fused.step(
            self.rule,
            w,
            [gradient],
            dict(zip(rules.RULES[self.rule].slots, slots, strict=True)),
            lr=self.lr,
            t=self.states[p]["step"],
            hyper=self.hyper if radius else {**self.hyper, "weight_decay": self.decay},
            layers=(Layer("", 0, w.numel(), bool(radius)),),
            radii=torch.tensor([[radius]], dtype=torch.float32, device="cpu") if radius else None,
        )

    def _on_gpu(self, tensors: Mapping[Tensor, Sequence[Tensor]]) -> None:
        w, first, *others = (list(xs) for xs in zip(*tensors.values(), strict=True))
        *last, gradients = others
        radii = tuple(radius_in(self.states[p]) or 0.0 for p in tensors)
        counts = tuple(self.states[p]["step"] for p in tensors)
        device = w[0].device
        gpu.step_lists(
            self.rule,
            w,
            first,
            last[0] if last else first,
            gradients,
            lr=self.lr,
            t=counts[0] if len(set(counts)) == 1 else torch.tensor([counts]).to(device),
            hyper={**self.hyper, "weight_decay": self.decay},
            radii=constants((radii,), torch.float32, device) if any(radii) else None,
        )
        for p in tensors:
            torch.autograd.graph.increment_version(p)

    def on_lists(self, params: Sequence[Tensor], sums: Sums) -> None:
        """Makes the step of parameters of one device and precision with torch operations on lists."""
        spec = rules.RULES[self.rule]
        params = sorted(params, key=lambda p: not radius_in(self.states[p]))  # those under the control first
        held = [p for p in params if radius_in(self.states[p])]
        w = [local(self.states[p].get("master", p.detach())) for p in params]
        g = [local(self.gradients[p]).to(x.dtype) for p, x in zip(params, w, strict=True)]
        slots = {slot: [local(self.states[p][slot]) for p in params] for slot in spec.slots}
        steps, matrix = [self.states[p]["step"] for p in params], [p.dim() >= 2 for p in params]
        weights = partial(Weights, sums=sums, adapt=spec.adapt)
        n, parts = len(held), []
        if held:
            states = [self.states[p] for p in held]
            radius, own = [state["radius"] for state in states], multipliers(self.control, states, held)
            parts.append((self.control, weights(w[:n], radius, own, matrix=matrix[:n]), slice(0, n)))
        if n < len(w):
            parts.append((spec.decay(self.decay), weights(w[n:], matrix=matrix[n:]), slice(n, None)))
        g = [x for part, its, at in parts for x in part.project(its, g[at])]  # line 4
        r = spec.direction(g, slots, steps[0] if len(set(steps)) == 1 else steps, self.hyper)  # lines 5-8
        for part, its, at in parts:
            part.update(its, r[at], self.lr)  # lines 9-11
