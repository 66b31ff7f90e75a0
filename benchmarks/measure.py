"""Times alternatives in interleaved repeats of one run and compares them by ratios with an interval."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

import torch


def interleaved(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Returns the seconds of each call, `repeats` times, interleaved so that load on the machine affects all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(of: Sequence[float], to: Sequence[float]) -> dict[str, float]:
    """Returns the median of the pairwise ratios of/to with a 95 % bootstrap interval, and n."""
    ratios = torch.tensor(of, dtype=torch.float64) / torch.tensor(to, dtype=torch.float64)
    draws = torch.randint(len(ratios), (2000, len(ratios)), generator=torch.Generator().manual_seed(0))
    low, high = ratios[draws].quantile(0.5, dim=1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"median": median(ratios.tolist()), "low": low, "high": high, "n": len(ratios)}


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Returns minimum, median and maximum seconds, and n."""
    return {
        "min": min(seconds),
        "median": median(seconds),
        "max": max(seconds),
        "n": len(seconds),
    }


def machine() -> dict[str, Any]:
    """Returns a description of this machine."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": dict(_versions("torch", "ray", "optuna", "numpy")),
        "load_at_start": os.getloadavg()[0],
    }


def _versions(*names: str) -> Iterator[tuple[str, str]]:
    """Yields those of the packages that are installed."""
    for name in names:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def _cpu_name() -> str:
    with open("/proc/cpuinfo") as lines:
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
