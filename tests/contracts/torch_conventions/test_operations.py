"""The operations of a step as an accelerator would launch them: the same numbers, and few of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.conventions import PHASES, Case, assert_close, every, parameters, train
from trainables.optimizers import fused, lists


@contextmanager
def by_lists() -> Iterator[None]:
    """Takes the operations of an accelerator on the CPU: lists throughout, and no compiled kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "LIST_SUMS", True)
        patch.setattr(fused, "usable", lambda *_: False)
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every
def test_an_accelerators_operations_give_the_same(case: Case, dtype: torch.dtype) -> None:
    ps, plain = parameters(dtype), parameters(dtype)
    with by_lists():
        train(ps, case(ps), range(10))
    train(plain, case(plain), range(10))
    assert_close(ps, plain)


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that an accelerator would launch, and reads of single numbers, for which a program waits."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launches = self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = func is torch.ops.aten._local_scalar_dense.default
        self.reads += int(read)
        self.launches += int(not read and not func.is_view)
        return func(*args, **(kwargs or {}))


def operations(make: Callable[[list[Tensor]], Any]) -> Operations:
    """Counts those of a third step, over tensors as many as ResNet-50 has, of the same ranks and next to no size."""
    with torch.device("meta"):
        shapes = [p.shape for p in torchvision.models.resnet50().parameters()]
    ps: list[Tensor] = [nn.Parameter(torch.ones([min(n, 2) for n in shape])) for shape in shapes]
    optimizer = make(ps)
    for p in ps:
        p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.step()
    counted = Operations()
    with counted:
        optimizer.step()
    return counted


@pytest.mark.parametrize("phase", PHASES)
def test_a_step_takes_at_most_three_times_the_operations_of_adamw(phase: str) -> None:
    """And reads no number back, where AdamW reads its step counts, which lie on the CPU."""
    theirs = operations(lambda ps: AdamW(ps, lr=0.1, foreach=True))
    with by_lists():
        ours = operations(Case("adam-lawn", phase))
    assert theirs.launches > 5
    assert ours.launches <= 3 * theirs.launches
    assert ours.reads == 0
