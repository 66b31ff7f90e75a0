"""Fashion-MNIST: 60,000 + 10,000 images of 28x28 pixels, ten classes of clothing."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.datasets import FashionMNIST

from trainables.config import Task
from trainables.data import missing_data
from trainables.workloads.images import ImageWorkload, LabelledImages


def build(task: Task, data_dir: Path, device: torch.device) -> ImageWorkload:
    """Returns the official test set, and a stratified tenth of the training set as validation (our choice).

    Args:
        task: what is trained.
        data_dir: folder that holds `FashionMNIST/raw`.
        device: where the data will live, as uint8.

    Raises:
        MissingDataError: the files are not there.
    """
    train, validation = _read(data_dir, train=True).hold_out(every=10)
    test = _read(data_dir, train=False)
    return ImageWorkload(task, train=train, validation=validation, test=test, classes=10, device=device)


def _read(data_dir: Path, *, train: bool) -> LabelledImages:
    try:
        files = FashionMNIST(root=str(data_dir), train=train, download=False)
    except RuntimeError as error:
        raise missing_data("fashion-mnist", data_dir) from error
    return LabelledImages(files.data.unsqueeze(1), files.targets.long())
