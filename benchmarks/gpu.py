"""What a GPU does in a step: `python -m benchmarks gpu --minutes 8`, on any machine with torch and a CUDA device.

Needs no data set: examples are drawn at random on the device. Everything is timed in interleaved repeats of one run,
each from an idle device to an idle device, and compared by ratios.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks import optimizer_step
from benchmarks.measure import interleaved, ratio, summary
from trainables.catalogue.methods import METHODS
from trainables.losses import bce, cross_entropy
from trainables.models.ncf import Ncf
from trainables.models.vgg import Vgg19
from trainables.optimizers import gpu as kernels
from trainables.training import graphed
from trainables.training.pack import Pack

HYPER = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.01}
GRAPHED = ("adam-lawn", "adam-l2")
"""Methods whose steps are compared with and without graphs: the update of one is by kernels, the other's is not."""
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")
"""Beginnings of the names of calls that put work on a GPU; a graph is one, whatever it holds."""
PASSES = {"AdamW fused": 7, "AdamLawn constrained": 12}
"""Reads and writes per weight: AdamW reads w, g, m, v and writes w, m, v; LAWN's three passes take 2, 6 and 4."""


@dataclass(frozen=True)
class Sizes:
    """What is measured; smaller where only the code is tried.

    Args:
        users, items: rows of NCF's tables, by default those of MovieLens-1M.
        large, small: batch sizes of one model, and of packs.
        packs: the numbers of models in a pack.
        images: batch size of VGG-19.
        width: channels of VGG-19's first stage.
        copied: numbers copied to measure the memory's bandwidth.
    """

    users: int = 6040
    items: int = 3706
    factors: int = 64
    large: int = 2**20
    small: tuple[int, ...] = (256, 1000)
    packs: tuple[int, ...] = (1, 16, 64)
    images: int = 128
    width: int = 64
    copied: int = 2**27


def run(minutes: float = 8.0, device: str = "cuda", sizes: Sizes | None = None) -> dict[str, Any]:
    """Measures optimizers, large batches, packs, graphs and VGG-19, a fifth of the time each."""
    place, chosen, seconds = torch.device(device), sizes or Sizes(), 60 * minutes / 5
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "own kernels": kernels.usable(torch.zeros(1, device=place)),
        "optimizer_step": _optimizers(place, chosen, seconds),
        "ncf_large_batch": _large_batches(place, chosen, seconds),
        "packs": _packs(place, chosen, seconds),
        "graphs": _graphs(place, chosen, seconds),
        "vgg19": _vgg(place, chosen, seconds),
    }


def _optimizers(device: torch.device, sizes: Sizes, seconds: float) -> dict[str, Any]:
    """The steps of `optimizer_step`, with the share of the bandwidth of a plain copy that they reach."""
    source = torch.ones(sizes.copied, device=device)
    target = torch.empty_like(source)
    calls: dict[str, Callable[[], object]] = {"copy": lambda: target.copy_(source)}
    calls |= {name: optimizer_step.stepper(build, device) for name, build in optimizer_step.optimizers().items()}
    times = _timed(calls, device, seconds)
    bandwidth = 2 * sizes.copied / summary(times.pop("copy"))["median"]
    weights = sum(torch.Size(shape).numel() for shape in optimizer_step.SHAPES)
    return {
        **_compared(times, "AdamW fused"),
        "parameters": weights,
        "launches": {name: _launches(calls[name], device) for name in times},
        "share_of_bandwidth": {
            name: passes * weights / summary(times[name])["median"] / bandwidth for name, passes in PASSES.items()
        },
    }


def _large_batches(device: torch.device, sizes: Sizes, seconds: float) -> dict[str, Any]:
    """Examples per second of one NCF model in large batches, in fp32, with TF32 and under bf16 autocast."""
    calls: dict[str, Callable[[], object]] = {
        precision: _ncf_step(1, sizes.large, sizes, device, "bfloat16" if precision == "bfloat16" else "float32")
        for precision in ("float32", "tf32", "bfloat16")
    }
    calls["tf32"] = _with_tf32(calls["tf32"])
    return _rates(_timed(calls, device, seconds), dict.fromkeys(calls, sizes.large))


def _packs(device: torch.device, sizes: Sizes, seconds: float) -> dict[str, Any]:
    """Examples per second of packs, all models counted, at small batches."""
    found = {}
    for batch in sizes.small:
        calls = {f"K={rows}": _ncf_step(rows, batch, sizes, device, "float32") for rows in sizes.packs}
        times = _timed(calls, device, seconds / len(sizes.small))
        found[f"batch {batch}"] = _rates(times, {f"K={rows}": rows * batch for rows in sizes.packs})
    return found


def _graphs(device: torch.device, sizes: Sizes, seconds: float) -> dict[str, Any]:
    """Steps of packs by CUDA graphs, relative to the same steps launch by launch."""
    cases = [(name, rows) for name in GRAPHED for rows in sizes.packs]
    return {f"{name} K={rows}": _graph(name, rows, device, sizes, seconds / len(cases)) for name, rows in cases}


def _graph(name: str, rows: int, device: torch.device, sizes: Sizes, seconds: float) -> dict[str, Any]:
    steps = {}
    for way, none in (("graphs", nullcontext()), ("launches", mock.patch.object(graphed, "backend_of", _no_graphs))):
        torch.manual_seed(0)
        with none:
            steps[way] = _ncf_step(rows, sizes.small[0], sizes, device, "float32", name)
    found = {
        **_compared(_timed(steps, device, seconds), "launches"),
        "launches": {way: _launches(step, device) for way, step in steps.items()},
        "replays": {way: step.pack.graphs.replays for way, step in steps.items()},
    }
    one, other = (step.pack.state.weights for step in steps.values())
    return {**found, "same bits": one.equal(other)}


def _no_graphs(device: torch.device) -> None:
    """In place of the graphs of a device."""


def _vgg(device: torch.device, sizes: Sizes, seconds: float) -> dict[str, Any]:
    """A step of VGG-19 in a pack of one, relative to a plain PyTorch loop with torch's fused AdamW."""
    batch = torch.randn(sizes.images, 3, 32, 32, device=device)
    targets = torch.randint(10, (sizes.images,), device=device)
    calls: dict[str, Callable[[], object]] = {
        "pack": _step_of(_pack([_vgg_model(sizes)], cross_entropy, device, "float32"), (batch,), targets),
        "plain loop": _plain_loop(_vgg_model(sizes).to(device), batch, targets),
    }
    return _compared(_timed(calls, device, seconds), "plain loop")


# --- what is timed ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A step of a pack on a batch, the same at every call."""

    pack: Pack
    inputs: tuple[Tensor, ...]
    targets: Tensor
    lr: Tensor

    def __call__(self) -> Tensor:
        """Returns the losses [R] before it."""
        self.pack.gradients(self.inputs, self.targets, shared=True)
        return self.pack.apply(self.lr)


def _ncf_step(
    rows: int, batch: int, sizes: Sizes, device: torch.device, precision: str, method: str = "adam-lawn"
) -> Step:
    models = [Ncf(users=sizes.users, items=sizes.items, factors=sizes.factors, init="xavier") for _ in range(rows)]
    users, items = (torch.randint(count, (batch,), device=device) for count in (sizes.users, sizes.items))
    targets = torch.randint(2, (batch,), device=device).float()
    return _step_of(_pack(models, bce, device, precision, method), (users, items), targets)


def _pack(
    models: list[nn.Module] | list[Ncf], loss: Any, device: torch.device, precision: str, name: str = "adam-lawn"
) -> Pack:
    method = METHODS[name]
    names = {*method.names("rule"), *method.names("control")} - {method.switch}
    hyper = {name: torch.full((len(models), 1), HYPER[name], dtype=torch.float64) for name in names}
    pack = Pack(models, method, hyper, loss, constrain="all", device=device, precision=precision)
    if pack.control.held:
        pack.constrain(range(len(models)))
    return pack


def _step_of(pack: Pack, inputs: tuple[Tensor, ...], targets: Tensor) -> Step:
    lr = torch.full((pack.size, 1), 1e-3, dtype=torch.float64, device=pack.device)
    return Step(pack, inputs, targets, lr)


def _vgg_model(sizes: Sizes) -> nn.Module:
    return Vgg19(channels=3, size=32, classes=10, width=sizes.width)


def _plain_loop(model: nn.Module, batch: Tensor, targets: Tensor) -> Callable[[], object]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _with_tf32(step: Callable[[], object]) -> Callable[[], object]:
    def with_tf32() -> None:
        matmul: Any = torch.backends.cuda.matmul
        before, matmul.allow_tf32 = matmul.allow_tf32, True
        step()
        matmul.allow_tf32 = before

    return with_tf32


# --- times ------------------------------------------------------------------------------------------------------------


def _timed(calls: Mapping[str, Callable[[], object]], device: torch.device, seconds: float) -> dict[str, list[float]]:
    """Seconds of each call, in as many interleaved repeats as fit, 5 to 200; the first nine calls are not counted."""

    def finished(call: Callable[[], object]) -> Callable[[], None]:
        def until_idle() -> None:
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return until_idle

    whole = {name: finished(call) for name, call in calls.items()}
    interleaved(whole, 8)  # a step is recorded, and captured as a graph, in the first six
    start = time.perf_counter()
    interleaved(whole, 1)
    return interleaved(whole, max(5, min(200, int(seconds / (time.perf_counter() - start)))))


def _launches(call: Callable[[], object], device: torch.device) -> int | None:
    """How often a call puts work on a GPU; None on a CPU."""
    if device.type != "cuda":
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        torch.cuda.synchronize(device)
    return sum(int(event.count) for event in profile.key_averages() if event.key.startswith(LAUNCHES))


def _compared(times: Mapping[str, list[float]], to: str) -> dict[str, Any]:
    return {
        "seconds": {name: summary(values) for name, values in times.items()},
        f"ratio_to {to}": {name: ratio(values, times[to]) for name, values in times.items() if name != to},
    }


def _rates(times: Mapping[str, list[float]], examples: Mapping[str, int]) -> dict[str, Any]:
    first, *others = times
    rates = {name: examples[name] / summary(values)["median"] for name, values in times.items()}
    per_example = {name: [value / examples[name] for value in values] for name, values in times.items()}
    return {
        "examples_per_second": rates,
        f"speed_up_over {first}": {name: ratio(per_example[first], per_example[name]) for name in others},
    }
