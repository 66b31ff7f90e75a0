"""The public classes as torch optimizers, and a small network that they train."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from trainables.optimizers import AdamLawn, LambLawn, Lawn, SgdLawn
from trainables.optimizers.phases import TwoPhase

Face = Callable[..., TwoPhase]
FACES: dict[str, Face] = {"sgd": SgdLawn, "adam": AdamLawn, "lamb": LambLawn}
HYPER: dict[str, dict[str, float]] = {
    "sgd": {"momentum": 0.9},
    "adam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6},
    "lamb": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6},
}


def wrapped(params: Iterable[Any], lr: float = 1e-3, free_steps: int | None = None) -> Lawn:
    return Lawn(AdamW(params, lr=lr, eps=1e-6, weight_decay=0), free_steps)


ALL: dict[str, Face] = FACES | {"wrapper": wrapped}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.norm(self.conv(x)).relu().flatten(1)
        out: Tensor = self.linear(hidden)
        return out


def net(dtype: torch.dtype = torch.float32) -> Net:
    torch.manual_seed(3)
    return Net().to(dtype)


def backward(model: nn.Module, seed: int) -> None:
    p = next(model.parameters())
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 2, 4, 4, generator=generator, dtype=torch.float64).to(p.dtype)
    y = torch.randint(3, (8,), generator=generator)
    model.zero_grad()
    torch.autograd.backward(nn.functional.cross_entropy(model(x), y))


def train(model: nn.Module, optimizer: Optimizer, steps: Iterable[int]) -> None:
    for i in steps:
        backward(model, i)
        optimizer.step()


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def matrices(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.dim() >= 2]
