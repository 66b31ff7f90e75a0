"""Which hyperparameters a torch optimizer class takes, by the names of its arguments."""

from __future__ import annotations

from collections.abc import Collection, Iterable

BETAS = ("beta1", "beta2")
"""Hyperparameters that a class takes as one argument, `betas`, unless it has arguments of these names."""

DECAY = "weight_decay"
"""Argument of an optimizer class that must be 0 under a control."""


def not_taken(names: Iterable[str], arguments: Collection[str]) -> set[str]:
    """Returns the hyperparameters that a class with these arguments does not take."""
    return set(names) - {*arguments, *(BETAS if "betas" in arguments else ())}
