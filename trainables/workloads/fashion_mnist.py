"""Fashion-MNIST: 60,000 + 10,000 images of 28x28 pixels, ten classes of clothing."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.datasets.mnist import read_image_file, read_label_file

from trainables.data import DataError, fetch_command
from trainables.tasks import Task
from trainables.workloads.images import ImageWorkload, LabeledImages

CLASSES = 10


def build(task: Task, data_dir: Path, device: torch.device) -> ImageWorkload:
    """Returns the official test set, and a stratified tenth of the training set as validation (our choice).

    Args:
        task: what is trained.
        data_dir: folder that contains `FashionMNIST/raw`.
        device: where the data will be, as uint8.

    Raises:
        DataError: the files cannot be used; the message gives the reason.
    """
    train, validation = _read(data_dir, "train").hold_out(every=10)
    test = _read(data_dir, "t10k")
    return ImageWorkload(task, train=train, validation=validation, test=test, classes=CLASSES, device=device)


def _read(data_dir: Path, part: str) -> LabeledImages:
    """Reads the raw files alone: torchvision's class prefers what an old version of it left in `processed`."""
    raw = data_dir / "FashionMNIST" / "raw"
    try:
        images = read_image_file(str(raw / f"{part}-images-idx3-ubyte"))
        labels = read_label_file(str(raw / f"{part}-labels-idx1-ubyte"))
    except (ValueError, AssertionError, LookupError, OSError, TypeError, RuntimeError) as error:
        raise _damaged(data_dir, f"{type(error).__name__} {error}".strip()) from error
    if images.shape != (len(labels), 28, 28) or not len(labels):
        raise _damaged(data_dir, f"{len(labels)} labels for images of shape {list(images.shape)}")
    if not 0 <= int(labels.min()) <= int(labels.max()) < CLASSES:
        raise _damaged(data_dir, f"labels from {int(labels.min())} to {int(labels.max())}, not 0 to {CLASSES - 1}")
    return LabeledImages(images.unsqueeze(1), labels)


def _damaged(data_dir: Path, reason: str) -> DataError:
    command = fetch_command("fashion-mnist", data_dir)
    return DataError(f"{data_dir / 'FashionMNIST' / 'raw'} is damaged: {reason}. Fetch it again: `{command}`")
