"""Step → learning-rate factor in [0, 1]; one schedule across both LAWN phases."""

from __future__ import annotations

import torch
from torch import Tensor


def lr_factor(schedule: str, step: Tensor, warmup_steps: Tensor, total_steps: int) -> Tensor:
    """Returns the factor that multiplies the peak learning rate.

    Linear: f(s) = min((s + 1) / W, (T - s) / (T - W)); cosine: after W it is (1 + cos(pi (s - W) / (T - W))) / 2.
    The ramp starts from 0 *before* the first step and reaches 0 *after* the last, so no step is spent at rate 0.

    Args:
        schedule: "linear" or "cosine".
        step: steps done before this one, counted from 0; any shape.
        warmup_steps: W, steps; may be fractional or 0; broadcasts against `step`.
        total_steps: T, steps of the whole training, > every W.

    Returns:
        Factors in float64, of the broadcast shape.

    Source: paper §4 "Hyperparameters" (warm-up from 0, decay to 0); per step and the end points are our choice.
    """
    s, w = step.double(), warmup_steps.double()
    rise = ((s + 1) / w).clamp(max=1)
    if schedule == "linear":
        return torch.minimum(rise, ((total_steps - s) / (total_steps - w)).clamp(max=1))
    progress = ((s - w) / (total_steps - w)).clamp(0, 1)
    return torch.where(s < w, rise, (1 + torch.cos(torch.pi * progress)) / 2)
