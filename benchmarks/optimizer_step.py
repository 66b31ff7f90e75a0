"""One constrained LAWN step and steps of common optimizers, on parameters of the size of VGG-19 (20 million)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any
from unittest import mock

import torch
from torch import nn

from benchmarks.measure import interleaved, ratio, summary
from trainables.optimizers import AdamLawn, Lamb, LambLawn, Lawn, SgdLawn, fused, gpu
from trainables.optimizers.phases import Gradients

SHAPES: list[tuple[int, ...]] = [(64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3), (128, 128, 3, 3), (256, 128, 3, 3)]
SHAPES += [(256, 256, 3, 3)] * 3 + [(512, 256, 3, 3)] + [(512, 512, 3, 3)] * 7 + [(100, 512)]


class WithoutKernels(AdamLawn):
    """AdamLawn without kernels of its own."""

    def _advance(self, gradients: Gradients) -> None:
        with (
            mock.patch.object(fused, "usable", return_value=False),
            mock.patch.object(gpu, "usable", return_value=False),
        ):
            super()._advance(gradients)


Parameters = list[nn.Parameter]
Build = Callable[[Parameters], torch.optim.Optimizer]


def run(repeats: int = 20) -> dict[str, Any]:
    """Measures the step of each optimizer on its own copy of the parameters, one thread."""
    torch.set_num_threads(1)
    fused.build_kernels()
    seconds = interleaved({name: stepper(build, torch.device("cpu")) for name, build in optimizers().items()}, repeats)
    compiled = seconds["AdamW fused"]
    foreach = seconds["AdamW foreach"]
    return {
        "parameters": sum(torch.Size(shape).numel() for shape in SHAPES),
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "ratio_to_fused": {name: ratio(values, compiled) for name, values in seconds.items() if values is not compiled},
        "ratio_to_foreach": {name: ratio(values, foreach) for name, values in seconds.items() if values is not foreach},
    }


def optimizers() -> Mapping[str, Build]:
    """Returns what is compared, by name."""
    builds: dict[str, Build] = {
        "AdamW fused": lambda p: torch.optim.AdamW(p, fused=True),
        "AdamW foreach": lambda p: torch.optim.AdamW(p, foreach=True),
        "AdamLawn free": lambda p: AdamLawn(p, lr=1e-3),
        "AdamLawn constrained": lambda p: AdamLawn(p, lr=1e-3, free_steps=0),
        "AdamLawn constrained, torch operations": lambda p: WithoutKernels(p, lr=1e-3, free_steps=0),
        "SgdLawn constrained": lambda p: SgdLawn(p, lr=1e-3, free_steps=0),
        "Lamb": lambda p: Lamb(p, lr=1e-3),
        "LambLawn constrained": lambda p: LambLawn(p, lr=1e-3, free_steps=0),
        "Lawn(AdamW fused) constrained": lambda p: Lawn(
            torch.optim.AdamW(p, weight_decay=0.0, fused=True), free_steps=0
        ),
    }
    return builds | _third_party()


def _third_party() -> dict[str, Build]:
    """Optimizers of other packages, if installed (`pip install adamp torch-optimizer`)."""
    found: dict[str, Build] = {}
    if find_spec("adamp"):
        from adamp import AdamP

        found["AdamP (adamp)"] = lambda p: AdamP(p, lr=1e-3)
    if find_spec("torch_optimizer"):
        from torch_optimizer import Lamb as TheirLamb

        found["Lamb (torch_optimizer)"] = lambda p: TheirLamb(p, lr=1e-3)
    return found


def stepper(build: Build, device: torch.device, shapes: Sequence[tuple[int, ...]] = SHAPES) -> Callable[[], object]:
    """Returns the step of an optimizer on its own copy of the parameters, after its first."""
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter((torch.randn(shape, generator=generator) * 0.05).to(device)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(device)
    optimizer = build(parameters)
    optimizer.step()
    return optimizer.step
