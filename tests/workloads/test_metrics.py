"""Metrics and losses against literal transcriptions of their formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainables.catalogue.losses import LOSSES
from trainables.losses import bce, cross_entropy, focal, loss_of
from trainables.metrics import (
    MISSED,
    auc,
    binary_margin,
    correct,
    correct_in_top,
    ece,
    hit_at_k,
    multiclass_margin,
    ndcg_at_k,
    percentage,
    rank_of_positive,
)

# Few distinct values, so that ties, bin borders and NaN are common.
SCORES = st.sampled_from([-1.0, 0.0, 0.5, 1.0, math.inf, -math.inf, math.nan])
CONFIDENCES = st.one_of(st.sampled_from([0.0, 1.0, *(k / 15 for k in range(1, 15))]), st.floats(0, 1))


def rows(values: st.SearchStrategy[Any], width: st.SearchStrategy[int]) -> st.SearchStrategy[list[list[Any]]]:
    return width.flatmap(lambda n: st.lists(st.lists(values, min_size=n, max_size=n), min_size=1, max_size=4))


def slow_rank(scores: list[float]) -> int:
    positive, negatives = scores[0], scores[1:]
    if math.isnan(positive):
        return MISSED
    return sum(not negative < positive for negative in negatives)


@given(rows(SCORES, st.integers(2, 14)), st.integers(1, 12))
def test_ranks_and_their_metrics_follow_the_formulas(scores: list[list[float]], k: int) -> None:
    ranks = rank_of_positive(torch.tensor(scores))
    expected = [slow_rank(row) for row in scores]
    assert ranks.tolist() == expected
    assert hit_at_k(ranks, k).tolist() == [rank < k for rank in expected]
    gains = [1 / math.log2(rank + 2) if rank < k else 0.0 for rank in expected]
    assert ndcg_at_k(ranks, k).item() == pytest.approx(100 * sum(gains) / len(gains))
    assert percentage(hit_at_k(ranks, k)).item() == pytest.approx(100 * sum(r < k for r in expected) / len(expected))


@given(rows(SCORES, st.integers(2, 14)))
def test_auc_counts_a_tie_as_half_and_a_nan_as_lost(scores: list[list[float]]) -> None:
    shares = [sum((n < p) + (n == p) / 2 for n in negatives) / len(negatives) for p, *negatives in scores]
    assert auc(torch.tensor(scores)).item() == pytest.approx(100 * sum(shares) / len(shares))


@given(rows(SCORES, st.integers(2, 7)), st.integers(1, 5), st.data())
def test_top_k_is_right_where_fewer_than_k_classes_are_not_below_the_target(
    logits: list[list[float]], k: int, data: st.DataObject
) -> None:
    targets = [data.draw(st.integers(0, len(row) - 1)) for row in logits]
    expected = [
        sum(not z < row[y] for j, z in enumerate(row) if j != y) < k and not any(map(math.isnan, row))
        for row, y in zip(logits, targets, strict=True)
    ]
    assert correct_in_top(torch.tensor(logits), torch.tensor(targets), k).tolist() == expected


@given(rows(SCORES, st.integers(2, 8)), st.data())
def test_padding_does_not_change_a_rank(scores: list[list[float]], data: st.DataObject) -> None:
    padded = torch.tensor([[*row, data.draw(SCORES), data.draw(SCORES)] for row in scores])
    valid = torch.ones_like(padded, dtype=torch.bool)
    valid[:, -2:] = False
    assert rank_of_positive(padded, valid).equal(rank_of_positive(torch.tensor(scores)))
    assert auc(padded, valid).equal(auc(torch.tensor(scores)))


def slow_ece(confidence: list[float], hits: list[bool], bins: int) -> float:
    total = 0.0
    for b in range(bins):
        inside = [i for i, p in enumerate(confidence) if b / bins < p <= (b + 1) / bins or (b == 0 and p == 0)]
        if inside:
            accuracy = sum(hits[i] for i in inside) / len(inside)
            average = sum(confidence[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - average)
    return total


@given(st.lists(st.tuples(CONFIDENCES, st.booleans()), min_size=1, max_size=30), st.sampled_from([1, 10, 15]))
def test_ece_follows_the_formula(examples: list[tuple[float, bool]], bins: int) -> None:
    confidence, hits = [p for p, _ in examples], [hit for _, hit in examples]
    got = ece(torch.tensor(confidence, dtype=torch.float64), torch.tensor(hits), bins)
    assert got.item() == pytest.approx(slow_ece(confidence, hits, bins), abs=1e-12)


def test_ece_of_a_diverged_model_is_not_a_number() -> None:
    assert ece(torch.tensor([0.5, math.nan]), torch.tensor([True, False])).isnan()


@given(rows(st.floats(-50, 50, width=32), st.integers(2, 5)), st.data())
def test_margins_and_hits_follow_the_formulas(logits: list[list[float]], data: st.DataObject) -> None:
    targets = [data.draw(st.integers(0, len(row) - 1)) for row in logits]
    outputs, labels = torch.tensor(logits), torch.tensor(targets)
    margins = [
        row[y] - max(v for c, v in enumerate(row) if c != y) for row, y in zip(outputs.tolist(), targets, strict=True)
    ]
    assert multiclass_margin(outputs, labels).tolist() == pytest.approx(margins, rel=1e-5, abs=1e-5)
    decided = [i for i, margin in enumerate(margins) if margin != 0]
    assert [correct(outputs, labels)[i].item() for i in decided] == [margins[i] > 0 for i in decided]
    signs = torch.tensor([float(y % 2) for y in targets])
    binary = [z if y % 2 else -z for z, y in zip(outputs[:, 0].tolist(), targets, strict=True)]
    assert binary_margin(outputs[:, 0], signs).tolist() == binary


def test_an_output_that_is_not_a_number_is_wrong_for_every_class() -> None:
    outputs = torch.full((3, 2), math.nan)
    assert not correct(outputs, torch.tensor([0, 1, 0])).any()


def test_a_leading_dimension_is_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, labels = torch.randn(3, 20, 5, generator=generator), torch.randint(5, (20,), generator=generator)
    confidence, hits = outputs.softmax(-1).amax(-1), correct(outputs, labels)
    both: list[tuple[Tensor, list[Tensor]]] = [
        (hits, [correct(row, labels) for row in outputs]),
        (multiclass_margin(outputs, labels), [multiclass_margin(row, labels) for row in outputs]),
        (ece(confidence, hits), [ece(p, hit) for p, hit in zip(confidence, hits, strict=True)]),
        (rank_of_positive(outputs), [rank_of_positive(row) for row in outputs]),
        (ndcg_at_k(rank_of_positive(outputs), 2), [ndcg_at_k(rank_of_positive(row), 2) for row in outputs]),
        (percentage(hits), [percentage(row) for row in hits]),
        (auc(outputs), [auc(row) for row in outputs]),
        (correct_in_top(outputs, labels, 2), [correct_in_top(row, labels, 2) for row in outputs]),
    ]
    for stacked, alone in both:
        assert stacked.equal(torch.stack(alone))


@given(rows(st.floats(-20, 20, width=32), st.integers(2, 4)), st.data())
def test_losses_follow_the_formulas(logits: list[list[float]], data: st.DataObject) -> None:
    targets = [data.draw(st.integers(0, len(row) - 1)) for row in logits]
    outputs = torch.tensor(logits)
    softmax = [math.log(sum(map(math.exp, row))) - row[y] for row, y in zip(logits, targets, strict=True)]
    assert cross_entropy(outputs, torch.tensor(targets)).tolist() == pytest.approx(softmax, abs=1e-4)
    labels = [float(y % 2) for y in targets]
    sigmoid = [math.log1p(math.exp(-z if y else z)) for (z, *_), y in zip(logits, labels, strict=True)]
    assert bce(outputs[:, 0], torch.tensor(labels)).tolist() == pytest.approx(sigmoid, abs=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_computed_in_fp32(name: str) -> None:
    outputs = torch.tensor([[0.1, 3.0]], dtype=torch.bfloat16)
    binary = LOSSES[name].targets == "binary"  # focal loss takes either
    outputs, target = (outputs[:, 1], torch.ones(1)) if binary else (outputs, torch.tensor([1]))
    assert loss_of(LOSSES[name])(outputs, target).dtype == torch.float32


@given(st.floats(-15, 15, width=32), st.sampled_from([0.0, 0.5, 2.0, 5.0]))
def test_focal_loss_is_one_formula_for_classes_and_labels(z: float, gamma: float) -> None:
    """A label is a class of two logits that differ by z; the literal form is in double precision."""
    p = 1 / (1 + math.exp(-z))
    expected = -math.pow(1 - p, gamma) * math.log(p)
    for label, sign in ((1.0, 1), (0.0, -1)):
        binary = focal(torch.tensor([sign * z]), torch.tensor([label]), gamma)
        classes = focal(torch.tensor([[0.3, 0.3 + sign * z]]), torch.tensor([int(label)]), gamma)
        assert binary.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert classes.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_focal_loss_has_finite_gradients_however_certain_the_model_is() -> None:
    """1 - p rounds to 0, where its square root has no derivative."""
    for logit in (-200.0, -30.0, 0.0, 30.0, 200.0):
        z, label = torch.tensor([[0.0, logit, -3.0]], requires_grad=True), torch.tensor([logit], requires_grad=True)
        total = focal(z, torch.tensor([1]), 0.5).sum() + focal(label, torch.ones(1), 0.5).sum()
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(total, [z, label]))


@given(rows(st.floats(-15, 15, width=32), st.integers(2, 5)), st.floats(0, 0.9))
def test_smoothed_labels_give_eps_to_the_other_classes(logits: list[list[float]], eps: float) -> None:
    """As torch's smoothing of eps·C/(C - 1), which gives a share to the target too; binary labels become 1 - eps."""
    outputs = torch.tensor(logits)
    classes = outputs.shape[1]
    targets = torch.arange(len(logits)) % classes
    theirs = F.cross_entropy(
        outputs, targets, reduction="none", label_smoothing=min(eps * classes / (classes - 1), 1.0)
    )
    if eps * classes <= classes - 1:
        torch.testing.assert_close(cross_entropy(outputs, targets, eps), theirs, rtol=1e-4, atol=1e-4)
    z, labels = outputs[:, 0], (targets % 2).float()
    soft = F.binary_cross_entropy_with_logits(z, labels * (1 - eps) + (1 - labels) * eps, reduction="none")
    torch.testing.assert_close(bce(z, labels, eps), soft, rtol=1e-4, atol=1e-4)
    assert torch.equal(bce(z, labels, 0.0), bce(z, labels))
