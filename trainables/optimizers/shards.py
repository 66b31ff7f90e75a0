"""Parameters that are sharded over processes (DTensor, as in FSDP2): their shards, and sums over all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainables.optimizers.lists import Sums


def is_sharded(x: Tensor) -> bool:
    """Whether a tensor is a DTensor, without importing torch.distributed."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def local(x: Tensor) -> Tensor:
    """Returns the shard of a tensor in this process; in-place changes apply to the tensor."""
    if not is_sharded(x):
        return x
    dtensor: Any = x.detach()
    part: Tensor = dtensor.to_local()
    return part


def gradient_of(p: Tensor) -> Tensor:
    """Returns the gradient of a parameter, sharded like the parameter."""
    grad: Any = p.grad
    if is_sharded(p) and tuple(grad.placements) != tuple(p.placements):  # type: ignore[attr-defined]
        grad = grad.redistribute(placements=p.placements)  # type: ignore[attr-defined]
    found: Tensor = grad
    return found


def sums_over(params: Iterable[Tensor]) -> Iterator[tuple[Sums, list[Tensor]]]:
    """Groups parameters by device, dtype and the processes that share them, with the sums of each group."""
    groups: dict[Any, list[Tensor]] = {}
    for p in params:
        groups.setdefault((p.device, p.dtype, _spread(p)), []).append(p)
    for (_, _, spread), part in groups.items():
        yield Sums(reduce=partial(_add_up, spread) if spread else None), part


def _spread(p: Tensor) -> tuple[Any, ...]:
    """Returns the process groups over which a tensor is sharded."""
    if not is_sharded(p):
        return ()
    dtensor: Any = p
    mesh = dtensor.device_mesh
    return tuple(mesh.get_group(i) for i, placement in enumerate(dtensor.placements) if placement.is_shard())


def _add_up(groups: tuple[Any, ...], sums: Tensor) -> None:
    for group in groups:
        torch.distributed.all_reduce(sums, group=group)
