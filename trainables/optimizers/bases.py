"""Which optimizers LAWN can wrap, and how they are reset at the switch.

An optimizer keeps its moments in `state`, which the switch clears. Some also count in `param_groups` or in attributes:
values that the base's own step changes are counts and are reset to their values at construction; values that the user
or a scheduler changes stay.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

COUNTS = "counts"
"""Entry of a param group: the names of the entries that the base's own steps have changed."""

DECAYS = ("lambd", "wd", "l1", "l2", "extra_l2", "lambda_1", "lambda_2", "norm_loss_factor")
"""Names of options that pull weights toward zero or a norm, in addition to all that contain "weight_decay"."""

GRAPH = "needs the graph of the gradients, which a projection breaks"
MASKS = "draws the masks of its state at construction, so they cannot be reset at the switch"
REJECTED: Mapping[str, str] = {
    "LBFGS": "makes several updates from several gradients in one step",
    "AliG": "needs the loss in every step",
    "AdaHessian": GRAPH,
    "Adahessian": GRAPH,
    "SophiaH": GRAPH,
    "LOMO": "updates the weights inside the backward pass",
    "AdaLOMO": "updates the weights inside the backward pass",
    "SCIONLight": "keeps its momentum in the gradients",
    "SparseAdam": "takes sparse gradients only, and a projected gradient is dense",
    "SPAM": MASKS,
    "SaRA": MASKS,
}
"""Class → why it cannot be a base, where no check below detects it."""

_ABSENT = object()


def reject_unsuitable(base: Optimizer, reserved: Collection[str]) -> None:
    """Raises ValueError with the reason if LAWN cannot wrap an optimizer.

    Args:
        base: the optimizer.
        reserved: entries of a param group that LAWN uses itself.
    """
    name, reason = type(base).__name__, _unsuitable(base, reserved)
    if reason is not None:
        raise ValueError(f"Lawn needs a base that makes one update from one dense gradient, got {name}, which {reason}")
    for options in (vars(base), *base.param_groups):
        reject_hidden_decay(name, options)


def _unsuitable(base: Optimizer, reserved: Collection[str]) -> str | None:
    if type(base).__name__ in REJECTED:
        return REJECTED[type(base).__name__]
    if inner := [key for key, value in vars(base).items() if isinstance(value, Optimizer)]:
        return f"wraps another optimizer ('{inner[0]}') and hides its state; wrap Lawn with it instead"
    if callable(getattr(base, "train", None)) and callable(getattr(base, "eval", None)):
        return (
            "trains other weights than it evaluates (its train() and eval() swap them), and LAWN can hold only one set"
        )
    if taken := [key for key in reserved if key in base.defaults]:
        return f"uses '{taken[0]}' in its param groups, which LAWN uses as well"
    closure = inspect.signature(type(base).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        return "requires a closure to evaluate the loss again within a step"
    if any(isinstance(state, Mapping) and "step" in state and state["step"] == 0 for state in base.state.values()):
        return (
            "creates its state at construction, so it cannot be reset at the switch; SGD, Adam, AdamW, NAdam, "
            "RAdam and RMSprop create it at their first step"
        )
    return None


def reject_hidden_decay(name: str, options: Mapping[str, Any]) -> None:
    """Raises ValueError if a param group or an optimizer's attributes have decay under any name (§3)."""
    for key, value in options.items():
        if (key in DECAYS or "weight_decay" in key) and key not in options.get(COUNTS, ()) and _nonzero(value):
            raise ValueError(
                f"{name} must have no weight decay under LAWN in either phase: {key} must be 0, got {value}; "
                f"pass {key}=0"
            )


def _nonzero(value: Any) -> bool:
    """Whether a number, or one of several, is not 0; flags that select a kind of decay do not count."""
    if isinstance(value, list | tuple):
        return any(map(_nonzero, value))
    if isinstance(value, Tensor):
        return value.dtype != torch.bool and bool(value.any())
    return isinstance(value, int | float) and not isinstance(value, bool) and value != 0


@dataclass
class Start:
    """The values of a base at construction, except its state.

    Args:
        groups: the entries of each param group, without its parameters, as last set by the user or a scheduler.
        seen: the entries when last checked; empty after loading, as loaded values were set by nobody.
        attributes: the base's own attributes that are plain values.
        changed: names of the attributes that its steps have changed.
        known: names of the entries in its state after its last step; None before the first and after loading.
        foreign: names of entries that others added, such as averages of the weights.
        aside: foreign entries, stored here until the base has created its own state again.
    """

    groups: list[dict[str, Any]] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    known: set[str] | None = None
    foreign: set[str] = field(default_factory=set)
    aside: dict[Any, dict[str, Any]] = field(default_factory=dict)

    def record_new_groups(self, base: Optimizer) -> None:
        """Records param groups that were added since."""
        new, noted = base.param_groups[len(self.groups) :], len(self.groups)
        self.groups += [_entries(group) for group in new]
        if len(self.seen) == noted:
            self.seen += [_entries(group) for group in new]

    @contextmanager
    def watching(self, base: Optimizer) -> Iterator[None]:
        """Records what a step of the base inside the context changes in its groups and attributes."""
        if not self.attributes:
            self.attributes = plain_attributes(base)
        groups, attributes = [_entries(group) for group in base.param_groups], plain_attributes(base)
        self._record_settings(groups)
        if self.known is not None:
            self.foreign |= _names(base) - self.known
        try:
            yield
            self._return_foreign(base)
            self.known = _names(base)
        finally:  # a step that fails may have counted already
            self._record_counts(base, groups, attributes)

    def _record_settings(self, groups: list[dict[str, Any]]) -> None:
        """Records what others set between two steps: a scheduler may share an entry with the base."""
        for start, seen, group in zip(self.groups, self.seen, groups, strict=False):
            start.update({key: value for key, value in group.items() if not _same(value, seen.get(key, _ABSENT))})

    def _return_foreign(self, base: Optimizer) -> None:
        """Returns foreign entries after the base's step: many bases create state only where there is none."""
        for p in [p for p in self.aside if base.state.get(p) or getattr(p, "grad", None) is not None]:
            base.state[p].update(self.aside.pop(p))

    def _record_counts(self, base: Optimizer, groups: list[dict[str, Any]], attributes: dict[str, Any]) -> None:
        self.seen = [_entries(group) for group in base.param_groups]
        for group, entries, before in zip(base.param_groups, self.seen, groups, strict=True):
            counts = {key for key, value in entries.items() if not _same(value, before.get(key, _ABSENT))}
            if counts - set(group.get(COUNTS, ())):
                group[COUNTS] = tuple(sorted(counts.union(group.get(COUNTS, ()))))
        after = plain_attributes(base)
        self.changed |= {key for key, value in after.items() if not _same(value, attributes.get(key, _ABSENT))}

    def restore(self, base: Optimizer) -> None:
        """Resets the base's counts and clears its state, except entries that others keep there."""
        if self.known is not None:
            self.foreign |= _names(base) - self.known
        for p, state in base.state.items():
            if isinstance(state, dict) and (kept := {key: state[key] for key in self.foreign & state.keys()}):
                self.aside[p] = kept
        base.state.clear()
        self._put_back(base)

    def rewind(self, base: Optimizer) -> None:
        """Resets the base's counts, those in its state too; moments stay."""
        for state in base.state.values():
            if isinstance(state, dict) and "step" in state:
                step = state["step"]
                state["step"] = torch.zeros_like(step) if isinstance(step, Tensor) else 0
        self._put_back(base)

    def _put_back(self, base: Optimizer) -> None:
        self._record_settings([_entries(group) for group in base.param_groups])
        for group, start in zip(base.param_groups, self.groups, strict=True):
            _put_back(group, start, group.get(COUNTS, ()))
        self.seen = [_entries(group) for group in base.param_groups]
        _put_back(vars(base), self.attributes, self.changed)


def _names(base: Optimizer) -> set[str]:
    return {key for state in base.state.values() if isinstance(state, dict) for key in state}


def _put_back(values: MutableMapping[str, Any], start: Mapping[str, Any], names: Any) -> None:
    for key in names:
        if key in start:
            values[key] = copy.deepcopy(start[key])
        else:
            values.pop(key, None)


def _entries(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) for key, value in group.items() if key not in ("params", "param_names", COUNTS)}


def _copied(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else copy.deepcopy(value)


def plain_attributes(base: Optimizer) -> dict[str, Any]:
    """Returns the attributes of an optimizer that are numbers, texts or tensors, as copies."""
    kinds = (bool, int, float, str, type(None), Tensor)
    return {key: _copied(value) for key, value in vars(base).items() if isinstance(value, kinds)}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one is other or (type(one) is type(other) and one == other))
