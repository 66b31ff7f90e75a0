"""Losses of single examples, by their name in a search space; the training loop takes the mean over a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.catalogue.code import resolved
from trainables.catalogue.rows import Loss

LossFn = Callable[..., Tensor]
"""Outputs, targets and parameters by name → loss of each example [B]."""

Parameter = Tensor | float


def loss_of(row: Loss) -> LossFn:
    """Returns the loss of a row with the parameters that the row sets; the code it names is imported."""
    function: LossFn = resolved(row.function)
    return partial(function, **row.values) if row.values else function


def cross_entropy(outputs: Tensor, targets: Tensor, smoothing: Parameter | None = None) -> Tensor:
    """Softmax cross-entropy -Σ_k q_k log p_k, with q = 1 - ε on the target and ε/(C - 1) on each other class.

    Source: paper §2.3 for the smoothed labels; torch's `label_smoothing` of ε·C/(C - 1) is the same.

    Args:
        outputs: logits [B, C].
        targets: class indices [B], int64.
        smoothing: ε in [0, 1); None for 0.

    Returns:
        Nats, [B].
    """
    logs = outputs.float().log_softmax(dim=-1)
    target = logs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    if smoothing is None:  # F.cross_entropy, with the same bits: in a pack, torch would import sympy for it, 0.6 s
        return -target
    others = (logs.sum(dim=-1) - target) / (outputs.shape[-1] - 1)
    return -(1 - smoothing) * target - smoothing * others


def bce(outputs: Tensor, targets: Tensor, smoothing: Parameter | None = None) -> Tensor:
    """Binary cross-entropy of a logit z, -q log σ(z) - (1 - q) log(1 - σ(z)); the log loss of NCF.

    For a label of 0 or 1 this is log(1 + exp(±z)): softplus of z where y = 0, of -z where y = 1. Smoothed, q is 1 - ε
    for label 1 and ε for label 0.

    Args:
        outputs: logits [B].
        targets: labels [B], 0 or 1, as floats.
        smoothing: ε in [0, 1); None for 0.

    Returns:
        Nats, [B].
    """
    wrong = _softplus((1 - 2 * targets) * outputs.float())
    if smoothing is None:
        return wrong
    return (1 - smoothing) * wrong + smoothing * _softplus((2 * targets - 1) * outputs.float())


def focal(outputs: Tensor, targets: Tensor, gamma: Parameter) -> Tensor:
    """Focal loss -(1 - p)^γ log p with p the probability of the target; multiclass and binary, without α.

    Both in one form: p = σ(z), where z is the signed logit, or the target's logit minus the log-sum-exp of the others.
    Powers of 1 - p are taken as exp(γ log σ(-z)): a power of a difference that rounds to 0 has no finite gradient.
    Source: Lin et al., arXiv 1708.02002, eq. (4); paper §4.5.

    Args:
        outputs: logits, [B, C] of classes or [B].
        targets: class indices [B], int64, or labels [B], 0 or 1, as floats.
        gamma: γ >= 0; 0 is the cross-entropy.

    Returns:
        Nats, [B].
    """
    z = outputs.float()
    if outputs.dim() > targets.dim():
        is_target = torch.arange(z.shape[-1], device=z.device) == targets.unsqueeze(-1)
        z = torch.where(is_target, z, 0.0).sum(dim=-1) - torch.where(is_target, -torch.inf, z).logsumexp(dim=-1)
    else:
        z = (2 * targets - 1) * z
    return torch.exp(-gamma * _softplus(z)) * _softplus(-z)


def _softplus(z: Tensor) -> Tensor:
    return F.softplus(z, threshold=30)  # beyond it, exp(-z) is lost in fp32 anyway
