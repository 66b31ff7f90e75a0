"""What is measured is measured in fp32, in whatever precision a pack trains."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.helpers.tasks import CPU, pack, point, task, training
from trainables.catalogue.methods import METHODS
from trainables.losses import bce, cross_entropy
from trainables.metrics import hit_at_k, rank_of_positive
from trainables.models.ncf import Ncf
from trainables.training.loop import Training
from trainables.training.measure import margin_series
from trainables.training.pack import Pack

ITEMS = 100
SGD = {name: torch.zeros(1, 1, dtype=torch.float64) for name in ("weight_decay", "momentum")}
EVERY_ITEM = torch.zeros(ITEMS, dtype=torch.int64), torch.arange(ITEMS)


def collapsed() -> Ncf:
    """A net whose scores of items 0, 1, … fall from 8 in steps of 2^-14; a step of bf16 below 8 is 2^-5."""
    model = Ncf(users=1, items=ITEMS, factors=1, init="xavier")
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.item_embedding.weight[:, 0] = -torch.arange(ITEMS) / 2**14
        model.hidden1.weight[0, 2] = model.hidden2.weight[0, 0] = model.output.weight[0, 0] = 1
        model.hidden1.bias[0] = 8
    return model


def nets(count: int, precision: str) -> Pack:
    models = [collapsed() for _ in range(count)]
    return Pack(models, METHODS["sgd"], SGD, bce, constrain="all", device=CPU, precision=precision)


@pytest.mark.parametrize("count", [1, 3], ids=["solo", "stacked"])
def test_a_nearly_collapsed_net_is_ranked_in_fp32(count: int) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        tied = collapsed()(*EVERY_ITEM).detach().float()
    assert len(tied.unique()) == 1
    assert not hit_at_k(rank_of_positive(tied)).any()
    scores = nets(count, "bfloat16").predict(*EVERY_ITEM)
    assert scores.dtype == torch.float32
    assert all(len(row.unique()) == ITEMS for row in scores)
    assert rank_of_positive(scores).tolist() == [0] * count
    assert scores.equal(nets(count, "float32").predict(*EVERY_ITEM))


def test_measures_depend_on_weights_and_not_on_the_precision_of_training() -> None:
    points = [point("adam-lawn", free_epochs=0.5), point("adam-lawn", free_epochs=2.0)]
    trained, other = (training(pack(task(precision=p), points)) for p in ("bfloat16", "float32"))
    trained.run_epoch()
    other.run_epoch()
    assert not trained.pack.state.weights.equal(other.pack.state.weights), "bf16 trains otherwise"
    other.pack.state = trained.pack.state

    def measures(run: Training) -> list[Tensor]:
        evaluation = run.workload.evaluate(run.pack.predict, "test")
        assert evaluation.confidence is not None
        return [*margin_series(run.pack.predict, run.workload).values(), evaluation.hits, evaluation.confidence]

    for one, same in zip(measures(trained), measures(other), strict=True):
        assert one.equal(same)


@pytest.mark.parametrize("rows", [1, 3])
def test_batch_normalization_of_a_stack_is_in_fp32_and_returns_what_it_was_given(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA's backward pass without a scale, which vmap takes out, refuses bf16 with fp32 statistics."""
    seen = []

    def noted(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        seen.append(x.dtype)
        return normalize(x, *arguments, **options)

    normalize = functional.batch_norm
    monkeypatch.setattr(functional, "batch_norm", noted)
    models = [nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), Noting(seen)) for _ in range(rows)]
    numbers = {name: values.expand(rows, 1).clone() for name, values in SGD.items()}
    stack = Pack(
        models, METHODS["sgd"], numbers, cross_entropy, constrain="all", device=CPU, precision="bfloat16"
    )  # fmt: skip
    stack.gradients((torch.randn(8, 3),), torch.randint(4, (8,)), shared=True)
    assert seen == [torch.bfloat16 if rows == 1 else torch.float32, torch.bfloat16]


class Noting(nn.Flatten):
    """Notes the dtypes that it is given."""

    def __init__(self, seen: list[torch.dtype]) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.dtype)
        return super().forward(x)

    def __deepcopy__(self, memo: object) -> Noting:
        return Noting(self.seen)
