"""How the cost of a training step grows with the pack size K and the batch size: seconds and peak memory.

Every point runs in a separate process, so that its peak memory is separate. NCF on random interactions of
MovieLens-100k's size, without a download.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from trainables.catalogue.methods import METHODS
from trainables.losses import bce
from trainables.models.ncf import Ncf
from trainables.training.pack import Pack
from trainables.training.process_memory import keep_freed_memory, process_peak

USERS, ITEMS = 943, 1682
SIZES = (1, 2, 4, 8, 16, 32)
BATCHES = (64, 256, 1000, 4096, 16_384, 100_000)
FACTORS = (8, 64)


def run() -> dict[str, Any]:
    """Measures K at batch size 1000, and batch sizes at K = 1, for NCF with 8 and with 64 factors."""
    return {
        f"ncf-{factors}": {
            "pack_size": [_measured(factors, size, 1000) for size in SIZES],
            "batch_size": [_measured(factors, 1, batch) for batch in BATCHES],
        }
        for factors in FACTORS
    }


def _measured(factors: int, size: int, batch: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.growth", str(factors), str(size), str(batch)]
    completed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    values: dict[str, float] = json.loads(completed.stdout)
    return {"K": size, "batch_size": batch} | values


def step_seconds(factors: int, size: int, batch: int, repeats: int = 9) -> list[float]:
    """Returns the seconds of single training steps of K stacked models on one shared batch, after a warm-up."""
    _, step = stepper(factors, size, batch)
    inner = max(4, 16_000 // (batch * size))
    return seconds_of(step, inner, repeats)


def stepper(factors: int, size: int, batch: int) -> tuple[Pack, Callable[[], object]]:
    """Returns K stacked models, and a function that takes their next step on one shared batch."""
    torch.manual_seed(0)
    models = [Ncf(users=USERS, items=ITEMS, factors=factors, init="xavier") for _ in range(size)]
    values = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}
    hyper = {name: torch.full((size, 1), value, dtype=torch.float64) for name, value in values.items()}
    pack = Pack(models, METHODS["adam"], hyper, bce, constrain="all", device=torch.device("cpu"))
    inputs = torch.randint(USERS, (batch,)), torch.randint(ITEMS, (batch,))
    targets, lr = (torch.rand(batch) < 0.2).float(), torch.full((size, 1), 1e-3, dtype=torch.float64)

    def step() -> None:
        pack.gradients(inputs, targets, shared=True)
        pack.apply(lr)

    return pack, step


def seconds_of(step: Callable[[], object], inner: int, repeats: int = 9) -> list[float]:
    """Returns the seconds of one step, for each repeat the mean of `inner` in a row, after two to warm up."""
    return [_timed(step, inner) for _ in range(repeats + 2)][2:]


def _timed(step: Callable[[], object], inner: int) -> float:
    start = time.perf_counter()
    for _ in range(inner):
        step()
    return (time.perf_counter() - start) / inner


def flops(factors: int, batch: int) -> float:
    """Multiplications and additions of one model's step: three matrix products per layer, one forward and two backward.

    The first layer multiplies each row of a table or each example of the batch, whichever are fewer (models/ncf.py).
    """
    first = (min(USERS, batch) + min(ITEMS, batch)) * (2 * factors) ** 2
    return 3 * 2 * (first + batch * (2 * factors * factors + factors))


def peak_flops(size: int = 1024, repeats: int = 20) -> float:
    """Returns FLOP/s of one thread in a large fp32 matrix product: the practical peak of the machine."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def main() -> None:
    """Prints one point as JSON: seconds per step and model, share of the core's peak, peak memory."""
    torch.set_num_threads(1)
    keep_freed_memory()
    factors, size, batch = map(int, sys.argv[1:])
    seconds = statistics.median(step_seconds(factors, size, batch)) / size
    memory = process_peak()
    share = flops(factors, batch) / seconds / peak_flops()
    print(json.dumps({"seconds_per_trial_step": seconds, "share_of_peak_flops": share, "peak_memory_bytes": memory}))


if __name__ == "__main__":
    main()
