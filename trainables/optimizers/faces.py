"""SgdLawn, AdamLawn, LambLawn, Lamb and LambPlus: the update rules as torch optimizers, for ordinary training loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from trainables.optimizers import rules
from trainables.optimizers.controls import LAWN, Control
from trainables.optimizers.group_step import GroupSteps, refresh_master
from trainables.optimizers.loading import check_shapes, fits_rule, load_state, restore
from trainables.optimizers.phases import (
    UNREAD,
    Gradients,
    TwoPhase,
    checked_control,
    evaluated,
    gradients_of,
    radius_in,
    reject_gradients,
)


class _RuleLawn(TwoPhase):
    """LAWN over a rule of `rules`; subclasses name the rule and its hyperparameters."""

    rule: ClassVar[str]

    def __init__(self, params: ParamsT, defaults: dict[str, Any], free_steps: int | None, control: Control) -> None:
        self.control, self._steps = checked_control(self, control), GroupSteps(self.rule)
        super().__init__(params, defaults, free_steps)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        check_ranges(self, self.defaults | param_group)
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"control": self.control}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._steps = GroupSteps(self.rule)

    def _advance(self, gradients: Gradients) -> None:
        self._steps(self.param_groups, gradients, self.state, self.control)
        for p in gradients:  # created at once, as distributed loading fills only existing entries
            self.state[p].setdefault("radius", UNREAD)

    def _rewind(self) -> None:
        for state in self.state.values():
            state["step"] = 0

    def _forget(self) -> None:
        own = {"step", "radius", "multiplier", *rules.RULES[self.rule].slots}
        for p, state in self.state.items():
            self.state[p] = {key: value for key, value in state.items() if key not in own}

    def _radius(self, p: Tensor) -> float | None:
        return radius_in(self.state.get(p, {}))

    def _store(self, p: Tensor, radius: float) -> None:
        self.state[p]["radius"] = radius

    def _weights(self, p: Tensor) -> Tensor:
        refresh_master(p, self.state.get(p, {}))
        master: Tensor = self.state.get(p, {}).get("master", p.detach())
        return master

    def _readable(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        readable = super()._readable(state_dict)
        check_kind(self, self.rule, readable)
        check_shapes(self, readable, fits_rule)
        return readable

    def _loaded(self, state_dict: dict[str, Any]) -> None:
        restore(self, state_dict)


class AdamLawn(_RuleLawn):
    """Adam under LAWN (Algorithm 1); no weight decay in either phase.

    Args:
        params: parameters or param groups; a group's `constrained` overrules "two or more dimensions".
        lr: η, per step.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment; 1e-6 as in §4.
        free_steps: steps before the switch; 0 from the start, None when the loop calls `constrain()`.
        control: applied to the weights after the switch (`controls`): LAWN, or one of its relatives.

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
        control: Control = LAWN,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps}, free_steps, control)


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
        control: Control = LAWN,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps}, free_steps, control)


class SgdLawn(_RuleLawn):
    """SGD with heavy-ball momentum under LAWN; arguments as for `AdamLawn`, and momentum, 0.9 as in §4."""

    rule = "sgd"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.9,
        free_steps: int | None = None,
        control: Control = LAWN,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum}, free_steps, control)


class Lamb(Optimizer):
    """LAMB: Adam's direction plus decay, scaled to the norm of the tensor: w ← w − lr·(|w|/|u|)·u.

    Bias-corrected, without clipping, with the ratio on every tensor, 1-D ones included, with or without decay.

    Args:
        params: parameters or param groups.
        lr: η, per step: the length of a tensor's step relative to its norm.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.
        weight_decay: λ in u = r + λ·w, so inside the ratio.

    Source: §4, baseline; the variant is our choice.
    """

    rule: ClassVar[str] = "lamb"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        self._steps = GroupSteps(self.rule)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._steps = GroupSteps(self.rule)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group as torch does."""
        check_ranges(self, self.defaults | param_group)
        super().add_param_group(param_group)

    @_disable_dynamo
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Makes one step.

        Raises:
            ValueError: a gradient is sparse or complex; nothing was changed.
        """
        loss, gradients = evaluated(closure), gradients_of(self)
        reject_gradients(self, gradients)
        self._steps(self.param_groups, gradients, self.state)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a saved state bit for bit.

        Raises:
            ValueError: the state does not fit the parameters; nothing was changed.
        """

        def checked(given: dict[str, Any]) -> dict[str, Any]:
            check_kind(self, self.rule, given)
            check_shapes(self, given, fits_rule)
            return given

        load_state(self, super().load_state_dict, state_dict, checked, partial(restore, self))


class LambPlus(Lamb):
    """LAMB+ of Table 1 in our reading: `Lamb` with a ratio of at most 1, without ratio and decay for 1-D tensors."""

    rule = "lamb-plus"


RANGES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "lr": ("0 or more", lambda x: not isinstance(x, str) and float(x) >= 0),
    "eps": ("0 or more", lambda x: x >= 0),
    "weight_decay": ("0 or more", lambda x: x >= 0),
    "momentum": ("in [0, 1)", lambda x: 0 <= x < 1),
    "betas": ("two numbers in [0, 1)", lambda x: len(x) == 2 and all(0 <= beta < 1 for beta in x)),
    "constrained": ("True, False, or None for 'two or more dimensions'", lambda x: x in (True, False, None)),
}
"""Hyperparameter → its allowed values, as text and as a test."""


def check_ranges(optimizer: Optimizer, group: Mapping[str, Any]) -> None:
    """Raises ValueError if a hyperparameter of a group is out of its range."""
    if isinstance(group.get("lr"), Tensor) and group["lr"].numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    for name, (allowed, holds) in RANGES.items():
        try:
            good = name not in group or holds(group[name])
        except TypeError:  # no number at all
            good = False
        if not good:
            raise ValueError(f"{name} of {type(optimizer).__name__} must be {allowed}, got {group[name]!r}")


def check_kind(optimizer: Optimizer, rule: str, state_dict: Mapping[str, Any]) -> None:
    """Raises ValueError if a saved state lacks what an optimizer of this rule keeps, as that of another class does."""
    needed = [name for name in optimizer.defaults if name in RANGES and name != "constrained"]
    parts = [(needed, group, "param_groups") for group in state_dict["param_groups"]]
    moved = [entries for entries in state_dict["state"].values() if entries.get("step")]
    parts += [(list(rules.RULES[rule].slots), entries, "state of a parameter") for entries in moved]
    for names, found, place in parts:
        if not found.keys() >= set(names):
            raise ValueError(
                f"a state of {type(optimizer).__name__} must have {', '.join(names)} in its {place}, got "
                f"{', '.join(found)}; load it into an optimizer of the class that it was saved from"
            )
