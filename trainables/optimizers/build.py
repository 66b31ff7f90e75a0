"""The torch optimizer of a method, as its row writes it or of the class that its rule names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from trainables import optimizers
from trainables.catalogue.rows import Method
from trainables.optimizers import classes
from trainables.optimizers.controls import control_of
from trainables.optimizers.lawn import Lawn

NAMES: Mapping[str, Any] = {"torch": torch, **{name: getattr(optimizers, name) for name in optimizers.__all__}}
"""What a row's `face` may name besides parameters and hyperparameters."""


def torch_optimizer(
    method: Method, values: Mapping[str, float], params: Iterable[Any], *, free_steps: int | None = 0, **more: Any
) -> Optimizer:
    """Returns a method's optimizer over parameters, at its peak learning rate.

    Args:
        method: one with a `face`, or whose rule names a class.
        values: all its hyperparameters.
        params: parameters or param groups.
        free_steps: steps before the control begins; None for never.
        more: `hidden` and `others`, for a face that names them.
    """
    if method.rule.optimizer:
        base = classes.build(method.rule, values, params)
        if method.control is None:
            return base
        own = {name: values[name] for name in method.names("control") if name != method.switch}
        return Lawn(base, free_steps, control_of(method.control, own))
    names = {"params": list(params), "lr": values["peak_lr"], "free_steps": free_steps, **more}
    optimizer: Optimizer = eval(method.face, {**NAMES, **values, **names})  # rows are code: they name what is imported
    return optimizer
