"""Both sides of the comparison train, on the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import pytest
from torch import nn

from benchmarks.image_steps import Case, measured
from trainables.models.resnet import ResNet50
from trainables.models.vgg import Vgg19

MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "vgg": partial(Vgg19, channels=3, size=32, classes=2, width=1),
    "resnet": partial(ResNet50, channels=3, classes=2, width=1, zero_init=True),
}


@pytest.mark.parametrize("name", MODELS)
def test_steps_of_both_sides_are_measured(name: str) -> None:
    found = measured(Case(MODELS[name], batch=2, pixels=32, classes=2), repeats=3)
    assert found["cpu_seconds"].keys() == {"pack", "plain loop"}
    assert all(times["n"] == 3 and times["min"] > 0 for times in found["cpu_seconds"].values())
    assert found["pack_over_loop"]["median"] > 0
