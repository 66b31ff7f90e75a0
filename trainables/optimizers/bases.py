"""Which optimizers LAWN can be put around, and how they are brought back to their start at the switch.

An optimizer keeps its moments in `state`, which the switch clears. Some also count in `param_groups` or in attributes:
what a base's own step changes there is its own count, and is put back to what it was when the base was built; what the
user or a scheduler changes stays.
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
"""Entry of a param group: the names of what the base's own steps have changed in it."""

DECAYS = ("lambd", "wd", "l1", "l2", "extra_l2", "lambda_1", "lambda_2")
"""Names under which optimizers pull weights toward zero, next to all that contain "weight_decay"."""

GRAPH = "needs the graph of the gradients, which a projection cuts"
MASKS = "draws the masks of its state when it is built, so that they cannot be reset at the switch"
REFUSED: Mapping[str, str] = {
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
"""Class → why it cannot be a base, where no rule below finds out."""

_ABSENT = object()


def reject_unsuitable(base: Optimizer, reserved: Collection[str]) -> None:
    """Raises ValueError if LAWN cannot be put around an optimizer, and says why.

    Args:
        base: the optimizer.
        reserved: entries of a param group that LAWN needs for itself.
    """
    name, reason = type(base).__name__, _unsuitable(base, reserved)
    if reason is not None:
        raise ValueError(f"Lawn needs a base that makes one update from one dense gradient, got {name}, which {reason}")
    for group in base.param_groups:
        reject_hidden_decay(name, group)


def _unsuitable(base: Optimizer, reserved: Collection[str]) -> str | None:
    if type(base).__name__ in REFUSED:
        return REFUSED[type(base).__name__]
    if inner := [key for key, value in vars(base).items() if isinstance(value, Optimizer)]:
        return f"wraps another optimizer ('{inner[0]}') and hides its state; put it around Lawn instead"
    if callable(getattr(base, "train", None)) and callable(getattr(base, "eval", None)):
        return "trains other weights than it evaluates (its train() and eval() swap them), and only one can be held"
    if taken := [key for key in reserved if key in base.defaults]:
        return f"keeps '{taken[0]}' in its param groups, where LAWN has its own"
    closure = inspect.signature(type(base).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        return "needs a closure, to evaluate the loss again within a step"
    if any(isinstance(state, Mapping) and "step" in state and state["step"] == 0 for state in base.state.values()):
        return (
            "makes its state when it is built, so that it cannot be reset at the switch; SGD, Adam, AdamW, NAdam, "
            "RAdam and RMSprop make it at their first step"
        )
    return None


def reject_hidden_decay(name: str, group: Mapping[str, Any]) -> None:
    """Raises ValueError if a param group asks for decay, under whatever name (§3)."""
    for key, value in group.items():
        if (key in DECAYS or "weight_decay" in key) and key not in group.get(COUNTS, ()) and _nonzero(value):
            raise ValueError(
                f"{name} uses no weight decay anywhere under LAWN, in either phase: {key} must be 0, got {value}; "
                f"pass {key}=0"
            )


def _nonzero(value: Any) -> bool:
    """Whether a number, or one of several, is not 0; a flag that says how to decay decays nothing itself."""
    if isinstance(value, list | tuple):
        return any(map(_nonzero, value))
    if isinstance(value, Tensor):
        return value.dtype != torch.bool and bool(value.any())
    return isinstance(value, int | float) and not isinstance(value, bool) and value != 0


@dataclass
class Start:
    """What a base was when it was built, besides its state.

    Args:
        groups: the entries of each param group, without its parameters, as the user or a scheduler set them last.
        seen: the same when they were last looked at; empty after loading, whose values nobody set.
        attributes: the base's own attributes that are plain values.
        changed: names of those that its steps have changed.
        known: names of the entries in its state after its last step; None before the first and after loading.
        foreign: names of those that somebody else put there, such as averages of the weights.
        aside: foreign entries, out of the way until the base has made its own state again.
    """

    groups: list[dict[str, Any]] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    known: set[str] | None = None
    foreign: set[str] = field(default_factory=set)
    aside: dict[Any, dict[str, Any]] = field(default_factory=dict)

    def note_new_groups(self, base: Optimizer) -> None:
        """Notes the param groups that were added since."""
        new, noted = base.param_groups[len(self.groups) :], len(self.groups)
        self.groups += [_entries(group) for group in new]
        if len(self.seen) == noted:
            self.seen += [_entries(group) for group in new]

    @contextmanager
    def watching(self, base: Optimizer) -> Iterator[None]:
        """Notes what a step of the base, made inside, changes of its groups and attributes."""
        if not self.attributes:
            self.attributes = _plain(vars(base))
        groups, attributes = [_entries(group) for group in base.param_groups], _plain(vars(base))
        self._note_settings(groups)
        if self.known is not None:
            self.foreign |= _names(base) - self.known
        try:
            yield
            self._bring_back(base)
            self.known = _names(base)
        finally:  # a step that fails may have counted
            self._note_counts(base, groups, attributes)

    def _note_settings(self, groups: list[dict[str, Any]]) -> None:
        """Notes what others set between two steps: a scheduler may share an entry with the base."""
        for start, seen, group in zip(self.groups, self.seen, groups, strict=False):
            start.update({key: value for key, value in group.items() if not _same(value, seen.get(key, _ABSENT))})

    def _bring_back(self, base: Optimizer) -> None:
        """Returns foreign entries where the base had its turn: many make their state only where there is none."""
        for p in [p for p in self.aside if base.state.get(p) or getattr(p, "grad", None) is not None]:
            base.state[p].update(self.aside.pop(p))

    def _note_counts(self, base: Optimizer, groups: list[dict[str, Any]], attributes: dict[str, Any]) -> None:
        self.seen = [_entries(group) for group in base.param_groups]
        for group, entries, before in zip(base.param_groups, self.seen, groups, strict=True):
            found = {key for key, value in entries.items() if not _same(value, before.get(key, _ABSENT))}
            if found - set(group.get(COUNTS, ())):
                group[COUNTS] = tuple(sorted(found.union(group.get(COUNTS, ()))))
        after = _plain(vars(base))
        self.changed |= {key for key, value in after.items() if not _same(value, attributes.get(key, _ABSENT))}

    def restore(self, base: Optimizer) -> None:
        """Puts the base's counts back, and forgets its state, but nothing that others keep there."""
        if self.known is not None:
            self.foreign |= _names(base) - self.known
        for p, state in base.state.items():
            if isinstance(state, dict) and (kept := {key: state[key] for key in self.foreign & state.keys()}):
                self.aside[p] = kept
        base.state.clear()
        self._put_back(base)

    def rewind(self, base: Optimizer) -> None:
        """Puts the base's counts back, those in its state too, whose moments stay."""
        for state in base.state.values():
            if isinstance(state, dict) and "step" in state:
                step = state["step"]
                state["step"] = torch.zeros_like(step) if isinstance(step, Tensor) else 0
        self._put_back(base)

    def _put_back(self, base: Optimizer) -> None:
        self._note_settings([_entries(group) for group in base.param_groups])
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


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    kinds = (bool, int, float, str, type(None), Tensor)
    return {
        key: _copied(value)
        for key, value in attributes.items()
        if isinstance(value, kinds) and not key.startswith(("_optimizer", "_opt_called", "_zero_grad", "_step_count"))
    }


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        both = isinstance(one, Tensor) and isinstance(other, Tensor)
        return both and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one is other or (type(one) is type(other) and one == other))
