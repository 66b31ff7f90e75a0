"""The two phases of LAWN around any torch optimizer: the switch, the norms to hold, the contents of a checkpoint."""

from __future__ import annotations

import numbers
import sys
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from trainables.optimizers.controls import Control
from trainables.optimizers.loading import HALF, load_state
from trainables.optimizers.shards import gradient_of, local, sums_over

PHASE = ("free_steps", "steps", "phase")
"""Entries for the phase in every param group, equal in all: saved, copied and wrapped like a learning rate."""


UNREAD = -1.0
"""The "radius" of a parameter whose norm was not read yet; unlike NaN, it equals itself."""

Gradients = Mapping[Tensor, Tensor]
"""The gradient of each parameter that has one."""


class TwoPhase(Optimizer):
    """A torch optimizer that first trains without constraint and then holds the norm of each weight tensor (paper §3).

    Free until `free_steps` steps were made or the loop calls `constrain()`; constrained from then on. At the switch the
    norm of each tensor is read once and stored, and the moments and step count of every parameter are reset. Tensors
    with two or more dimensions are held; a param group's `constrained=True` or `False` overrides that for its tensors.

    The loop counts steps, not epochs: for E_free epochs, give E_free times the steps of an epoch. A step that
    `torch.amp.GradScaler` skips is not counted, nor is one without any gradient. The loop provides the learning-rate
    schedule, which spans both phases.

    The phase is in `param_groups`: "free_steps", "steps" made, and "phase" ("free" or "constrained").

    Args:
        params: as for every torch optimizer; a group may have `constrained`.
        defaults: default hyperparameters of groups.
        free_steps: steps before the switch: 0 constrains from the start, with the norms at the first step; None for a
            switch by `constrain()`.

    Raises:
        ValueError: free_steps is not a whole number >= 0, or a group has weight decay.

    Source: §3, "LAWN Implementation"; the choice of tensors, and resetting moments and count together, are ours.
    """

    control: Control

    def __init__(self, params: ParamsT, defaults: dict[str, Any], free_steps: int | None) -> None:
        free_steps = checked_free_steps(free_steps)
        phase = "constrained" if free_steps == 0 else "free"
        shared = {"constrained": None, "free_steps": free_steps, "steps": 0, "phase": phase}
        super().__init__(params, defaults | shared)

    @property
    def free_steps(self) -> int | None:
        """Steps before the switch; None for a switch by `constrain()`."""
        found: int | None = self.param_groups[0]["free_steps"]
        return found

    @property
    def constrained(self) -> bool:
        """Whether the next step is a constrained one."""
        return bool(self.param_groups[0]["phase"] == "constrained")

    @property
    def radii(self) -> dict[Tensor, Tensor]:
        """Maps each held parameter to its c, a scalar tensor in at least fp32; empty in the free phase.

        0 marks a tensor whose norm was zero at the switch: it has no direction, so it is not constrained.
        """
        if not self.constrained:
            return {}
        eligible, missing = self._eligible(), self._eligible(unread=True)
        read = dict(zip(missing, self._norms(missing), strict=True))
        values = ((p, read[p] if p in read else self._radius(p)) for p in eligible)
        return {p: torch.tensor(c, dtype=trained_dtype(p), device=p.device) for p, c in values}

    def constrain(self) -> None:
        """Ends the free phase: the next step is constrained. No effect in the constrained phase."""
        if not self.constrained:
            for group in self.param_groups:
                group["phase"] = "constrained"
            if self.control.resets:
                self._forget()
            self._store_radii(first=True)

    @_disable_dynamo
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Makes one step of the current phase, and switches after it if it was the last free one.

        Args:
            closure: computes the loss and its gradients; called once.

        Returns:
            The closure's loss, or None.

        Raises:
            ValueError: a gradient is sparse or complex; nothing was changed.
        """
        loss, gradients = evaluated(closure), gradients_of(self)
        reject_gradients(self, gradients)
        if not gradients:
            return loss
        if self._only_creates_state(gradients):
            self._advance(gradients)
            self._rewind()
            return loss
        if self.constrained:
            self._store_radii(first=self.param_groups[0]["steps"] == 0)
        self._advance(gradients)
        self._count()
        return loss

    def _count(self) -> None:
        for group in self.param_groups:
            group["steps"] += 1
        if self.free_steps is not None and self.param_groups[0]["steps"] >= self.free_steps:
            self.constrain()

    def _only_creates_state(self, gradients: Gradients) -> bool:
        """Whether this step only creates the state, as torch.distributed.checkpoint requires."""
        if any(self.state.get(p) for p in gradients) or any(float(group.get("lr", 1)) for group in self.param_groups):
            return False
        squares = [
            torch.stack(sums.squares([local(gradients[p]) for p in part])) for sums, part in sums_over(gradients)
        ]
        return not any(bool(part.any()) for part in squares)

    @abstractmethod
    def _advance(self, gradients: Gradients) -> None:
        """Makes one update of every parameter that has a gradient; those with a stored radius keep their norm."""

    @abstractmethod
    def _rewind(self) -> None:
        """Resets the step counts of every parameter to 0."""

    @abstractmethod
    def _forget(self) -> None:
        """Resets the moments and step counts of every parameter."""

    @abstractmethod
    def _radius(self, p: Tensor) -> float | None:
        """Returns the stored c of a parameter, or None if it was not read yet."""

    @abstractmethod
    def _store(self, p: Tensor, radius: float) -> None:
        """Stores the c of a parameter."""

    def _weights(self, p: Tensor) -> Tensor:
        """Returns the tensor that is updated for a parameter: itself or its master weights."""
        return p.detach()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group as torch does; in the constrained phase its norms are read at the next step."""
        reject_decay(self, param_group)
        if self.param_groups:
            param_group |= {key: self.param_groups[0][key] for key in PHASE}
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores phase, steps, stored norms and moments bit for bit; as in torch, saved values override current ones.

        Raises:
            ValueError: the state was saved by another kind of optimizer and so has no phase, or does not fit the
                parameters; nothing was changed.
        """
        load_state(self, super().load_state_dict, state_dict, self._readable, self._loaded)

    def _readable(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Returns a saved state in the current form."""
        return with_phase(self, state_dict)

    def _loaded(self, state_dict: dict[str, Any]) -> None:
        """Completes what torch has loaded."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("constrained", None)

    def _eligible(self, unread: bool = False) -> list[Tensor]:
        """Returns the parameters to hold; with `unread`, only those whose norm was not read yet."""
        pairs = [(p, group.get("constrained")) for group in self.param_groups for p in group["params"]]
        if unread:
            pairs = [(p, held) for p, held in pairs if self._radius(p) is None]
        chosen = (p for p, held in pairs if p.requires_grad and p.numel() and (p.dim() >= 2 if held is None else held))
        return unique(chosen)

    def _norms(self, params: list[Tensor]) -> list[float]:
        """Reads the norms of parameters, of whole tensors where they are sharded."""
        norms: dict[Tensor, float] = {}
        for sums, part in sums_over(params):
            weights = [local(self._weights(p)) for p in part]
            norms |= dict(zip(part, torch.stack(sums.norms(weights)).tolist(), strict=True))
        return [norms[p] for p in params]

    def _store_radii(self, first: bool) -> None:
        """Reads the norms that were not read yet; with `first`, warns if there is none to read."""
        new = self._eligible(unread=True)
        norms = self._norms(new)
        for p, norm in zip(new, norms, strict=True):
            self._store(p, norm)
        zero = [tuple(p.shape) for p, norm in zip(new, norms, strict=True) if norm == 0]
        if zero:
            warn(f"LAWN does not constrain tensors of norm zero: shapes {zero}")
        if first and not self._eligible():
            warn("LAWN constrains no tensor: none has two or more dimensions or constrained=True")


# --- helpers of all optimizers ----------------------------------------------------------------------------------------


def evaluated(closure: Callable[[], float] | None) -> float | None:
    """Returns the loss of a closure, called with gradients enabled."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def checked_free_steps(free_steps: Any) -> int | None:
    """Returns free_steps as an int or None; raises ValueError if it is neither."""
    if free_steps is None:
        return None
    if isinstance(free_steps, bool) or not isinstance(free_steps, numbers.Integral):
        raise ValueError(f"free_steps must be a whole number or None, got {free_steps!r}; epochs x steps per epoch")
    if free_steps < 0:
        raise ValueError(f"free_steps must be 0 or more, or None for 'when constrain() is called', got {free_steps}")
    return int(free_steps)


def checked_control(optimizer: Optimizer, control: Any) -> Control:
    """Returns the control; raises ValueError if it is none, such as a name or a class."""
    if not isinstance(control, Control):
        rule = "must be one of trainables.optimizers, such as LAWN, HYPERBALL or Cpr()"
        raise ValueError(f"control of {type(optimizer).__name__} {rule}, got {control!r}")
    return control


def with_phase(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Returns a saved state with the phase in its groups; versions before 2 stored it elsewhere.

    Raises:
        ValueError: the state has no phase.
    """
    groups = state_dict["param_groups"]
    if all(key in group for group in groups for key in PHASE):
        return state_dict
    if "lawn" not in state_dict:
        raise ValueError(
            f"a state of {type(optimizer).__name__} must have {', '.join(PHASE)} in its param_groups, got "
            f"{', '.join(groups[0]) if groups else 'no groups'}; without its phase a run cannot be resumed: save "
            "all of optimizer.state_dict()"
        )
    lawn = state_dict["lawn"]
    phase = {"free_steps": lawn["free_steps"], "steps": lawn["steps"]}
    phase["phase"] = "constrained" if lawn["constrained"] else "free"
    rest = {key: value for key, value in state_dict.items() if key not in ("lawn", "base")}
    return rest | {"param_groups": [group | phase for group in groups]}


def radius_in(entries: Mapping[str, Any]) -> float | None:
    """Returns c from the entries of a parameter's state, or None if it was not read yet."""
    radius: float = entries.get("radius", UNREAD)
    return None if radius == UNREAD else radius


def trained_dtype(p: Tensor) -> torch.dtype:
    """Returns the dtype in which a parameter is updated: its own, but at least fp32."""
    return torch.float32 if p.dtype in HALF else p.dtype


def multipliers(control: Control, kept: Sequence[dict[str, Any]], params: Sequence[Tensor]) -> list[Tensor]:
    """Returns the control's number of each parameter, 0 if missing; empty if the control has none."""
    if not control.multiplies:
        return []
    for entries, p in zip(kept, params, strict=True):
        entries.setdefault("multiplier", torch.zeros((), dtype=trained_dtype(p), device=p.device))
    return [entries["multiplier"] for entries in kept]


def reject_decay(optimizer: Optimizer, group: Mapping[str, Any]) -> None:
    """Raises ValueError if a group of a LAWN optimizer has weight decay, in either phase (§3)."""
    if group.get("weight_decay", 0) != 0:
        raise ValueError(
            f"{type(optimizer).__name__} uses no weight decay in either phase: weight_decay must be 0, got "
            f"{group['weight_decay']}; pass weight_decay=0"
        )


def reject_gradients(optimizer: Optimizer, gradients: Gradients) -> None:
    """Raises ValueError if a gradient is sparse or complex: a norm couples all rows, so every row is updated."""
    for p, grad in gradients.items():
        if grad.layout != torch.strided or grad.is_complex():
            raise ValueError(
                f"{type(optimizer).__name__} requires dense real gradients, got {grad.layout}, {grad.dtype} for a "
                f"parameter of shape {tuple(p.shape)}; build a sparse embedding with sparse=False"
            )


def gradients_of(optimizer: Optimizer) -> dict[Tensor, Tensor]:
    """Maps each parameter that has a gradient to it, in the order of the groups, each once."""
    everything = (p for group in optimizer.param_groups for p in group["params"])
    return {p: gradient_of(p) for p in everything if p.grad is not None}


def warn(text: str) -> None:
    """Warns at the current line of the user's code: the first frame outside torch and this package."""
    depth, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _ours(frame):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(text, stacklevel=depth)


def _ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).split(".")[0] == "torch" or __package__ in str(
        frame.f_globals.get("__name__", "")
    )


def unique(params: Iterable[Tensor]) -> list[Tensor]:
    """Returns each parameter once, as torch only warns about duplicates."""
    return list(dict.fromkeys(params))
