"""Losses of single examples, by their name in a search space; the training loop takes the mean over a batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Softmax cross-entropy, -log softmax(outputs)[target].

    Args:
        outputs: logits [B, C].
        targets: class indices [B], int64.

    Returns:
        Nats, [B].
    """
    return F.cross_entropy(outputs.float(), targets, reduction="none")


def bce(outputs: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of a logit z, -y log σ(z) - (1 - y) log(1 - σ(z)); the log loss of NCF.

    For a label of 0 or 1 this is log(1 + exp(±z)): softplus of z where y = 0, of -z where y = 1.

    Args:
        outputs: logits [B].
        targets: labels [B], 0 or 1, as floats.

    Returns:
        Nats, [B].
    """
    return F.softplus((1 - 2 * targets) * outputs.float(), threshold=30)  # beyond it, exp(-z) is lost in fp32 anyway
