"""Ten noisy patterns of 8x8 pixels, made from a fixed seed: trains in a second, for tests and first tries."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from trainables.tasks import Task
from trainables.workloads.images import ImageWorkload, LabeledImages

CLASSES = 10
SEED = 20_210_812
NOISE = 1.0
"""Standard deviation of the noise, in units of the standard deviation of the patterns."""


def build(task: Task, data_dir: Path, device: torch.device) -> ImageWorkload:
    """Returns 192 training, 64 validation and 64 test images.

    Args:
        task: what is trained.
        data_dir: unused.
        device: where the data will be.
    """
    generator = torch.Generator().manual_seed(SEED)
    patterns = torch.randn(CLASSES, 1, 8, 8, generator=generator)
    train, validation = _noisy(patterns, 256, generator).hold_out(every=4)
    test = _noisy(patterns, 64, generator)
    return ImageWorkload(task, train=train, validation=validation, test=test, classes=CLASSES, device=device)


def _noisy(patterns: Tensor, count: int, generator: torch.Generator) -> LabeledImages:
    labels = torch.arange(count) % CLASSES
    noise = torch.randn(count, *patterns.shape[1:], generator=generator)
    return LabeledImages(patterns[labels] + NOISE * noise, labels)
