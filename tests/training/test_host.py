"""A step asks the device for no number and copies none to it: on a GPU, either waits for all that was launched before.

Once the device is torch's "meta", whose tensors have no values, so that asking for one is an error, and whose copies
from the host show; and once it is the CPU, on which tensors of the host's numbers show.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.helpers.tasks import eight_points, pack, task
from trainables.catalogue.methods import METHODS
from trainables.catalogue.rows import Method
from trainables.losses import cross_entropy
from trainables.metrics import multiclass_margin
from trainables.optimizers import fused, gpu
from trainables.training.loop import Training
from trainables.training.pack import Pack
from trainables.training.recorded import Recorded
from trainables.workloads import build_workload

CPU, META = torch.device("cpu"), torch.device("meta")
NOTED = (torch.ops.aten.lift_fresh.default, torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
"""What `torch.tensor(numbers)` ends with, and what `item` and `tensor[mask]` begin with."""

ASKING: tuple[Callable[[Tensor], object], ...] = (float, bool, Tensor.item, Tensor.tolist)

devices = pytest.mark.parametrize("device", [CPU, META], ids=str)


class Host(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operations that see a number of the host, or a tensor on another device than the given one."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self.noted: list[str] = []
        self.operations = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        result = function(*args, **(kwargs or {}))
        seen = [value for value in tree_leaves((args, kwargs, result)) if isinstance(value, Tensor)]
        if function in NOTED or any(tensor.device != self._device for tensor in seen):
            self.noted.append(str(function))
        return result


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorded, "__call__", lambda self, tensors: self._plain(tensors))
    monkeypatch.setattr(Pack, "note_phases", lambda self: None)  # asks, once a switch
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())  # there is none


def stacked(method: Method, device: torch.device, rows: int = 2) -> Pack:
    models = [torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3))] * rows
    names = {row.name for _, row in method.roles()} - {*method.names("schedule"), method.switch}
    hyper = {name: torch.full((rows, 1), 0.5, dtype=torch.float64) for name in names}
    what = Pack(models, method, hyper, cross_entropy, constrain="all", device=device)
    what.watch = multiclass_margin
    return what


def step(what: Pack, parts: int, lr: Tensor) -> None:
    size, device = 8 // parts, what.device
    inputs, targets = torch.ones(size, 4, device=device), torch.zeros(size, dtype=torch.int64, device=device)
    for index in range(parts):
        what.gradients((inputs,), targets, True, 1 / parts, index, parts)
    what.apply(lr)


def check(what: Pack, parts: int) -> None:
    lr = torch.full((2, 1), 0.01, dtype=torch.float64, device=what.device)
    for phases in ([False, False], [True, False], [True, True]):
        if any(phases) and what.control.held:
            what.constrain([0])
            what._phases = phases
        step(what, parts, lr)  # numbers that are the same at every step are copied at the first
        with Host(what.device) as host:
            step(what, parts, lr)
        assert host.noted == []
        assert host.operations > 20


def test_what_is_looked_for_is_noted() -> None:
    x = torch.ones(3)
    with Host(CPU) as host:
        for ask in ASKING[:3]:
            ask(x[0])
        x[x > 0].nonzero()
        torch.tensor([1.0])
        torch.as_tensor(2.0)
    assert len(host.noted) == 6, host.noted
    with Host(META) as host:
        torch.arange(3).to(META)
        for ask in ASKING:
            with pytest.raises((RuntimeError, NotImplementedError)):
                ask(x.to(META)[0])
    assert len(host.noted) == 6, host.noted  # of them two of arange


@devices
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name", METHODS)
def test_a_step_by_torch_operations_leaves_the_host_alone(
    name: str, parts: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "usable", lambda *tensors: False)
    check(stacked(METHODS[name], device), parts)


@devices
@pytest.mark.parametrize("name", ["sgd-lawn", "adam", "adam-lawn", "lamb", "lamb-lawn"])
def test_a_step_by_the_kernels_of_a_gpu_leaves_the_host_alone(
    name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but their launches, and the table of addresses, which is copied where a gradient has moved."""
    launched: list[bool] = []

    nothing = torch.zeros(4, 1, device=device)
    monkeypatch.setattr(gpu.Step, "launch", lambda self, three_passes, moves=True: launched.append(three_passes))
    monkeypatch.setattr(gpu.Step, "squares", lambda self: torch.zeros(self._rows, dtype=torch.float64, device=device))
    monkeypatch.setattr(gpu, "table", lambda *lists, device: (nothing, nothing))
    monkeypatch.setattr(gpu, "kernels_for", lambda *tensors: gpu)
    monkeypatch.setattr(fused, "intercepted", lambda: False)
    check(stacked(METHODS[name], device), 1)
    assert len(launched) == 6


@devices
@pytest.mark.parametrize("seeds", [[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 2, 3]], ids=str)
def test_nor_does_anything_else_of_a_step_ask(seeds: list[int], device: torch.device) -> None:
    """Batches, the rows' parts of them, rates and sums; two rows of a seed share a part."""
    config = pack(task("adam-lawn", epochs=2, batch_size=16), eight_points("adam-lawn")[4:], seeds)
    run = Training(config, build_workload(config.task, Path("nowhere"), device), device)
    steps = run.steps()
    for _ in range(3):
        next(steps)
    with Host(device) as host:
        next(steps)
    assert host.noted == []
    assert host.operations > 100


def test_the_rates_of_a_torch_optimizer_class_stay_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a class takes a number, which a step would ask the device for."""
    config = pack(task("adam-lawn"), eight_points("adam-lawn")[:1])
    run = Training(config, build_workload(config.task, Path("nowhere"), META), META)
    assert run.start_epoch().rates.device == META
    monkeypatch.setattr(run.pack, "own", object())
    assert run.start_epoch().rates.device == CPU
