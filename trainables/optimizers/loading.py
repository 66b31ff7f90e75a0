"""Loading of a saved optimizer state: checked before anything changes, in the precision in which it was saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

HALF = (torch.float16, torch.bfloat16)
Saved = dict[str, Any]
MOMENTS = {
    "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "exp_inf", "square_avg", "grad_avg", "acc_delta",
}  # fmt: skip
"""Entries that optimizers shape like the parameter, or reduce to one number per row or tensor."""
SCALARS = {"step", "radius", "multiplier"}
"""Entries of a parameter's state that are a single number."""
COUNTS = {"step": int, "radius": float}
"""Entries that are plain numbers; tensors in older and foreign states."""


def load_state(
    optimizer: Optimizer,
    load: Callable[[Saved], None],
    state_dict: Saved,
    readable: Callable[[Saved], Saved],
    loaded: Callable[[Saved], None],
) -> None:
    """Loads a state as torch does, between the user's hooks.

    Args:
        optimizer: the optimizer.
        load: its `load_state_dict` of torch.
        state_dict: the saved state.
        readable: converts the state after the user's hooks to the current form, or raises ValueError.
        loaded: called with the converted state after torch has loaded it.
    """
    final: Saved = {}

    def check(_: Optimizer, given: Saved) -> Saved:
        final.update(readable(given))
        return final

    # The first hook is registered last, to run after the user's hooks; the second one runs before them.
    before = optimizer.register_load_state_dict_pre_hook(check)
    after = optimizer.register_load_state_dict_post_hook(lambda _: loaded(final), prepend=True)
    try:
        load(state_dict)
    finally:
        before.remove()
        after.remove()


def check_shapes(optimizer: Optimizer, state_dict: Saved, fits: Callable[[str, Tensor, Tensor], bool]) -> None:
    """Raises ValueError if a saved tensor does not fit its parameter; nothing was changed.

    Args:
        optimizer: the optimizer to load it into.
        state_dict: the saved state.
        fits: whether an entry, by its name and value, fits a parameter.
    """
    for p, entries in _pairs(optimizer, state_dict):
        for name, value in entries.items():
            if isinstance(value, Tensor) and not fits(name, value, p):
                raise ValueError(
                    f"the saved '{name}' of {type(optimizer).__name__} has shape {tuple(value.shape)}, but its "
                    f"parameter has {tuple(p.shape)}; load the state into an optimizer of the model it was saved with, "
                    "or omit the parameters that changed"
                )


def fits_rule(name: str, value: Tensor, p: Tensor) -> bool:
    """Whether an entry of one of our rules fits: single numbers, and tensors shaped like the parameter."""
    return name in SCALARS or value.shape == p.shape


def fits_any(name: str, value: Tensor, p: Tensor) -> bool:
    """Whether an entry of any optimizer may fit: moments are shaped like the parameter, or one per row or tensor."""
    if name not in MOMENTS or value.shape == p.shape:
        return True
    return value.dim() in (0, p.dim()) and all(n in (1, m) for n, m in zip(value.shape, p.shape, strict=False))


def _pairs(optimizer: Optimizer, state_dict: Saved) -> list[tuple[Tensor, Mapping[str, Any]]]:
    """Pairs each parameter with its saved entries; empty if torch will reject the groups."""
    saved = [i for group in state_dict["param_groups"] for i in group["params"]]
    current = [p for group in optimizer.param_groups for p in group["params"]]
    if len(saved) != len(current):
        return []
    return [(p, state_dict["state"].get(i, {})) for i, p in zip(saved, current, strict=True)]


def restore(optimizer: Optimizer, state_dict: Saved) -> None:
    """Restores entries that torch rounded to a half-precision parameter's dtype, and counts as plain numbers."""
    for p, entries in _pairs(optimizer, state_dict):
        state = optimizer.state.get(p, {})
        if p.dtype not in HALF:
            state.pop("master", None)  # saved with a half-precision model, not needed for this one
        for name, value in entries.items():
            if name in COUNTS:
                state[name] = COUNTS[name](value)
            elif isinstance(value, Tensor) and p.dtype in HALF:
                state[name] = value.to(device=p.device, dtype=torch.float32, copy=True)
