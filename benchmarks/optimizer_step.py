"""One constrained Adam-LAWN step against torch's AdamW on parameters the size of VGG-19 (20 million), one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.measure import interleaved, ratio, summary
from trainables.optimizers import AdamLawn, Lawn

SHAPES: list[tuple[int, ...]] = [(64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3), (128, 128, 3, 3), (256, 128, 3, 3)]
SHAPES += [(256, 256, 3, 3)] * 3 + [(512, 256, 3, 3)] + [(512, 512, 3, 3)] * 7 + [(100, 512)]


def run(repeats: int = 20) -> dict[str, Any]:
    """Measures the step of each optimizer on its own copy of the parameters."""
    torch.set_num_threads(1)
    rivals = {
        "AdamW fused": lambda p: torch.optim.AdamW(p, fused=True),
        "AdamW foreach": lambda p: torch.optim.AdamW(p, foreach=True),
        "AdamLawn constrained": lambda p: _constrained(AdamLawn(p, lr=1e-3)),
        "Lawn(AdamW fused) constrained": lambda p: _constrained(
            Lawn(torch.optim.AdamW(p, weight_decay=0.0, fused=True))
        ),
    }
    seconds = interleaved({name: _stepper(build) for name, build in rivals.items()}, repeats)
    fused = seconds["AdamW fused"]
    return {
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "ratio_to_fused": {name: ratio(values, fused) for name, values in seconds.items() if values is not fused},
    }


def _stepper(build: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator) * 0.05) for shape in SHAPES]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer = build(parameters)
    optimizer.step()
    return optimizer.step


def _constrained(optimizer: AdamLawn | Lawn) -> torch.optim.Optimizer:
    optimizer.constrain()
    return optimizer
