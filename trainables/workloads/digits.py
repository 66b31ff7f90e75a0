"""scikit-learn's digits: 1,797 images of 8x8 pixels, ten classes; installed with the package, nothing to fetch."""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits

from trainables.config import Task
from trainables.workloads.images import ImageWorkload, LabelledImages


def build(task: Task, data_dir: Path, device: torch.device) -> ImageWorkload:
    """Returns the digits with a fifth as test and a tenth of the rest as validation: 1,293 + 144 + 360 (our choice).

    Args:
        task: what is trained.
        data_dir: not read.
        device: where the data will live.
    """
    digits = load_digits()
    pixels = torch.from_numpy(digits.images).to(torch.uint8).unsqueeze(1)
    everything = LabelledImages(pixels, torch.from_numpy(digits.target).long())
    rest, test = everything.hold_out(every=5)
    train, validation = rest.hold_out(every=10)
    return ImageWorkload(task, train=train, validation=validation, test=test, classes=10, device=device)
