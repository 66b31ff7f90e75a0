"""The processes that train one pack together, each on a GPU of its own: R ranks, and one where there is no group.

Every rank holds the whole pack and runs its share of a step's micro-batches; `summed` adds up all of them once a step,
in an order that does not depend on R. So every rank has the bits that one process would have, and what follows from
them (a switch, a divergence) needs no message. The rest is decided by rank 0, see `agreed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from trainables.tasks import LANES

TIMEOUT = timedelta(days=1)
"""How long a rank waits for another: one that ends is noticed by its parent, and one that hangs by the watchdog."""

Value = TypeVar("Value", bool, int)
Call = TypeVar("Call")


def count() -> int:
    """R, the number of ranks."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this process is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def joined(meeting: Path, rank: int, count: int, device: torch.device) -> Iterator[None]:
    """Makes this process one of `count` ranks.

    Args:
        meeting: a file on which they agree where to reach each other; does not exist before.
        device: that of this rank; sums travel between GPUs by NCCL, else by gloo.
    """
    backend, bound = ("nccl", device) if device.type == "cuda" else ("gloo", None)
    dist.init_process_group(backend, f"file://{meeting}", timeout=TIMEOUT, rank=rank, world_size=count, device_id=bound)
    if backend == "gloo":
        dist.barrier()  # one that has nothing to do and ends could not be reached by those that still connect
    yield
    dist.destroy_process_group()  # not after an error: others may never leave


def shares(examples: int, micro_batch: int) -> range:
    """Returns where the micro-batches of this rank begin in a step of the given examples: r, r + R, ...

    A step of a single micro-batch is computed by every rank, which takes no longer and needs no sum.
    """
    starts = range(0, examples, micro_batch)
    return starts if len(starts) == 1 else starts[rank() :: count()]


def summed(lanes: Mapping[int, Sequence[Tensor]], nothing: Sequence[Tensor]) -> list[Tensor]:
    """Returns the sum of all lanes of all ranks, the same on each.

    Lanes are added in pairs: i and i + 4, then i and i + 2, then 0 and 1. Those of one rank are R apart, so its own
    sums come first, and the ranks' are added in the same order.

    Args:
        lanes: number of a lane → tensors; of this rank, those from its own number on.
        nothing: zeros of their shapes, for a rank without a lane.
    """
    sums = {lane: list(tensors) for lane, tensors in lanes.items()}
    stride = LANES // 2
    while stride >= count():
        for lane in [lane for lane in sums if lane >= stride]:
            sums[lane - stride] = list(torch._foreach_add(sums[lane - stride], sums.pop(lane)))
        stride //= 2
    own = sums.get(rank(), nothing)
    if count() == 1:
        return list(own)
    flat = _exchanged(torch.cat([tensor.reshape(-1) for tensor in own]))
    parts = flat.split_with_sizes([tensor.numel() for tensor in own])
    return [part.view_as(tensor) for part, tensor in zip(parts, own, strict=True)]


def _exchanged(flat: Tensor) -> Tensor:
    """Returns the sum of a vector over all ranks: each adds up one part of it and sends that to the others.

    As much travels as in an all-reduce, whose order is the library's.
    """
    padded = F.pad(flat, (0, -len(flat) % count()))
    pieces = torch.empty_like(padded)
    dist.all_to_all_single(pieces, padded)
    terms = list(pieces.view(count(), -1))
    while half := len(terms) // 2:
        terms = [one + other for one, other in zip(terms[:half], terms[half:], strict=True)]
    dist.all_gather(list(padded.view(count(), -1)), terms[0])
    return padded[: len(flat)]


def agreed(*values: Value, device: torch.device) -> list[Value]:
    """Returns the values of rank 0."""
    if count() == 1:
        return list(values)
    sent = torch.tensor([int(value) for value in values], device=device)
    dist.broadcast(sent, src=0)
    return [type(value)(found) for value, found in zip(values, sent.tolist(), strict=True)]


def own(calls: Sequence[Call]) -> Sequence[Call]:
    """Returns the calls that this rank computes in `divided`, in their order."""
    return calls if len(calls) < count() else calls[rank() :: count()]


def divided(function: Callable[..., Tensor], calls: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    """Returns `function(*call)` of every call, each computed by one rank and sent to all.

    Args:
        function: maps tensors [B, ...] to values [K, B, ...].
        calls: its arguments; fewer of them than ranks are computed by every rank.
    """
    if count() == 1 or len(calls) < count():
        return [function(*call) for call in calls]
    found = torch.cat([function(*call) for call in own(calls)], dim=1)
    lengths = [[len(call[0]) for call in calls[i :: count()]] for i in range(count())]
    padded = found.new_zeros(len(found), max(map(sum, lengths)), *found.shape[2:])
    padded[:, : found.shape[1]] = found
    every = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(every, padded)
    cut = [torch.split(values[:, : sum(sizes)], sizes, dim=1) for values, sizes in zip(every, lengths, strict=True)]
    return [cut[i % count()][i // count()] for i in range(len(calls))]
