"""Times alternatives in interleaved repeats of one run and compares them by ratios with an interval."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np


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
    ratios = np.asarray(of) / np.asarray(to)
    draws = np.random.default_rng(0).integers(len(ratios), size=(2000, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), (2.5, 97.5))
    return {"median": float(np.median(ratios)), "low": float(low), "high": float(high), "n": len(ratios)}


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Returns minimum, median and maximum seconds, and n."""
    return {
        "min": min(seconds),
        "median": float(np.median(seconds)),
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
        "libraries": {name: version(name) for name in ("torch", "ray", "optuna", "numpy")},
        "load_at_start": os.getloadavg()[0],
    }


def _cpu_name() -> str:
    with open("/proc/cpuinfo") as lines:
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
