"""Metrics as pure functions; every tensor may have leading dimensions, such as [R] stacked models."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trainables.catalogue.losses import ECE_BINS

MISSED = torch.iinfo(torch.int64).max
"""Rank of a positive whose score is NaN: last, for any number of candidates."""


def correct(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns whether the largest logit of each example is that of its target; outputs with a NaN are wrong.

    Args:
        outputs: logits [..., E, C].
        targets: class indices [E].

    Returns:
        Bool [..., E].
    """
    return (outputs.argmax(dim=-1) == targets) & ~outputs.isnan().any(dim=-1)


def correct_in_top(outputs: Tensor, targets: Tensor, k: int = 5) -> Tensor:
    """Returns whether the target's logit is among the k largest, ties counting against it; a NaN makes it wrong.

    Args:
        outputs: logits [..., E, C].
        targets: class indices [E].
        k: number of classes that count as right.

    Returns:
        Bool [..., E]; top-k accuracy is its percentage.
    """
    is_target = torch.arange(outputs.shape[-1], device=outputs.device) == targets.unsqueeze(-1)
    target = torch.where(is_target, outputs, 0.0).sum(dim=-1, keepdim=True)
    ahead = (~(outputs < target) & ~is_target).sum(dim=-1)
    return (ahead < k) & ~outputs.isnan().any(dim=-1)


def percentage(hits: Tensor) -> Tensor:
    """Returns 100 · mean(hits) over the last dimension: accuracy of `correct`, HR@k of `hit_at_k`.

    Args:
        hits: bool [..., E].

    Returns:
        Percent [...], fp64.
    """
    return 100 * hits.double().mean(dim=-1)


def rank_of_positive(scores: Tensor, valid: Tensor | None = None) -> Tensor:
    """Ranks the positive in column 0 among its negatives: the number of negatives not scored strictly below it.

    So a tie counts against the positive (our choice: a constant model scores 0, not 100), and so does a negative with
    score NaN. If the positive's score is NaN, the rank is `MISSED`.

    Args:
        scores: [..., E, 1 + N], the positive first.
        valid: bool [E, 1 + N], False at columns that pad a row with fewer negatives; None without padding.

    Returns:
        Ranks from 0, int64 [..., E].
    """
    positive, negatives = scores[..., :1], scores[..., 1:]
    ahead = ~(negatives < positive)
    if valid is not None:
        ahead &= valid[..., 1:]
    return ahead.sum(dim=-1).masked_fill(positive.squeeze(-1).isnan(), MISSED)


def hit_at_k(ranks: Tensor, k: int = 10) -> Tensor:
    """Returns whether each positive is among the first k: rank < k.

    Args:
        ranks: from 0, int64 [..., E].
        k: length of the recommended list.

    Returns:
        Bool [..., E]; HR@k is its percentage (paper §4.3, k = 10).
    """
    return ranks < k


def ndcg_at_k(ranks: Tensor, k: int = 10) -> Tensor:
    """Normalized discounted cumulative gain with one relevant item, 100 · mean(1 / log2(rank + 2) where rank < k).

    Args:
        ranks: from 0, int64 [..., E].
        k: length of the recommended list.

    Returns:
        Percent [...], fp64.
    """
    gain = 1 / torch.log2(ranks.double() + 2)
    return 100 * torch.where(ranks < k, gain, 0.0).mean(dim=-1)


def auc(scores: Tensor, valid: Tensor | None = None) -> Tensor:
    """Area under the ROC curve of each user's candidates, averaged: 100 · mean(P(positive > negative) + P(equal) / 2).

    A score that is NaN counts against the positive.

    Args:
        scores: [..., E, 1 + N], the positive first.
        valid: bool [E, 1 + N], False at columns that pad a row with fewer negatives; None without padding.

    Returns:
        Percent [...], fp64; a row without negatives counts as 50.
    """
    positive, negatives = scores[..., :1], scores[..., 1:]
    kept = torch.ones_like(negatives, dtype=torch.bool) if valid is None else valid[..., 1:].expand_as(negatives)
    won = ((negatives < positive) & kept).sum(dim=-1).double()
    tied = ((negatives == positive) & kept).sum(dim=-1).double()
    count = kept.sum(dim=-1)
    return 100 * torch.where(count > 0, (won + tied / 2) / count.clamp_min(1), 0.5).mean(dim=-1)


def multiclass_margin(outputs: Tensor, targets: Tensor) -> Tensor:
    """Logit margin, the logit of the target minus the largest other one (paper §2.1).

    Args:
        outputs: logits [..., E, C].
        targets: class indices [..., E] or [E].

    Returns:
        [..., E].
    """
    is_target = torch.arange(outputs.shape[-1], device=outputs.device) == targets.unsqueeze(-1)
    target = torch.where(is_target, outputs, 0.0).sum(dim=-1)
    return target - torch.where(is_target, -torch.inf, outputs).amax(dim=-1)


def binary_margin(outputs: Tensor, targets: Tensor) -> Tensor:
    """Logit margin of a binary problem, z for label 1 and -z for label 0 (paper §2.1).

    Args:
        outputs: logits [..., E].
        targets: labels 0 or 1, [..., E] or [E].

    Returns:
        [..., E].
    """
    return outputs * (2 * targets - 1)


class Calibration(NamedTuple):
    """A reliability diagram: number of predictions in each confidence bin, and the fraction that is correct.

    Args:
        examples: predictions in each bin, int64 [..., bins].
        confidence: their mean confidence, fp64 [..., bins]; NaN in an empty bin.
        accuracy: the fraction of them that is correct, fp64 [..., bins]; NaN in an empty bin.
    """

    examples: Tensor
    confidence: Tensor
    accuracy: Tensor


def calibration(confidence: Tensor, hits: Tensor, bins: int = ECE_BINS) -> Calibration:
    """Sorts predictions into the bins of `ece`, whose value is Σ_b (n_b / E) · |accuracy_b - confidence_b|.

    Args:
        confidence: probability of the predicted class, in [0, 1], [..., E].
        hits: whether the prediction is correct, bool [..., E].
        bins: number of equal-width bins.
    """
    p, index = confidence.double(), _bin(confidence, bins)
    inside = [index == b for b in range(bins)]
    count = torch.stack([mask.sum(dim=-1) for mask in inside], dim=-1)
    total = torch.stack([torch.where(mask, p, 0.0).sum(dim=-1) for mask in inside], dim=-1)
    right = torch.stack([(mask & hits).sum(dim=-1) for mask in inside], dim=-1)
    return Calibration(count, total / count, right.double() / count)


def ece(confidence: Tensor, hits: Tensor, bins: int = ECE_BINS) -> Tensor:
    """Expected calibration error, Σ_b (n_b / E) · |accuracy_b - confidence_b| over equal-width bins.

    Bin b contains the confidences in (b/bins, (b+1)/bins]; a confidence of exactly 0 belongs to the first.
    Source: the measure of the paper's Table 6; 15 bins are our choice.

    Args:
        confidence: probability of the predicted class, in [0, 1], [..., E].
        hits: whether the prediction is correct, bool [..., E].
        bins: number of bins.

    Returns:
        Fraction in [0, 1], [...], fp64.
    """
    p, index = confidence.double(), _bin(confidence, bins)
    # |n_b·acc_b - n_b·conf_b| / E is the absolute sum of (hit - p) over the bin: no division by zero if empty, and
    # summing bin by bin is deterministic on every device, unlike a scatter.
    gap = hits.double() - p
    parts = [torch.where(index == b, gap, 0.0).sum(dim=-1).abs() for b in range(bins)]
    return torch.stack(parts).sum(dim=0) / p.shape[-1]


def _bin(confidence: Tensor, bins: int) -> Tensor:
    inner = torch.arange(1, bins, device=confidence.device, dtype=torch.float64) / bins
    return torch.bucketize(confidence.double(), inner)
