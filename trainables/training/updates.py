"""How the weights of a pack move along their gradients: by compiled kernels, or by torch operations.

On a GPU, both are replayed as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from trainables.catalogue.methods import RULES
from trainables.catalogue.rows import Method
from trainables.optimizers import fused, gpu, rules
from trainables.optimizers.controls import LAWN, Control, control_of
from trainables.optimizers.layers import Layer
from trainables.training.graphed import Graphs
from trainables.training.recorded import Recorded
from trainables.training.state import PackState
from trainables.training.trust import Way

Hyper = Mapping[str, Tensor]
"""Hyperparameters by name, each float64 [R, 1]."""


class _Given(NamedTuple):
    """What a step reads, in this order as one list of tensors."""

    weights: Tensor
    slots: dict[str, Tensor]
    step: Tensor
    constrained: Tensor
    radii: Tensor
    hyper: Hyper
    lr: Tensor
    gradients: list[Tensor]


class Update:
    """The rule of a method with its control.

    Args:
        method: names both.
        hyper: all hyperparameters of the first step.
        layers: the layers of a row.
        graphs: of the pack; torch operations are recorded for it where the device has graphs.
    """

    def __init__(self, method: Method, hyper: Hyper, layers: Sequence[Layer], graphs: Graphs) -> None:
        self._method, self._layers = method, layers
        self._of_control = tuple(name for name in method.names("control") if name != method.switch)
        self.rule, self.control = rules.rule_of(method.rule), self._control(hyper)
        # Whether the control is the weight decay that belongs to the rule, which rule and kernel know.
        self._own_decay = isinstance(self.control, type(self.rule.decay(None)))
        self._has_kernel = self._rule_has_kernel()
        self._slots = (*self.rule.slots, *(("multiplier",) if self.control.multiplies else ()))
        self._names = (*method.names("rule"), *self._of_control)
        changes, fixed = slice(1 + len(self._slots)), 4 + len(self._slots) + len(self._names)
        runner = partial(graphs.runner, fixed, changes, slice(1))
        self._by_rules: dict[bool | None, Way] = {held: partial(self._by_rule, held) for held in (True, False, None)}
        self._by_graphs = {held: partial(runner(), partial(self._by_kernel, gpu, held)) for held in self._by_rules}
        if graphs.any:
            self._by_rules = {held: Recorded(move, changes, runner()) for held, move in self._by_rules.items()}

    def step(
        self, state: PackState, hyper: Hyper, gradients: Sequence[Tensor], lr: Tensor, held: bool | None
    ) -> Tensor:
        """Makes one step in place.

        Args:
            state: its weights and slots are changed.
            hyper: all hyperparameters as they are now.
            gradients: one per layer, [R, ...].
            lr: learning rate of each row, float64 [R, 1].
            held: whether all rows are constrained; None for some.

        Returns:
            The norm of each row's gradient, [R].
        """
        slots, own = [state.slots[name] for name in self._slots], [hyper[name] for name in self._names]
        fixed = [state.weights, *slots, state.step, state.constrained, state.radii, *own]
        (norm,) = self._way(state, held)([*fixed, lr, *gradients])
        return norm

    def _way(self, state: PackState, held: bool | None) -> Way:
        kernels = gpu.kernels_for(state.weights, *state.slots.values()) if self._has_kernel else None
        if kernels is None:
            return self._by_rules[held]
        return self._by_graphs[held] if kernels is gpu else partial(self._by_kernel, kernels, held)

    def _by_kernel(self, kernels: ModuleType, held: bool | None, tensors: Sequence[Tensor]) -> list[Tensor]:
        """As `_by_rule`, by compiled kernels."""
        given = self._named(tensors)
        squares: Tensor = kernels.step(
            self._method.rule.name, given.weights, given.gradients, given.slots, lr=given.lr, t=given.step,
            hyper=self._rule_hyper(given.hyper), layers=self._layers, radii=None if held is False else given.radii,
        )  # fmt: skip
        return [squares.sqrt().float()]

    def _by_rule(self, held: bool | None, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Makes one step by torch operations in place; returns the norm of each row's gradient, [R].

        Args:
            held: see `step`.
            tensors: see `_named`; nothing else is read.
        """
        given = self._named(tensors)
        gradient = torch.cat([part.reshape(len(given.weights), -1) for part in given.gradients], dim=1)
        norm, control = gradient.norm(dim=1), self._control(given.hyper)
        rules.step_(
            self.rule, given.weights, gradient, given.slots, lr=given.lr, t=given.step,
            hyper=self._rule_hyper(given.hyper), layers=self._layers,
            constrained=given.constrained if held is None else held, radii=given.radii, control=control,
            free=None if control.held else control,  # from the first step on, if it holds none
        )  # fmt: skip
        return [norm]

    def _named(self, tensors: Sequence[Tensor]) -> _Given:
        rest = iter(tensors)
        weights, slots = next(rest), {name: next(rest) for name in self._slots}
        step, constrained, radii = next(rest), next(rest), next(rest)
        hyper = {name: next(rest) for name in self._names}
        return _Given(weights, slots, step, constrained, radii, hyper, next(rest), list(rest))

    def _rule_hyper(self, hyper: Hyper) -> Hyper:
        names = self._names if self._own_decay else self._method.names("rule")
        return {name: hyper[name] for name in names}

    def _control(self, hyper: Hyper) -> Control:
        """The control with the hyperparameters of the rows as they are now."""
        row = self._method.control
        return LAWN if row is None else control_of(row, {name: hyper[name] for name in self._of_control})

    def _rule_has_kernel(self) -> bool:
        row = self._method.rule
        built_in = RULES.get(row.name) == row and row.name in fused.CODES
        return built_in and (self._own_decay or self.control == LAWN)
