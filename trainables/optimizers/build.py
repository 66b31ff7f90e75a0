"""The torch optimizer of a method, as its row writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from trainables import optimizers
from trainables.catalogue.rows import Method

NAMES: Mapping[str, Any] = {"torch": torch, **{name: getattr(optimizers, name) for name in optimizers.__all__}}
"""What a row's `face` may name besides parameters and hyperparameters."""


def torch_optimizer(
    method: Method, values: Mapping[str, float], params: Iterable[Any], *, free_steps: int | None = 0, **more: Any
) -> Optimizer:
    """Returns a method's optimizer over parameters, at its peak learning rate.

    Args:
        method: one with a `face`.
        values: all its hyperparameters.
        params: parameters or param groups.
        free_steps: steps before the control begins; None for never.
        more: `hidden` and `others`, for a face that names them.
    """
    names = {"params": list(params), "lr": values["peak_lr"], "free_steps": free_steps, **more}
    optimizer: Optimizer = eval(method.face, {**NAMES, **values, **names})  # rows are code: they name what is imported
    return optimizer
