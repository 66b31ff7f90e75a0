"""How the weights of a pack move along their gradients: by compiled kernels, or by torch operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from trainables.catalogue.methods import RULES
from trainables.catalogue.rows import Method
from trainables.optimizers import fused, rules
from trainables.optimizers.controls import LAWN, Control, control_of
from trainables.optimizers.gpu import kernels_for
from trainables.optimizers.layers import Layer
from trainables.training.graphed import Graphs
from trainables.training.recorded import Recorded
from trainables.training.state import PackState
from trainables.training.trust import Way

Hyper = Mapping[str, Tensor]
"""Hyperparameters by name, each float64 [R, 1]."""


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
        moves = {held: partial(self._moved, held) for held in (True, False, None)}
        self._calls: Mapping[bool | None, Way] = moves
        if graphs.any:
            runner = partial(graphs.runner, fixed, changes, slice(1))
            self._calls = {held: Recorded(move, changes, runner()) for held, move in moves.items()}

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
        if self._has_kernel and (kernels := kernels_for(state.weights, *state.slots.values())):
            squares: Tensor = kernels.step(
                self._method.rule.name, state.weights, gradients, state.slots, lr=lr, t=state.step,
                hyper=self._rule_hyper(hyper), layers=self._layers, radii=None if held is False else state.radii,
            )  # fmt: skip
            return squares.sqrt().float()
        slots, own = [state.slots[name] for name in self._slots], [hyper[name] for name in self._names]
        fixed = [state.weights, *slots, state.step, state.constrained, state.radii, *own]
        (norm,) = self._calls[held]([*fixed, lr, *gradients])
        return norm

    def _moved(self, held: bool | None, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Makes one step by torch operations in place; returns the norm of each row's gradient, [R].

        Args:
            held: see `step`.
            tensors: weights, slots, step, constrained, radii, hyperparameters, learning rate and gradients; nothing
                else is read.
        """
        rest = iter(tensors)
        weights, slots = next(rest), {name: next(rest) for name in self._slots}
        step, constrained, radii = next(rest), next(rest), next(rest)
        hyper = {name: next(rest) for name in self._names}
        lr, *gradients = rest
        gradient = torch.cat([part.reshape(len(weights), -1) for part in gradients], dim=1)
        norm = gradient.norm(dim=1)
        control = self._control(hyper)
        rules.step_(
            self.rule, weights, gradient, slots, lr=lr, t=step, hyper=self._rule_hyper(hyper), layers=self._layers,
            constrained=constrained if held is None else held, radii=radii, control=control,
            free=None if control.held or self._own_decay else control,  # from the first step on, if it holds none
        )  # fmt: skip
        return [norm]

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
