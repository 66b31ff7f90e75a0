"""CIFAR-10 and CIFAR-100: 50,000 + 10,000 color images of 32x32 pixels, in their binary and in their python version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.data import DataError, fetch_command
from trainables.tasks import Task
from trainables.workloads.images import ImageWorkload, LabeledImages
from trainables.workloads.plain_pickle import PickleError, load_plain

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
"""Bytes of an image: red, green and blue, each row by row."""

PADDING = 4
"""Pixels of the border of random crops (our choice; the usual one of CIFAR)."""

BATCH, FINE_BATCH = {b"data", b"labels"}, {b"data", b"fine_labels"}
"""What the dictionary of a python file holds of each image, with 10 classes and with 100."""


class Batch(NamedTuple):
    """Images as stored, uint8 [N, 3072], and their classes [N]."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


Read = Callable[[bytes], Batch]
"""Reads the content of a file; a ValueError says what is wrong with it."""


def build(task: Task, data_dir: Path, device: torch.device) -> ImageWorkload:
    """Returns the binary version with one byte for the class before each image (CIFAR-10).

    The official test set, and a stratified tenth of the training set as validation (our choice).

    Args:
        task: what is trained; of its data set's files the last one is the test set.
        data_dir: folder of the data sets.
        device: where the data will be, as uint8.

    Raises:
        DataError: a file cannot be used; the message gives the reason.
    """
    return _build(task, data_dir, device, lambda content: _records(content, labels=1))


def build_fine(task: Task, data_dir: Path, device: torch.device) -> ImageWorkload:
    """Returns the same with two bytes before each image, the second one for the class (CIFAR-100); see `build`."""
    return _build(task, data_dir, device, lambda content: _records(content, labels=2))


def build_pickled(task: Task, data_dir: Path, device: torch.device) -> ImageWorkload:
    """Returns the python version of either, whose files are pickled dictionaries; see `build` and `plain_pickle`."""
    return _build(task, data_dir, device, _pickled)


def _build(task: Task, data_dir: Path, device: torch.device, read: Read) -> ImageWorkload:
    row = task.dataset_row
    classes = row.shape.get("classes", 0)
    if len(row.files) < 2 or not classes:
        rule = "requires a file to train on, one to test on, and `classes` in its shape"
        raise DataError(f"data set '{row.name}' {rule}, got {len(row.files)} files and shape {dict(row.shape)}")
    parts = [_images(task, data_dir, data_dir / file.path, read, classes) for file in row.files]
    together = LabeledImages.joined(parts[:-1])
    train, validation = together.hold_out(every=10)
    return ImageWorkload(
        task, train=train, validation=validation, test=parts[-1], classes=classes, device=device, padding=PADDING
    )


def _images(task: Task, data_dir: Path, file: Path, read: Read, classes: int) -> LabeledImages:
    try:
        pixels, labels = read(file.read_bytes())
        if not len(labels):
            raise ValueError("it holds no image")
        if not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(f"classes from {labels.min()} to {labels.max()}, not 0 to {classes - 1}")
    except (OSError, ValueError) as error:
        command = fetch_command(task.dataset, data_dir)
        raise DataError(f"{file} is damaged: {error}. Fetch it again: `{command}`") from error
    return LabeledImages(torch.from_numpy(pixels.reshape(-1, *SHAPE)), torch.from_numpy(labels))


def _records(content: bytes, labels: int) -> Batch:
    """Reads records of `labels` bytes and one image; the last label is the class."""
    size = labels + PIXELS
    if len(content) % size:
        raise ValueError(f"its {len(content):,} bytes are no whole number of records of {size:,} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    return Batch(records[:, labels:].copy(), records[:, labels - 1].astype(np.int64))


def _pickled(content: bytes) -> Batch:
    """Reads a dictionary of Python 2 with an array of images and a list of classes."""
    try:
        found = load_plain(content)
    except PickleError as error:
        raise ValueError(str(error)) from error
    names = next((keys for keys in (BATCH, FINE_BATCH) if isinstance(found, dict) and keys <= found.keys()), None)
    if names is None:
        raise ValueError("it holds no dictionary with data and labels")
    (label_key,) = names - {b"data"}
    pixels, labels = found[b"data"], _whole(found[label_key])
    if not isinstance(pixels, np.ndarray) or pixels.shape != (len(labels), PIXELS):
        shape = list(pixels.shape) if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ValueError(f"{len(labels)} labels for images of shape {shape}, not [{len(labels)}, {PIXELS}]")
    return Batch(np.array(pixels), labels)


def _whole(labels: Any) -> NDArray[np.int64]:
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 256 for label in labels):
        raise ValueError("its labels are no list of whole numbers from 0 to 255")
    return np.array(labels, dtype=np.int64)
