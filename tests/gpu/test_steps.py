"""A step on a device: it waits for nothing, and has the same bits by graphs and launch by launch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.gpu.conftest import device_of
from tests.helpers.graphs import stand_in
from tests.helpers.steps import ENOUGH, LOSSES, PAIRS, batch, check, pack_of
from trainables.catalogue.methods import METHODS
from trainables.catalogue.rows import Method
from trainables.optimizers import cuda_graphs, fused, gpu
from trainables.training.pack import Pack
from trainables.training.program import Recorder
from trainables.training.recorded import Recorded

__all__ = ["stand_in"]


@pytest.mark.parametrize("way", ["kernels", "torch operations"])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", ["sgd-lawn", "adam-lawn", "lamb-lawn", "adam", "lamb-plus", "adam-flooding"])
def test_graphs_have_the_bits_of_launches(
    name: str,
    rows: int,
    way: str,
    device: torch.device,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A CPU has no kernels that graphs take, and imitated graphs."""
    if device.type == "cpu":
        if way != "torch operations":
            pytest.skip("Triton has no kernels for CPUs; tests/optimizers/test_gpu.py interprets them in graphs")
        request.getfixturevalue("stand_in")
        monkeypatch.setattr(fused, "usable", lambda *tensors: False)
    elif way == "torch operations":
        monkeypatch.setattr(gpu, "usable", lambda *tensors: False)
    assert check(METHODS[name], rows, monkeypatch, device=device).graphs.replays > 12


class OneDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises where an operation has tensors of several devices, as a copy from the host has."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        kinds = {x.device.type for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)}
        assert len(kinds) <= 1, f"{function} from {kinds}"
        return result


@contextmanager
def waiting_is_an_error(device: torch.device) -> Iterator[None]:
    """By torch's own check of CUDA; elsewhere no value can be read at all."""
    if device.type != "cuda":
        with OneDevice():  # type: ignore[no-untyped-call]
            yield
        return
    try:
        with warnings.catch_warnings():  # torch calls this mode a prototype
            warnings.simplefilter("ignore", UserWarning)
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("method", [*PAIRS.values(), *LOSSES.values()], ids=[*PAIRS, *LOSSES])
def test_a_step_waits_for_nothing_and_can_be_a_graph(
    method: Method,
    rows: int,
    remote: torch.device,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In each phase; on "meta" as operations are recorded, all of whose constants are on the device."""
    programs: list[set[str]] = []
    if remote.type == "meta":
        request.getfixturevalue("stand_in")
        monkeypatch.setattr(torch, "autocast", lambda *given, **options: nullcontext())  # which meta has not
        monkeypatch.setattr(Recorded, "__call__", noting(programs))
    stack = pack_of(method, rows, remote)
    inputs, targets = (tensor.to(remote) for tensor in batch(0))
    lr = torch.full((rows, 1), 0.01, dtype=torch.float64, device=remote)
    count = 0
    for _ in phases(stack):
        count += 1
        for step in range(ENOUGH + 2 if remote.type == "cuda" else 1):
            with waiting_is_an_error(remote) if step >= ENOUGH or remote.type == "meta" else nullcontext():
                stack.gradients((inputs,), targets, shared=True)
                stack.apply(lr)
    assert len(programs) == (2 * count if remote.type == "meta" else 0)
    assert all(devices <= {"meta"} for devices in programs)


def phases(stack: Pack) -> Iterator[None]:
    """Yields before any row is constrained, after one is, and after all are, if the control holds any."""
    yield
    for held in ([0], range(stack.size)) if stack.control.held else ():
        if stack.device.type == "meta":  # where nothing can be read
            stack._phases = [row in held for row in range(stack.size)]
        else:
            stack.constrain(held)
        yield


def noting(programs: list[set[str]]) -> Callable[[Recorded, Any], list[Tensor]]:
    """In place of a call that compares bits: records, and notes the devices of the program."""

    def call(recorded: Recorded, tensors: Any) -> list[Tensor]:
        recorder = Recorder(tensors)
        with recorder:
            results = recorded._plain(tensors)
        program = recorder.program(results)
        assert program is not None, "it could not be a graph"
        programs.append(program.devices)
        return results

    return call


def test_rows_are_evaluated_in_groups_as_one_by_one(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tolerance: a GPU may sum a stack's products in another order, and in TF32."""
    stack = pack_of(METHODS["adam"], 3, device)
    inputs = batch(0)[0].to(device)
    monkeypatch.setattr("trainables.training.pack.GPU_CALL", 2 * len(inputs))
    together = stack.predict(inputs)
    monkeypatch.setattr("trainables.training.pack.GPU_CALL", 1)
    torch.testing.assert_close(together, stack.predict(inputs), rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")
def test_random_numbers_and_memory_are_there_after_a_capture_that_fails() -> None:
    device = device_of("cuda")
    torch.cuda.manual_seed(0)
    expected = torch.rand(1000, device=device)
    torch.cuda.manual_seed(0)
    with pytest.raises(RuntimeError):
        cuda_graphs.Cuda(device).capture(lambda: [expected.cpu()])  # waits for the device, which no capture may
    assert torch.rand(1000, device=device).equal(expected)


@pytest.mark.gpu
def test_memory_that_torch_keeps_unused_counts_as_free() -> None:
    device = device_of("cuda")
    before, total = cuda_graphs.Cuda(device).memory()
    large = torch.empty(before // 2, dtype=torch.uint8, device=device)
    assert cuda_graphs.Cuda(device).memory()[0] <= before - len(large)
    del large
    assert torch.cuda.mem_get_info(device)[0] < before // 2 + total // 100
    assert cuda_graphs.Cuda(device).memory()[0] >= before - total // 100


@pytest.mark.gpu
def test_memory_that_a_graph_holds_is_not_free() -> None:
    device = device_of("cuda")
    cuda = cuda_graphs.Cuda(device)
    before, total = cuda.memory()
    graph = cuda.capture(lambda: [torch.ones(total // 8, dtype=torch.uint8, device=device).sum()])
    assert cuda.memory()[0] <= before - total // 8
    del graph
    assert cuda.memory()[0] >= before - total // 100
