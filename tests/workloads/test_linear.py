"""A linear layer with the examples last is the linear layer, with the gradients' memory in the order of its inputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.models.linear import examples_last

MODELS, EXAMPLES, INPUTS, OUTPUTS = 3, 50, 6, 4
DIMS: dict[str, tuple[int | None, int | None, int | None]] = {
    "all stacked": (0, 0, 0),
    "shared inputs": (None, 0, 0),
    "shared weights": (0, None, None),
    "stacked along the second": (1, 1, 1),
}


def whole(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Small whole numbers, whose products and sums are exact in any order, in bf16 too."""
    return torch.randint(-2, 3, shape).to(dtype)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(x, weight, bias).mT


def with_gradients(function: Callable[..., Tensor], given: list[Tensor], slopes: Tensor) -> list[Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in given]
    found = function(*leaves)
    return [found.detach(), *torch.autograd.grad((found.float() * slopes).sum(), leaves)]


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("dims", [None, *DIMS.values()], ids=["one", *DIMS])
def test_it_is_the_linear_layer(dims: tuple[int | None, ...] | None, autocast: bool) -> None:
    torch.manual_seed(0)
    given = [whole(EXAMPLES, INPUTS), whole(OUTPUTS, INPUTS), whole(OUTPUTS)]
    slopes = whole(OUTPUTS, EXAMPLES)
    ways: list[Callable[..., Tensor]] = [examples_last, linear]
    if dims is not None:
        given = [
            tensor if dim is None else torch.stack([tensor, tensor + 1, 1 - tensor], dim=dim)
            for tensor, dim in zip(given, dims, strict=True)
        ]
        slopes = whole(MODELS, OUTPUTS, EXAMPLES)
        ways = [torch.vmap(way, in_dims=dims) for way in ways]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found, expected = (with_gradients(way, given, slopes) for way in ways)
    assert found[0].dtype == (torch.bfloat16 if autocast else torch.float32)
    assert all(one.float().equal(other.float()) for one, other in zip(found, expected, strict=True))


def test_gradients_lie_in_memory_as_the_inputs_do() -> None:
    x, weight = torch.randn(EXAMPLES, INPUTS, requires_grad=True), torch.randn(OUTPUTS, INPUTS, requires_grad=True)
    found = examples_last(x, weight, torch.zeros(OUTPUTS))
    assert found.is_contiguous()
    assert all(gradient.is_contiguous() for gradient in torch.autograd.grad(found.sum(), [x, weight]))
