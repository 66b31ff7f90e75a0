"""One step of a param group of torch's optimizers: by kernels for the tensors that they support, else on lists."""

from __future__ import annotations

from collections import defaultdict
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
from trainables.optimizers.phases import Gradients, multipliers, radius_in, trained_dtype, unique
from trainables.optimizers.repeated import Addresses, Choices, Repeated, addresses_of
from trainables.optimizers.shards import local, sums_over
from trainables.optimizers.weights import Weights

States = Mapping[Tensor, dict[str, Any]]


class GroupSteps:
    """The steps of an optimizer's param groups.

    Args:
        rule: name of the rule.
    """

    def __init__(self, rule: str) -> None:
        self._rule = rule
        self._found: defaultdict[int, _Found] = defaultdict(partial(_Found, rule))

    def __call__(
        self, groups: Sequence[Mapping[str, Any]], gradients: Gradients, states: States, control: Control = LAWN
    ) -> None:
        """Makes one step for each parameter that has a gradient.

        Args:
            groups: param groups with the rule's hyperparameters, Adam's as `betas`.
            gradients: the gradient of each parameter that has one.
            states: each parameter's own state: step count and the rule's slots, created here if missing; `master`, an
                fp32 copy, for half-precision parameters; `radius`, which puts the parameter under the control.
            control: applied to parameters with a radius other than 0.
        """
        for i, group in enumerate(groups):
            named = dict(group) | dict(zip(("beta1", "beta2"), group.get("betas", ()), strict=False))
            hyper = {name: float(named[name]) for name in rules.RULES[self._rule].hyper}
            lr, decay = float(group["lr"]), float(group.get("weight_decay", 0))
            step = _Step(self._rule, gradients, states, lr, hyper, decay, control, self._found[i])
            params = [p for p in unique(group["params"]) if p in gradients]
            if not step.again(params):
                _advance(step, params)


def _advance(step: _Step, params: Sequence[Tensor]) -> None:
    for p in params:
        prepare(step.rule, p, step.states[p])
    for sums, part in sums_over(params):
        for some in portions(step.by_kernels(part)):
            step.on_lists(some, sums)
    for p in params:
        if "master" in step.states[p]:
            p.copy_(step.states[p]["master"])


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


class _Found:
    """What the steps of a group found of its tensors on a GPU, so that the next one only compares; keeps no tensor."""

    def __init__(self, rule: str) -> None:
        self.choices = Choices(rule)
        self.steps: Repeated | None = None
        """Made the last step of all tensors below; None if they were not those of the parameters themselves."""
        self.device = torch.device("cpu")
        self.addresses: Addresses = ()
        self._looks: list[Any] = []

    def record(self, steps: Repeated | None, lists: Sequence[Sequence[Tensor]], addresses: Addresses) -> None:
        """Records checked tensors, and what makes their steps."""
        self.steps, self.device, self.addresses = steps, lists[0][0].device, addresses
        self._looks = _looks([x for xs in lists for x in xs])

    def same(self, lists: Sequence[Sequence[Tensor]]) -> bool:
        """Whether these tensors are like the recorded ones, and where they were."""
        return _looks([x for xs in lists for x in xs]) == self._looks


def _looks(xs: Sequence[Tensor]) -> list[Any]:
    """Returns all that matters to a kernel, and that assigning `x.data`, swapping or resizing tensors can change."""
    return [
        (type(x), x.data_ptr(), x.nbytes, x.dtype, x.is_contiguous(), x.is_neg(), x.untyped_storage().nbytes())
        for x in xs
    ]


@dataclass(frozen=True)
class _Step:
    """What all parameters of a group share in a step; see `GroupSteps`, with λ as `decay`."""

    rule: str
    gradients: Gradients
    states: States
    lr: float
    hyper: Mapping[str, float]
    decay: float
    control: Control
    found: _Found

    def again(self, params: Sequence[Tensor]) -> bool:
        """Makes the step if kernels of a GPU made the last one and all tensors but the gradients are as they were."""
        found, gradients = self.found, [self.gradients[p] for p in params]
        if found.steps is None or not gradients or gpu.capturing(found.device) or not gpu.usable(*gradients):
            return False
        states = [self.states[p] for p in params]
        fixed = self._fixed(params, states)
        if not (
            gradients[0].device == found.device
            and all("step" in state for state in states)
            and (self.control == LAWN or not any(map(radius_in, states)))
            and found.same(fixed)
            and [x.nbytes for x in gradients] == [x.nbytes for x in fixed[0]]
        ):
            return False
        for state in states:
            state["step"] += 1
        self._repeat(found.steps, (*found.addresses, addresses_of(gradients)), params, states)
        return True

    def _fixed(self, params: Sequence[Tensor], states: Sequence[Mapping[str, Any]]) -> list[list[Tensor]]:
        """Returns the weights, first and last slots; a parameter itself in place of what is missing."""
        first, *_, last = 2 * rules.RULES[self.rule].slots
        return [
            [state.get(name, p) for p, state in zip(params, states, strict=True)] for name in ("master", first, last)
        ]

    def _repeat(
        self, steps: Repeated, addresses: Addresses, params: Sequence[Tensor], states: Sequence[Mapping[str, Any]]
    ) -> None:
        counts, radii = [state["step"] for state in states], tuple(radius_in(state) or 0.0 for state in states)
        steps(addresses, self.lr, counts, {**self.hyper, "weight_decay": self.decay}, radii)
        torch.autograd.graph.increment_version(params)

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
        """Returns weights, slots and gradient of a parameter; None if these kernels do not take them."""
        state = self.states[p]
        w, *slots = state.get("master", p.detach()), *(state[slot] for slot in rules.RULES[self.rule].slots)
        if (radius_in(state) and self.control != LAWN) or not kernels.usable(w, *slots):
            return None
        tensors = [w, *slots, self.gradients[p].to(w.dtype).contiguous()]
        alike = kernels.usable(w, tensors[-1]) and len({x.numel() for x in tensors}) == 1
        return tensors if alike else None

    def _on_cpu(self, p: Tensor, *tensors: Tensor) -> None:
        w, *slots, gradient = (x.view(1, -1) for x in tensors)
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
        lists = [w, first, last[0] if last else first, gradients]
        params, states = list(tensors), [self.states[p] for p in tensors]
        if gpu.capturing(w[0].device):
            self._in_a_graph(lists, params, states)
            return
        steps = self.found.choices.of(w)
        self._repeat(steps, tuple(map(addresses_of, lists)), params, states)
        masters = any("master" in state for state in states)
        fixed = self._fixed(params, states)
        self.found.record(None if masters else steps, fixed, tuple(map(addresses_of, fixed)))

    def _in_a_graph(
        self, lists: Sequence[Sequence[Tensor]], params: Sequence[Tensor], states: Sequence[Mapping[str, Any]]
    ) -> None:
        """The step as part of a graph that others capture: it has its own constants."""
        radii, counts = tuple(radius_in(state) or 0.0 for state in states), tuple(state["step"] for state in states)
        w, first, last, gradients = ([x.view(1, -1) for x in xs] for xs in lists)
        device = w[0].device
        gpu.step_lists(
            self.rule,
            w,
            first,
            last,
            gradients,
            lr=self.lr,
            t=counts[0] if len(set(counts)) == 1 else torch.tensor([counts]).to(device),
            hyper={**self.hyper, "weight_decay": self.decay},
            radii=constants((radii,), torch.float32, device) if any(radii) else None,
        )
        torch.autograd.graph.increment_version(params)

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
