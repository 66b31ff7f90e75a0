"""Whether a second way to compute something does what the first does, to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Tensors = Sequence[Tensor]
Way = Callable[[Tensors], list[Tensor]]


def kinds(tensors: Tensors) -> tuple[tuple[torch.Size, tuple[int, ...], torch.dtype], ...]:
    """Returns shape, strides and dtype of each, on which the operations of a function of them depend."""
    return tuple([(tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors])


class Comparison(NamedTuple):
    """A call made both ways.

    Args:
        results: of the first way.
        same: whether the second gave the same bits; None if the results are not finite, which proves nothing.
        reason: why it did not.
    """

    results: list[Tensor]
    same: bool | None
    reason: str = ""


def both_ways(first: Way, second: Way, tensors: Tensors, changed: Tensors) -> Comparison:
    """Calls both from the same state; what the first did remains, whatever the second does or raises.

    Args:
        first, second: tensors → results.
        tensors: the arguments.
        changed: those of them that a call changes in place.
    """
    before = [tensor.clone() for tensor in changed]
    results = first(tensors)
    if not all(bool(tensor.isfinite().all()) for tensor in results):  # NaN equals nothing
        return Comparison(results, None)
    after = [tensor.clone() for tensor in changed]
    put(changed, before)
    try:
        others = second(tensors)
        same = all(map(torch.equal, [*results, *after], [*others, *changed]))
        return Comparison(results, same, "" if same else "it computes something else")
    except Exception as error:  # whatever it was, the first way works
        return Comparison(results, False, f"{type(error).__name__}: {error}")
    finally:
        put(changed, after)


def put(tensors: Tensors, values: Tensors) -> None:
    """Gives tensors new values, where they are."""
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
