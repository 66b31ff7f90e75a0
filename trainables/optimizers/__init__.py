"""SGD, Adam, LAMB and LAWN: pure update rules, and torch optimizers for ordinary training loops."""

from trainables.optimizers.controls import (
    BOUNDED_NORM,
    HYPERBALL,
    LAWN,
    LAWN_FIXED,
    REPARAMETRIZED,
    AdamP,
    Control,
    Cpr,
    Sphere,
)
from trainables.optimizers.faces import AdamLawn, Lamb, LambLawn, LambPlus, SgdLawn
from trainables.optimizers.lawn import Lawn
from trainables.optimizers.native import build_kernels

__all__ = [
    "BOUNDED_NORM",
    "HYPERBALL",
    "LAWN",
    "LAWN_FIXED",
    "REPARAMETRIZED",
    "AdamLawn",
    "AdamP",
    "Control",
    "Cpr",
    "Lamb",
    "LambLawn",
    "LambPlus",
    "Lawn",
    "SgdLawn",
    "Sphere",
    "build_kernels",
]
