"""Torch optimizer classes that a row names in place of a rule of ours: how one is found and what it is given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pkgutil import resolve_name
from typing import Any

from torch.optim import Optimizer

from trainables.catalogue.arguments import BETAS, not_taken
from trainables.catalogue.rows import Method, Rule


class OptimizerClassError(ValueError):
    """A class that is no optimizer that a training loop can use; the text names it."""


def class_of(rule: Rule) -> type[Optimizer]:
    """Returns the class of a rule; its module is imported.

    Raises:
        OptimizerClassError: there is none, or it is not an optimizer that a training loop can call.
    """
    name = rule.optimizer
    try:
        found = resolve_name(name)
    except (Exception, SystemExit) as error:
        raise OptimizerClassError(
            f"optimizer class {name} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Optimizer)):
        raise OptimizerClassError(f"optimizer class {name} must be a subclass of torch.optim.Optimizer, got {found!r}")
    if "lr" not in _parameters(found):
        raise OptimizerClassError(
            f"optimizer class {name} must take the argument lr, which the schedule sets before each step"
        )
    closure = inspect.signature(found.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise OptimizerClassError(
            f"optimizer class {name} must make its step without a closure, which its step() requires"
        )
    return found


def unused(method: Method) -> set[str]:
    """Returns the hyperparameters that the class of a method, if its rule names one, does not take as arguments."""
    if not method.rule.optimizer:
        return set()
    return not_taken(method.names("rule"), _parameters(class_of(method.rule)))


def build(rule: Rule, values: Mapping[str, float], params: Iterable[Any]) -> Optimizer:
    """Returns an optimizer of a rule's class.

    Args:
        values: hyperparameters, of which those are given that are arguments, whole numbers and flags as such where the
            default is one; `peak_lr` is the learning rate.
        params: parameters or param groups.
    """
    found = class_of(rule)
    make: Callable[..., Optimizer] = found
    parameters = _parameters(found)
    names = {row.name for row in rule.hyperparameters} & parameters.keys()
    given: dict[str, Any] = {name: _as_default(values[name], parameters[name].default) for name in names}
    if not names.issuperset(BETAS) and "betas" in parameters:
        default = parameters["betas"].default
        betas = list(default) if isinstance(default, tuple | list) else [0.9, 0.999]
        for i, name in enumerate(BETAS):
            betas[i] = values.get(name, betas[i])
        given["betas"] = tuple(betas)
    return make(list(params), **given, lr=values["peak_lr"])


def _parameters(found: type[Optimizer]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(found).parameters


def _as_default(value: float, default: object) -> float | int | bool:
    """Returns a value as a flag or a whole number where the default of its argument is one."""
    if isinstance(default, bool):
        return bool(value)
    return int(value) if isinstance(default, int) and value.is_integer() else value
