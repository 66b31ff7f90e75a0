"""The learning-rate schedule of a method, built into its optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from trainables.training.schedules import lr_factor

STEP, PEAK = "schedule_step", "initial_lr"
"""Entries of every param group: steps made, and the peak rate; saved and restored with the optimizer's state."""


class Schedule:
    """Sets the rate of every param group before each step.

    Args:
        shape: "linear" or "cosine".
        warmup_steps: may be fractional.
        total_steps: of the whole training.
    """

    def __init__(self, optimizer: Optimizer, shape: str, warmup_steps: float, total_steps: int) -> None:
        self.optimizer, self.shape, self.warmup_steps, self.total_steps = optimizer, shape, warmup_steps, total_steps
        optimizer.register_step_pre_hook(self._before_step)

    @property
    def steps(self) -> int:
        """Steps made."""
        return int(self.optimizer.param_groups[0].get(STEP, 0))

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        step = self.steps
        if step >= self.total_steps:
            raise ValueError(
                f"optimizer.step() is called more than {self.total_steps} times, the steps_per_epoch given to "
                "trial.optimizer times trial.epochs; correct steps_per_epoch"
            )
        done, warmup = torch.tensor(step), torch.tensor(self.warmup_steps)
        factor = float(lr_factor(self.shape, done, warmup, self.total_steps))
        for group in optimizer.param_groups:
            group["lr"] = factor * group.setdefault(PEAK, group["lr"])
            group[STEP] = step + 1
