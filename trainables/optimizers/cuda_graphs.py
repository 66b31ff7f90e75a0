"""CUDA graphs of a device: operations that are captured once and then repeated by a single launch.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from trainables.optimizers.native import disabled

WARM_UP = 3
"""Runs before a capture, in which libraries allocate what they need once."""

Replay = Callable[[], None]


class Backend(Protocol):
    """A device that can repeat operations.

    Args:
        broken: a capture has failed, and there will be no more.
    """

    broken: bool

    def capture(self, run: Callable[[], list[Tensor]], warm_up: int = WARM_UP) -> tuple[Replay, list[Tensor]]:
        """Captures the operations of `run`.

        Args:
            run: launches them; returns their results.
            warm_up: calls of `run` before the one that is captured and so computes nothing.

        Returns:
            What repeats them on the same memory, and the results of `run`, which hold values after each repetition.

        Raises:
            Exception: whatever the device raises; what `run` changes in place may have changed by the warm-up.
        """
        ...

    def memory(self) -> tuple[int, int]:
        """Returns the free and the total memory of the device, bytes."""
        ...


@cache
def backend_of(device: torch.device) -> Backend | None:
    """Returns the graphs of a device, None for one that has none."""
    return Cuda(device) if device.type == "cuda" and not disabled() else None


class Cuda:
    """CUDA graphs, captured on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self.broken = False
        index = torch.cuda.current_device() if device.index is None else device.index
        self._device = torch.device("cuda", index)
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def memory(self) -> tuple[int, int]:
        """See `Backend`."""
        torch.cuda.empty_cache()  # as a capture does; what other graphs hold stays
        return torch.cuda.mem_get_info(self._device)

    def capture(self, run: Callable[[], list[Tensor]], warm_up: int = WARM_UP) -> tuple[Replay, list[Tensor]]:
        """See `Backend`."""
        gc.collect()  # what is collected during a capture would be part of it
        before = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(before)
        try:
            with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
                for _ in range(warm_up):
                    run()
                return self._captured(run)
        finally:
            before.wait_stream(self._stream)

    def _captured(self, run: Callable[[], list[Tensor]]) -> tuple[Replay, list[Tensor]]:
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        try:  # other threads may go on, as those that prepare batches
            with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
                results = run()
        except BaseException:
            self._leave(pool)
            raise
        return graph.replay, results

    def _leave(self, pool: Any) -> None:
        """Ends a capture that failed for the allocator and the default generator, which torch leaves in it."""
        with suppress(Exception):
            torch._C._cuda_endAllocateToPool(self._device.index, pool)
        with suppress(Exception):  # the next draw would raise: a copy of the same state is in no capture
            generator = torch.cuda.default_generators[self._device.index]
            generator.graphsafe_set_state(generator.clone_state())
