"""The cores, memory and GPUs of this machine that this process may use, found without importing torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import takewhile
from math import inf
from pathlib import Path

NVIDIA = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver lists the GPUs."""

DEVICES, UNLISTED = Path("/dev"), ("dxg", "nvidia[0-9]*")
"""Files of GPUs that are there without such a list, as under WSL2 and in some containers."""

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where Linux mounts control groups, and where it lists those of this process."""


def machine_cpus() -> int:
    """Returns the cores this process may use, at least 1: half a core is one worker, 2.5 cores are two."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cores, cpu_limit())))


def cpu_limit() -> float:
    """Returns the CPU time that control groups, such as a container's, allow, in cores; infinity without a limit.

    Not by joblib, which rounds up and misses the limits of groups below the mount point, such as a systemd service.
    """
    return min(map(_quota, _folders("cpu")), default=inf)


def memory() -> float:
    """Returns the memory of this machine, at most what control groups allow, bytes."""
    names = ("memory.max", "memory.limit_in_bytes")
    limits = (_number(folder / name) for folder in _folders("memory") for name in names)
    return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *limits, inf)


def _folders(controller: str) -> Iterator[Path]:
    """Yields the folders of this process's control groups and of those above them, which limit it as well.

    A line of /proc/self/cgroup is `0::PATH` for version 2 and `NUMBER:CONTROLLERS:PATH` for version 1. In a container,
    the path may be that of the host, and only the mount point exists.
    """
    try:
        groups = OWN_CGROUPS.read_text(errors="replace").splitlines()
    except OSError:
        return
    for group in groups:
        _, _, rest = group.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        inner = Path(path.lstrip("/"))
        for mount in (CGROUPS / controller, CGROUPS / controllers) if controllers else (CGROUPS, CGROUPS / "unified"):
            yield from (mount / folder for folder in (inner, *inner.parents) if ".." not in folder.parts)


def _quota(folder: Path) -> float:
    """Returns the limit of one control group, in cores; the kernel writes "max" or a negative quota for none."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = (int(number) for name in names for number in (folder / name).read_text().split())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        if quota > 0 and period > 0:
            return quota / period
    return inf


def _number(file: Path) -> float:
    try:
        return float(file.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return inf


def machine_gpus() -> int:
    """Returns the NVIDIA GPUs this process may use."""
    return visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), len(list(NVIDIA.glob("*"))))


def unlisted_gpus() -> bool:
    """Returns whether there may be GPUs that no list of the driver's counts, so that only the user knows how many."""
    return not NVIDIA.is_dir() and any(any(DEVICES.glob(name)) for name in UNLISTED)


def visible_gpus(visible: str | None, found: int) -> int:
    """Returns how many GPUs CUDA sees: its list ends at the first invalid entry, and is void with a repeated one.

    Args:
        visible: `CUDA_VISIBLE_DEVICES`: numbers from 0, or names that begin with GPU- or MIG-; None if it is not set.
        found: GPUs of the machine.
    """
    if visible is None:
        return found
    entries = (entry.strip() for entry in visible.split(","))
    valid = list(takewhile(lambda entry: re.match(r"(GPU|MIG)-.", entry) or _is_index(entry, found), entries))
    return min(len(valid), found) if len(set(valid)) == len(valid) else 0


def _is_index(entry: str, found: int) -> bool:
    return re.fullmatch(r"[0-9]+", entry) is not None and int(entry) < found
