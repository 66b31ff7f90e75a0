"""SGD, Adam, LAMB and LAWN: pure update rules, and the faces that ordinary training loops use."""

from trainables.optimizers.faces import AdamLawn, Lamb, LambLawn, SgdLawn
from trainables.optimizers.lawn import Lawn

__all__ = ["AdamLawn", "Lamb", "LambLawn", "Lawn", "SgdLawn"]
