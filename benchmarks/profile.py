"""Time of a training step by kind of operation: torch's profiler on recorded steps of K stacked models, one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.growth import stepper
from trainables.training.pack import Pack
from trainables.training.process_memory import keep_freed_memory

GROUPS: Mapping[str, Sequence[str]] = {
    "matrix products": ("aten::bmm", "aten::mm", "aten::addmm", "aten::baddbmm"),
    "embedding lookups and their gradients": (
        "aten::index_select",
        "aten::index_add_",
        "aten::embedding_dense_backward",
    ),
    "optimizer": ("optimizer",),
}
REST = "other operations and call overhead"
CASES = ((8, 16, 1000), (64, 16, 1000), (64, 1, 100_000))
"""Factors, K, batch size."""


def run(steps: int = 30) -> dict[str, Any]:
    """Measures seconds per step, and the share of each group of operations."""
    torch.set_num_threads(1)
    keep_freed_memory()
    return {
        f"ncf-{factors}, K = {size}, batch {batch}": _case(factors, size, batch, steps)
        for factors, size, batch in CASES
    }


def _case(factors: int, size: int, batch: int, steps: int) -> dict[str, Any]:
    pack, step = stepper(factors, size, batch)
    _name_update(pack)
    for _ in range(5):
        step()
    seconds = statistics.median(_timed(step) for _ in range(steps))
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(steps):
            step()
    own = {event.key: event.self_cpu_time_total * 1e-6 / steps for event in profiled.key_averages()}
    total = sum(own.values())
    shares = {group: sum(own.get(name, 0.0) for name in names) / total for group, names in GROUPS.items()}
    return {"seconds_per_step": seconds, "shares": shares | {REST: 1 - sum(shares.values())}}


def _name_update(pack: Pack) -> None:
    """Names the optimizer kernel, which is not a torch operation, in the profile."""
    update = pack._update

    def named(*args: Any) -> None:
        with record_function("optimizer"):
            update(*args)

    setattr(pack, "_update", named)  # noqa: B010 - mypy forbids assigning to a method


def _timed(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
