"""CPU seconds of a step of VGG-19 and ResNet-50, in a pack of one and in a loop of plain PyTorch; one thread.

Both train by AdamW on random images, and compute the loss and the norm of the gradient of each step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.measure import ratio, summary
from benchmarks.steps import Images, channels_last, pack_of, plain_loop, step_of
from trainables.losses import cross_entropy
from trainables.models.resnet import ResNet50
from trainables.models.vgg import Vgg19
from trainables.optimizers import build_kernels
from trainables.training.process_memory import keep_freed_memory

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A model, and the images of a step."""

    build: Callable[[], nn.Module]
    batch: int
    pixels: int
    classes: int


CASES: Mapping[str, Case] = {
    "VGG-19, batch 128, 32 x 32 pixels": Case(partial(Vgg19, channels=3, size=32, classes=10, width=64), 128, 32, 10),
    "ResNet-50, batch 32, 128 x 128 pixels": Case(
        partial(ResNet50, channels=3, classes=1000, width=64, zero_init=True), 32, 128, 1000
    ),
}


def run(repeats: int = 9) -> dict[str, Any]:
    """Measures each model."""
    torch.set_num_threads(1)
    keep_freed_memory()
    build_kernels()
    return {name: measured(case, repeats) for name, case in CASES.items()}


def measured(case: Case, repeats: int) -> dict[str, Any]:
    """Returns CPU seconds of both sides' steps, after four of each, and their ratio."""
    images = Images(4 * case.batch, case.batch, CPU, case.pixels, case.classes)
    torch.manual_seed(0)
    pack = pack_of([case.build()], cross_entropy, CPU, "float32", "adam")
    sides: dict[str, Callable[[], object]] = {
        "pack": replace(step_of(pack, *images.next()), batches=images.next),
        "plain loop": plain_loop(channels_last(case.build(), CPU), images, norm=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(-4, repeats):
        for name, step in sides.items():
            start = time.thread_time()
            step()
            if repeat >= 0:
                seconds[name].append(time.thread_time() - start)
    return {
        "cpu_seconds": {name: summary(values) for name, values in seconds.items()},
        "pack_over_loop": ratio(seconds["pack"], seconds["plain loop"]),
    }
