"""How much memory of its machine a job asks for: plain arithmetic over the pack, so that a driver needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainables.config import DATASETS, OPTIMIZERS, ModelConfig, Ncf, PackConfig, SmallVgg

MIB, GIB = 2**20, 2**30
FLOAT = 4

PROCESS = 880 * MIB
"""A worker without data and model: Python, torch and Ray (a process without Ray had a peak of 700 MB)."""

GPU_PROCESS = 1900 * MIB
"""The same with the libraries that drive a GPU (our choice, not measured)."""

COPIES = 3
"""Copies of weights and slots beside themselves: what an update and a checkpoint make on their way."""

SLOTS: Mapping[str, int] = {"sgd": 1, "adam": 2, "lamb": 2}
"""Buffers an update rule keeps, each as large as the weights."""


@dataclass(frozen=True)
class Sizes:
    """What memory depends on in a data set.

    Args:
        resident: bytes of the examples, with what is made of them when they are read and each epoch.
        channels, pixels: of images; `pixels` is their height and width.
        users, items: of interactions.
        classes: of images.
    """

    resident: int
    channels: int = 0
    pixels: int = 0
    users: int = 0
    items: int = 0
    classes: int = 10


DATA: Mapping[str, Sizes] = {
    "synthetic": Sizes(1 * MIB, channels=1, pixels=8),
    "digits": Sizes(1 * MIB, channels=1, pixels=8),
    "fashion-mnist": Sizes(350 * MIB, channels=1, pixels=28),
    "movielens-100k": Sizes(120 * MIB, users=943, items=1682),
}
"""Fashion-MNIST: 70,000 images, and floats of them once for their mean. MovieLens: an epoch's draws, and candidates."""


@dataclass(frozen=True)
class _Footprint:
    """Of one model: its weights, the floats all its layers put out for one example, and examples it evaluates at once.

    Args:
        kept: copies of `floats` that a training step holds at its height, for a row alone and for several at once.
    """

    weights: int
    floats: int
    evaluated: int
    kept: tuple[int, int]


FORWARD = 3
"""Copies of a layer's output while a model is evaluated, which happens row by row."""


def memory_need(pack: PackConfig, *, gpu: bool = False) -> int:
    """Returns the host memory to ask for, bytes, rounded up to a step so that the packs of a cell ask for the same.

    need = process + data + 4·(K·P·(2 + slots)·COPIES + K·B·A·kept + E·A·FORWARD); on a GPU process + data alone

    with K trials, P weights of one model, B the batch size, A the floats that all layers put out for one example and E
    the examples of one evaluation. It is meant to lie above what is used, and at most three times as high (our choice;
    the factors come from peaks of packs on a CPU, which tests/launching/test_memory_need.py takes again).
    """
    data = DATA[pack.task.dataset]
    if gpu:
        return step_above(GPU_PROCESS + data.resident)
    model, rows = _footprint(pack.task.model, data), len(pack.members)
    state = rows * model.weights * (2 + SLOTS[OPTIMIZERS[pack.task.optimizer].rule]) * COPIES
    kept = model.kept[0] if rows == 1 else model.kept[1]
    examples = DATASETS[pack.task.dataset].full_examples
    batch, evaluated = min(pack.task.batch_size, examples), min(model.evaluated, examples)
    floats = (rows * batch * kept + evaluated * FORWARD) * model.floats
    return step_above(PROCESS + data.resident + FLOAT * (state + floats))


def step_above(need: int) -> int:
    """Returns the least of 1, 1.5, 2, 3, 4, 6, 8, … GiB that is not below `need` bytes."""
    step = GIB
    while 3 * step // 2 < need:
        step *= 2
    return step if step >= need else 3 * step // 2


def _footprint(model: ModelConfig, data: Sizes) -> _Footprint:
    return _vgg(model, data) if isinstance(model, SmallVgg) else _ncf(model, data)


def _vgg(model: SmallVgg, data: Sizes) -> _Footprint:
    channels, width, side = data.channels, model.width, data.pixels
    weights, floats = 0, channels * side * side
    while side >= 4:
        weights += 9 * channels * width + 2 * width
        floats += width * side * side
        channels, width, side = width, 2 * width, side // 2
    weights += (channels * side * side + 1) * data.classes
    return _Footprint(weights, floats, evaluated=256, kept=(7, 10))


def _ncf(model: Ncf, data: Sizes) -> _Footprint:
    f = model.factors
    weights = 2 * f * (data.users + data.items) + (4 * f + 1) * 2 * f + (2 * f + 1) * f + f + 1
    return _Footprint(weights, floats=3 * f + 1, evaluated=25_600, kept=(5, 10))
