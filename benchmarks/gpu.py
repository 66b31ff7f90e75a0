"""What a GPU does in a step: `python -m benchmarks gpu --minutes 8`, on any machine with torch and a CUDA device.

Needs no data set and no package but torch: examples are drawn at random on the device. Everything is timed in
interleaved repeats of one run, each from an idle device to an idle device, and compared by ratios. A part that fails
or takes too long says so in place of its results, and the others go on.
"""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks import optimizer_step
from benchmarks.gpu_goals import GOALS
from benchmarks.measure import interleaved, ratio, summary
from benchmarks.steps import Images, Step, channels_last, pack_of, plain_loop, step_of
from benchmarks.time_limit import OutOfTime, limit
from lawn_tune.cells import PHASES, Cell, Phase
from lawn_tune.planning.packing import make_packs
from lawn_tune.planning.placement import place
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import find_space
from lawn_tune.planning.speed import Speeds
from trainables.losses import bce, cross_entropy
from trainables.models.ncf import Ncf
from trainables.models.vgg import Vgg19
from trainables.optimizers import gpu as kernels
from trainables.tasks import GPU_CALL, Trial
from trainables.training import graphed

GRAPHED = ("adam-lawn", "adam-l2")
"""Methods whose steps are compared with and without graphs: the update of one is by kernels, the other's is not."""
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")
"""Beginnings of the names of calls that put work on a GPU; a graph is one, whatever it holds."""
PASSES = {"AdamW fused": 7, "AdamLawn constrained": 12}
"""Reads and writes per weight: AdamW reads w, g, m, v and writes w, m, v; LAWN's three passes take 2, 6 and 4."""


BURST = 0.02
"""Seconds of steps in a row between two looks at the clock, so that waiting for an idle device counts little."""
COMPARED = 20
"""Steps after which the weights of both ways are compared; the first six are launched in both."""
REPEATS = (5, 200)
"""Fewest and most repeats."""
TABLE_4 = "table4_movielens_100k"


@dataclass(frozen=True)
class Sizes:
    """What is measured; smaller where only the code is tried.

    Args:
        users, items, factors: of NCF, by default rows of its tables as for MovieLens-1M.
        packed: the same of each NCF that is packed.
        large, small: batch sizes of one model, and of packs.
        packs: the numbers of models in a pack.
        images, batch: VGG-19's examples of an epoch, and of a step.
        width: channels of VGG-19's first stage.
        copied: numbers copied to measure the memory's bandwidth.
        shapes: parameters of the optimizers.
        most: bound on the batch sizes of Table 4, and on the examples of one evaluation.
    """

    users: int = 6040
    items: int = 3706
    factors: int = 64
    packed: Mapping[str, tuple[int, int, int]] = field(
        default_factory=lambda: {
            "8 factors, MovieLens-100k": (943, 1682, 8),
            "64 factors, MovieLens-1M": (6040, 3706, 64),
        }
    )
    large: int = 2**20
    small: tuple[int, ...] = (256, 1000)
    packs: tuple[int, ...] = (1, 16, 64)
    images: int = 50_000
    batch: int = 128
    width: int = 64
    copied: int = 2**27
    shapes: tuple[tuple[int, ...], ...] = tuple(optimizer_step.SHAPES)
    most: int = 2**20


TRIAL = Sizes(
    users=9,
    items=8,
    factors=2,
    packed={"2 factors": (9, 8, 2), "3 factors": (7, 6, 3)},
    large=16,
    small=(4,),
    packs=(1, 2),
    images=5,
    batch=2,
    width=1,
    copied=64,
    shapes=((4, 3), (5,)),
    most=8,
)
"""For the code, on a CPU."""


Part = Callable[[torch.device, Sizes, float], dict[str, Any]]
"""Device, sizes and seconds → results."""


def run(minutes: float = 8.0, device: str = "cuda", sizes: Sizes | None = None) -> dict[str, Any]:
    """Measures optimizers, large batches, packs, graphs, Table 4 and VGG-19 in this time, compilers included."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as in training
    place, chosen, end = torch.device(device), sizes or Sizes(), time.monotonic() + 60 * minutes
    parts: dict[str, tuple[Part, int]] = {  # with their shares of the time
        "optimizer_step": (_optimizers, 1),
        "ncf_large_batch": (_large_batches, 1),
        "packs": (_packs, 1),
        "graphs": (_graphs, 1),
        "table4": (_table4, 2),
        "vgg19": (_vgg, 2),  # which is compiled; last, so that it has what the others leave
    }
    results: dict[str, Any] = {"device": _described(place), "goals": {}}
    later = sum(share for _, share in parts.values())
    for name, (part, share) in parts.items():
        left = end - time.monotonic()
        seconds, later = left * share / later, later - share
        results[name] = _measured(part, place, chosen, 0.9 * seconds, min(2 * seconds, left))
    results["goals"] = {name: goal.met(results) for name, goal in GOALS.items()}
    return results


def _described(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"name": device.type}
    found = torch.cuda.get_device_properties(device)
    return {
        "name": found.name,
        "capability": f"{found.major}.{found.minor}",
        "memory": found.total_memory,
        "cuda": torch.version.cuda,
        "own kernels": kernels.usable(torch.zeros(1, device=device)),
    }


def _measured(part: Part, device: torch.device, sizes: Sizes, seconds: float, most: float) -> dict[str, Any]:
    """Returns the results of a part, or why there are none."""
    try:
        with limit(most):
            return part(device, sizes, seconds)
    except (Exception, OutOfTime) as error:  # the other parts are worth having
        return {"not measured": _reason(error)}
    finally:
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:1000]


def _optimizers(device: torch.device, sizes: Sizes, seconds: float) -> dict[str, Any]:
    """The steps of `optimizer_step`, with the share of the bandwidth of a plain copy that they reach."""
    source = torch.ones(sizes.copied, device=device)
    target = torch.empty_like(source)
    calls: dict[str, Callable[[], object]] = {"copy": lambda: target.copy_(source)}
    calls |= {
        name: optimizer_step.stepper(build, device, sizes.shapes) for name, build in optimizer_step.optimizers().items()
    }
    times = _timed(calls, device, seconds)
    bandwidth = 2 * sizes.copied / summary(times.pop("copy"))["median"]
    weights = sum(torch.Size(shape).numel() for shape in sizes.shapes)
    return {
        **_compared(times, "AdamW fused"),
        "parameters": weights,
        "bytes_per_second_of_a_copy": 4 * bandwidth,
        "launches": {name: _launches(calls[name], device) for name in times},
        "share_of_bandwidth": {
            name: passes * weights / summary(times[name])["median"] / bandwidth for name, passes in PASSES.items()
        },
    }


def _large_batches(device: torch.device, sizes: Sizes, seconds: float) -> dict[str, Any]:
    """Examples per second of one NCF model in large batches, in fp32, with TF32 and under bf16 autocast."""
    calls = {
        name: _ncf_step(1, sizes.large, sizes, device, "bfloat16" if name == "bfloat16" else "float32")
        for name in ("float32", "tf32", "bfloat16")
    }
    calls["tf32"] = replace(calls["tf32"], tf32=True)
    return _rates(_timed(calls, device, seconds), dict.fromkeys(calls, sizes.large))


def _packs(device: torch.device, sizes: Sizes, seconds: float) -> dict[str, Any]:
    """Examples per second of packs of a small and a large NCF, all models counted, at small batches."""
    found: dict[str, Any] = {}
    cases = [(model, batch) for model in sizes.packed for batch in sizes.small]
    for model, batch in cases:
        users, items, factors = sizes.packed[model]
        own = replace(sizes, users=users, items=items, factors=factors)
        calls = {f"K={rows}": _ncf_step(rows, batch, own, device, "float32") for rows in sizes.packs}
        times = _timed(calls, device, seconds / len(cases))
        found[f"{model}, batch {batch}"] = _rates(times, {f"K={rows}": rows * batch for rows in sizes.packs})
    best = [max(ratio["median"] for ratio in each["speed_up_over K=1"].values()) for each in found.values()]
    return found | {"lowest_best_speed_up": min(best)}


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
    for step in steps.values():
        with step.settings():
            for _ in range(COMPARED):
                step()
    one, other = (step.pack.state.weights for step in steps.values())
    same = one.equal(other)
    return {
        **_compared(_timed(steps, device, seconds), "launches"),
        "launches": {way: _launches(step, device) for way, step in steps.items()},
        "replays": {way: step.pack.graphs.replays for way, step in steps.items()},
        "same bits": same,
    }


def _no_graphs(device: torch.device) -> None:
    """In place of the graphs of a device."""


def _table4(device: torch.device, sizes: Sizes, seconds: float) -> dict[str, Any]:
    """GPU hours of Table 4 on MovieLens-100k: packs as of a launch on one GPU, times of a step and of an evaluation.

    A step of a constrained method is that of its constrained phase, in which no trials share a row. Drawing examples
    and starting workers is left out.
    """
    planned = plan(find_space(TABLE_4))
    cells = place(planned, Speeds(on_gpu=True).costs(planned), 1, on_gpu=True).cells
    kinds = {(cell.name.optimizer, _batch(cell, sizes), len(pack)) for cell in cells for _, pack in _planned(cell)}
    times = {}
    for method, batch, rows in sorted(kinds):
        calls = _of_cell(cells[0], method, batch, rows, sizes, device)
        found = _timed(calls, device, seconds / len(kinds))
        times[method, batch, rows] = {name: summary(values)["median"] for name, values in found.items()}
    hours: dict[str, float] = {}
    kind_hours = dict.fromkeys(("steps", "evaluation"), 0.0)
    for cell in cells:
        for phase, pack in _planned(cell):
            spent = _pack_seconds(cell, phase, times[cell.name.optimizer, _batch(cell, sizes), len(pack)])
            name = f"{cell.name.optimizer} batch {cell.task.batch_size}"
            hours[name] = hours.get(name, 0.0) + math.fsum(spent.values()) / 3600
            kind_hours = {kind: kind_hours[kind] + seconds / 3600 for kind, seconds in spent.items()}
    return {
        "gpu_hours": math.fsum(hours.values()),
        "of_kind": kind_hours,
        "of_cell": hours,
        "packs": sum(1 for cell in cells for _ in _planned(cell)),
        "trials": sum(len(pack) for cell in cells for _, pack in _planned(cell)),
        "seconds": {f"{method} batch {batch} K={rows}": each for (method, batch, rows), each in times.items()},
    }


def _planned(cell: Cell) -> Iterator[tuple[Phase, Sequence[Trial]]]:
    """Yields the packs of a cell."""
    for phase in PHASES:
        yield from ((phase, pack) for pack in make_packs(cell, phase, cell.planned_trials(phase)))


def _batch(cell: Cell, sizes: Sizes) -> int:
    return min(cell.task.batch_size, sizes.most)


def _of_cell(
    cell: Cell, method: str, batch: int, rows: int, sizes: Sizes, device: torch.device
) -> dict[str, Callable[[], object]]:
    """Returns a step of a pack, and the evaluation of as many examples as are evaluated at once."""
    shape = cell.task.dataset_row.shape
    own = replace(sizes, users=shape["users"], items=shape["items"])
    step = _ncf_step(rows, batch, own, device, "float32", method)
    inputs = _ncf_inputs(min(_evaluated(cell), sizes.most), own, device)
    return {"step": step, "evaluation": lambda: step.pack.predict(*inputs)}


def _evaluated(cell: Cell) -> int:
    """Returns the examples of one call while a split is evaluated: 100 items of each user."""
    return 100 * min(cell.task.dataset_row.shape["users"], GPU_CALL // 100)


def _pack_seconds(cell: Cell, phase: Phase, times: Mapping[str, float]) -> dict[str, float]:
    """Seconds of a pack: each epoch evaluates 100 items of each user, in two splits while one selects, and a sample."""
    task = cell.task_of(phase)
    steps = math.ceil(task.examples / task.batch_size)
    calls = math.ceil(100 * task.dataset_row.shape["users"] / _evaluated(cell))
    evaluations = (2 if phase == "search" else 1) * calls + 1
    return {
        "steps": task.epochs * steps * times["step"],
        "evaluation": task.epochs * evaluations * times["evaluation"],
    }


def _vgg(device: torch.device, sizes: Sizes, seconds: float) -> dict[str, Any]:
    """An epoch of VGG-19 in a pack of one, relative to plain PyTorch loops with torch's fused AdamW, one compiled."""
    end, loader = time.monotonic() + seconds, Images(sizes.images, sizes.batch, device)
    model = partial(Vgg19, channels=3, size=32, classes=10, width=sizes.width)
    pack = pack_of([model()], cross_entropy, device, "float32")
    step = step_of(pack, *loader.next())
    calls: dict[str, Callable[[], object]] = {
        "pack": replace(step, batches=loader.next),
        "plain loop": plain_loop(channels_last(model(), device), loader),
    }
    compiled, how = _compiled_loop(channels_last(model(), device), loader, 0.7 * seconds)
    if compiled is not None:
        calls = {"pack": calls["pack"], "compiled loop": compiled, "plain loop": calls["plain loop"]}
    times = _timed(calls, device, end - time.monotonic())
    steps = math.ceil(sizes.images / sizes.batch)
    return {
        "seconds_per_epoch": {name: steps * summary(values)["median"] for name, values in times.items()},
        "compiled loop": how,
        **_compared(times, "plain loop" if compiled is None else "compiled loop"),
    }


# --- what is timed ----------------------------------------------------------------------------------------------------


def _ncf_inputs(batch: int, sizes: Sizes, device: torch.device) -> tuple[Tensor, Tensor]:
    users, items = (torch.randint(count, (batch,), device=device) for count in (sizes.users, sizes.items))
    return users, items


def _ncf_step(
    rows: int, batch: int, sizes: Sizes, device: torch.device, precision: str, method: str = "adam-lawn"
) -> Step:
    models = [Ncf(users=sizes.users, items=sizes.items, factors=sizes.factors, init="xavier") for _ in range(rows)]
    inputs, targets = _ncf_inputs(batch, sizes, device), torch.randint(2, (batch,), device=device).float()
    return step_of(pack_of(models, bce, device, precision, method), inputs, targets)


def _compiled_loop(model: nn.Module, loader: Images, seconds: float) -> tuple[Callable[[], object] | None, str]:
    """Returns the loop with `torch.compile` after its first steps, or None, and what was done or why it was not."""
    reasons = []
    for mode in ("reduce-overhead", "default"):
        try:
            with limit(seconds):
                step = plain_loop(torch.compile(model, mode=mode), loader)
                for _ in range(3):
                    step()
                return step, f"torch.compile, mode {mode}"
        except OutOfTime as error:
            return None, _reason(error)
        except Exception as error:
            reasons.append(f"{mode}: {_reason(error)}")
            torch.compiler.reset()
    return None, "; ".join(reasons)


# --- times ------------------------------------------------------------------------------------------------------------


def _timed(calls: Mapping[str, Callable[[], object]], device: torch.device, seconds: float) -> dict[str, list[float]]:
    """Seconds of each call, in as many interleaved repeats as fit; the first ten calls are not counted.

    A repeat makes a call so often in a row that it takes about `BURST`.
    """

    def several(call: Callable[[], object], count: int) -> Callable[[], None]:
        def until_idle() -> None:
            with call.settings() if isinstance(call, Step) else nullcontext():
                for _ in range(count):
                    call()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)

        return until_idle

    end = time.monotonic() + seconds
    interleaved({name: several(call, 9) for name, call in calls.items()}, 1)  # recorded, and captured, in the first six
    once = interleaved({name: several(call, 1) for name, call in calls.items()}, 1)
    counts = {name: max(1, min(100, int(BURST / taken))) for name, (taken,) in once.items()}
    whole = {name: several(call, counts[name]) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(REPEATS[1]):
        if repeat >= REPEATS[0] and time.monotonic() > end:
            break
        for name, (taken,) in interleaved(whole, 1).items():
            times[name].append(taken / counts[name])
    return times


def _launches(call: Callable[[], object], device: torch.device) -> int | None:
    """How often a call puts work on a GPU; None on a CPU, and where the profiler sees nothing."""
    if device.type != "cuda":
        return None
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        call()
        torch.cuda.synchronize(device)
    return sum(int(event.count) for event in profile.key_averages() if event.key.startswith(LAUNCHES)) or None


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
