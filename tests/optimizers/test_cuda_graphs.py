"""CUDA's graphs: the calls that CUDA gets, here a fake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from trainables.optimizers import cuda_graphs


class FakeCuda:
    """Notes what `Cuda` asks of torch, which here has no device.

    Args:
        fails: whether a capture does at its end.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: bool = False) -> None:
        self.calls: list[str] = []
        self._stream = "main"
        self._fails = fails
        self.free = 1
        fake = {
            "Stream": lambda device: self.stream("side"),
            "current_stream": lambda device: self.stream(self._stream),
            "device": lambda device: nullcontext(),
            "stream": self.on,
            "graph_pool_handle": lambda: (0, 1),
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: self.calls.append("replay")),
            "graph": self.graph,
            "mem_get_info": lambda device: (self.free, 9),
            "empty_cache": self.empty_cache,
            "memory_reserved": lambda device: 8,
            "memory_allocated": lambda device: 1,
            "current_device": lambda: 1,
            "default_generators": [
                None,
                SimpleNamespace(clone_state=lambda: "copy", graphsafe_set_state=self.calls.append),
            ],
        }
        for name, value in fake.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *given: self.calls.append(f"end {given}"))

    def stream(self, name: str) -> Any:
        return SimpleNamespace(name=name, wait_stream=lambda other: self.calls.append(f"{name} waits for {other.name}"))

    @contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        before, self._stream = self._stream, stream.name
        yield
        self._stream = before

    @contextmanager
    def graph(self, graph: object, *, pool: object, stream: Any, capture_error_mode: str) -> Iterator[None]:
        self.calls.append(f"capture on {stream.name}, {capture_error_mode}")
        yield
        if self._fails:
            raise RuntimeError("capture invalidated")

    def empty_cache(self) -> None:
        """Of the 7 bytes that torch keeps unused, a graph holds 3."""
        self.free = 5

    def run(self) -> list[Tensor]:
        self.calls.append(f"run on {self._stream}")
        return [torch.ones(1)]


@pytest.mark.parametrize("runs", [{}, {"warm_up": 0}])
def test_cuda_warms_up_and_captures_on_a_stream_that_waits_and_is_waited_for(
    runs: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeCuda(monkeypatch)
    cuda = cuda_graphs.Cuda(torch.device("cuda", 0))
    replay, results = cuda.capture(fake.run, **runs)
    assert fake.calls == [
        "side waits for main",
        *["run on side"] * runs.get("warm_up", cuda_graphs.WARM_UP),
        "capture on side, thread_local",
        "run on side",
        "main waits for side",
    ]
    assert results[0].equal(torch.ones(1))
    replay()
    assert fake.calls[-1] == "replay"
    assert cuda.memory() == (5, 9)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_leaves_a_capture_that_fails(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """The allocator and the default generator, each of the device of the graph, which is the current one."""
    fake = FakeCuda(monkeypatch, fails=True)
    with pytest.raises(RuntimeError, match="capture invalidated"):
        cuda_graphs.Cuda(torch.device(device)).capture(fake.run)
    assert fake.calls[-3:] == ["end (1, (0, 1))", "copy", "main waits for side"]


def test_a_gpu_has_graphs_unless_kernels_are_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(monkeypatch)
    find = cuda_graphs.backend_of.__wrapped__
    assert isinstance(find(torch.device("cuda", 0)), cuda_graphs.Cuda)
    monkeypatch.setenv("LAWN_TUNE_KERNELS", "0")
    assert find(torch.device("cuda", 0)) is None
