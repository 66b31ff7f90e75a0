"""Training functions of users: `def train(trial: FunctionTrial) -> None`, each call in a process of its own."""

from trainables.functions.trial import FunctionTrial

__all__ = ["FunctionTrial"]
