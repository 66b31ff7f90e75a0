"""A pack of one model takes its gradients as a plain loop does: no operation more on anything as large as a layer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.catalogue.methods import METHODS
from trainables.models.resnet import ResNet50
from trainables.models.vgg import SmallVgg
from trainables.training.pack import Pack

LARGE = 2_000
"""Elements: more than a batch's logits have, less than a layer's weights."""


class LargeOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts by name the operations that fill a large tensor; a view fills none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        results = result if isinstance(result, list | tuple) else [result]
        large = any(isinstance(part, Tensor) and part.numel() >= LARGE for part in results)
        if large and not function.is_view:
            self.calls[function.name()] += 1
        return result


def small_vgg() -> nn.Module:
    return SmallVgg(channels=3, size=16, classes=10, width=32)


def resnet() -> nn.Module:
    return ResNet50(channels=3, classes=10, width=8, zero_init=False)


def example_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


@pytest.mark.parametrize("build", [small_vgg, resnet])
def test_a_step_alone_is_a_plain_loops(build: Any) -> None:
    torch.manual_seed(0)
    model = build().train()
    images, classes = torch.randn(4, 3, 16, 16), torch.arange(4)
    method = METHODS["adam"]
    hyper = {name: torch.zeros(1, 1, dtype=torch.float64) for name in ("weight_decay", "beta1", "beta2", "eps")}
    pack = Pack([model], method, hyper, example_loss, constrain="all", device=torch.device("cpu"))
    with LargeOperations() as plain:
        torch.autograd.backward(example_loss(model(images), classes).mean())
    with LargeOperations() as packed:
        pack.gradients((images,), classes, shared=True)
    assert packed.calls == plain.calls
    assert plain.calls["aten::convolution_backward"] > 1
