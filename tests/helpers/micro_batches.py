"""A model with running statistics, and steps of it by micro-batches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.tasks import CPU
from trainables import ranks
from trainables.catalogue.methods import METHODS
from trainables.training.pack import Pack


class Twice(nn.Module):
    """BatchNorm that a model uses twice, and one without a momentum, which counts."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mean, self.last = (
            nn.BatchNorm1d(5, momentum=0.3),
            nn.BatchNorm1d(5, momentum=None),
            nn.Linear(5, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.norm(self.norm(x).relu()))
        self.mean(x)
        return out


def build(model: nn.Module, rows: int = 1) -> Pack:
    values = {"weight_decay": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-3}
    hyper = {name: torch.full((rows, 1), value, dtype=torch.float64) for name, value in values.items()}

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")

    return Pack([model] * rows, METHODS["adam"], hyper, loss, constrain="all", device=CPU)


def steps(what: Pack, count: int, micro_batches: int) -> None:
    """Takes steps whose micro-batches this rank has its share of."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        x, y = torch.split(torch.randn(4 * micro_batches, 5, generator=generator) + 2, 4), torch.arange(4) % 3
        for start in ranks.shares(4 * micro_batches, 4):
            what.gradients((x[start // 4],), y, True, 1 / micro_batches, start // 4, micro_batches)
        what.apply(torch.zeros(what.size, 1, dtype=torch.float64))
