"""The two phases of LAWN around any torch optimizer: when to switch, the norms to hold, what a checkpoint carries."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from trainables.optimizers import rules
from trainables.optimizers.layers import Layer

HALF = (torch.float16, torch.bfloat16)


class TwoPhase(Optimizer):
    """A torch optimizer that trains freely first and then holds the norm of each weight tensor (paper §3).

    Free until `free_steps` steps were made or the loop calls `constrain()`; constrained from then on. At the switch the
    norm of each tensor is read once and stored, and the moments and step count of every parameter start anew. Tensors
    with two or more dimensions are held; a param group's `constrained=True` or `False` overrules that for its tensors.

    The loop counts steps, not epochs: for E_free epochs, give E_free times the steps of an epoch. A step that
    `torch.amp.GradScaler` skips is none. The learning-rate schedule is the loop's own and spans both phases.

    Args:
        params: as for every torch optimizer; a group may carry `constrained`.
        defaults: hyperparameters of groups that do not give their own.
        free_steps: steps before the switch: 0 constrains from the start, with the norms of the first step; None leaves
            the switch to `constrain()`.

    Raises:
        ValueError: free_steps is no whole number >= 0, or a group has weight decay.

    Source: §3, "LAWN Implementation"; what is held, and resetting moments and count together, are our choice.
    """

    def __init__(self, params: ParamsT, defaults: dict[str, Any], free_steps: int | None) -> None:
        if free_steps is not None and (not isinstance(free_steps, int) or isinstance(free_steps, bool)):
            raise ValueError(f"free_steps must be a whole number or None, got {free_steps!r}; epochs x steps per epoch")
        if free_steps is not None and free_steps < 0:
            raise ValueError(
                f"free_steps must be 0 or more, or None for 'when constrain() is called', got {free_steps}"
            )
        self.free_steps = free_steps
        self._steps = 0
        self._constrained = free_steps == 0
        super().__init__(params, defaults)

    @property
    def constrained(self) -> bool:
        """Whether the next step is a constrained one."""
        return self._constrained

    @property
    def radii(self) -> dict[Tensor, Tensor]:
        """Maps each held parameter to its c, a scalar tensor in at least fp32; empty in the free phase.

        0 marks a tensor whose norm was zero at the switch: it has no direction to keep, so it trains freely.
        """
        return {p: self._radius(p).reshape(()).clone() for p in self._eligible()} if self._constrained else {}

    def constrain(self) -> None:
        """Ends the free phase: the next step is constrained. Without effect in the constrained phase."""
        if not self._constrained:
            self._constrained = True
            self._forget()
            self._store_radii()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Makes one step of the current phase, and switches after it if it was the last free one.

        Args:
            closure: computes the loss and its gradients anew; called once.

        Returns:
            The closure's loss, or None.

        Raises:
            ValueError: a gradient is sparse or complex; nothing was changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        reject_gradients(self)
        if self._constrained:
            self._store_radii()
        self._advance()
        self._steps += 1
        if self.free_steps is not None and self._steps >= self.free_steps:
            self.constrain()
        return loss

    @abstractmethod
    def _advance(self) -> None:
        """Makes one update of every parameter that has a gradient; those with a stored radius stay on their sphere."""

    @abstractmethod
    def _forget(self) -> None:
        """Returns the moments and step counts of every parameter to their start."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group as torch does; in the constrained phase its norms are read at the next step."""
        reject_decay(self, param_group)
        super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Returns torch's state dictionary with an entry "lawn": the phase and the steps made."""
        lawn = {"free_steps": self.free_steps, "steps": self._steps, "constrained": self._constrained}
        return super().state_dict() | {"lawn": lawn}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores phase, steps, stored norms and moments bit for bit; as ever in torch, what was saved wins.

        Raises:
            ValueError: the state was saved by another kind of optimizer, so it does not know its phase.
        """
        if "lawn" not in state_dict:
            raise ValueError(
                f"a state of {type(self).__name__} has the entries state, param_groups and lawn, got "
                f"{', '.join(state_dict)}; without its phase a run cannot be resumed: save optimizer.state_dict() whole"
            )
        super().load_state_dict(state_dict)
        restore_precision(self, state_dict)
        lawn = state_dict["lawn"]
        self.free_steps, self._steps, self._constrained = lawn["free_steps"], lawn["steps"], lawn["constrained"]

    def __getstate__(self) -> dict[str, Any]:
        phase = {"free_steps": self.free_steps, "_steps": self._steps, "_constrained": self._constrained}
        return super().__getstate__() | phase

    def _eligible(self) -> list[Tensor]:
        pairs = ((p, group.get("constrained")) for group in self.param_groups for p in group["params"])
        return [p for p, chosen in pairs if p.requires_grad and (p.dim() >= 2 if chosen is None else chosen)]

    def _radius(self, p: Tensor) -> Tensor:
        w = weights(p, self.state[p]).reshape(-1)
        stored: Tensor | None = self.state[p].get("radius")
        return rules.radii_of(w, one_layer(w)) if stored is None else stored

    def _store_radii(self) -> None:
        eligible = self._eligible()
        new = [p for p in eligible if "radius" not in self.state[p]]
        for p in new:
            self.state[p]["radius"] = self._radius(p)
        zero = [tuple(p.shape) for p in new if self.state[p]["radius"] == 0]
        if zero:
            warnings.warn(f"LAWN leaves tensors of norm zero free: shapes {zero}", stacklevel=3)
        if not eligible:
            warnings.warn("LAWN holds no tensor: none has two or more dimensions or constrained=True", stacklevel=3)


# --- helpers of every optimizer here ----------------------------------------------------------------------------------


def weights(p: Tensor, state: Mapping[str, Any]) -> Tensor:
    """Returns what the optimizer trains: the fp32 master copy of a half-precision parameter, else the parameter."""
    master: Tensor = state.get("master", p.detach())
    return master


def one_layer(w: Tensor, constrained: bool = True) -> tuple[Layer]:
    """Returns the layout of a flat vector that is a single tensor."""
    return (Layer("", 0, w.numel(), constrained),)


def reject_decay(optimizer: Optimizer, group: Mapping[str, Any]) -> None:
    """Raises ValueError if a group of a LAWN optimizer asks for weight decay, in either phase (§3)."""
    if group.get("weight_decay", 0) != 0:
        raise ValueError(
            f"{type(optimizer).__name__} uses no weight decay anywhere, in either phase: weight_decay must be 0, got "
            f"{group['weight_decay']}; pass weight_decay=0"
        )


def reject_gradients(optimizer: Optimizer) -> None:
    """Raises ValueError if a gradient is sparse or complex: a norm couples all rows, so every row moves."""
    for p, grad in gradients_of(optimizer).items():
        if grad.layout != torch.strided or grad.is_complex():
            raise ValueError(
                f"{type(optimizer).__name__} needs dense real gradients, got {grad.layout}, {grad.dtype} for a "
                f"parameter of shape {tuple(p.shape)}; build a sparse embedding with sparse=False"
            )


def restore_precision(optimizer: Optimizer, state_dict: Mapping[str, Any]) -> None:
    """Puts back saved tensors that torch has rounded to their parameter's dtype: fp32 masters, moments and radii."""
    saved = (i for group in state_dict["param_groups"] for i in group["params"])
    current = (p for group in optimizer.param_groups for p in group["params"])
    for i, p in zip(saved, current, strict=True):
        for key, value in state_dict["state"].get(i, {}).items():
            if isinstance(value, Tensor) and value.dtype != optimizer.state[p][key].dtype:
                optimizer.state[p][key] = value.to(p.device, copy=True)


def gradients_of(optimizer: Optimizer) -> dict[Tensor, Tensor]:
    """Maps each parameter that has a gradient to it, in the order of the groups, each once."""
    everything = (p for group in optimizer.param_groups for p in group["params"])
    return {p: p.grad for p in everything if p.grad is not None}
