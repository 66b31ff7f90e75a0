"""Settings → executor: the only table of executors."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil
from pathlib import Path

from lawn_tune.errors import UsageError
from lawn_tune.executors.base import Executor
from lawn_tune.executors.messages import WorkerSettings
from lawn_tune.settings import Settings


@dataclass(frozen=True)
class Slots:
    """How a machine is divided among jobs.

    Args:
        count: jobs at once.
        cpus: CPU cores of each.
        gpus: GPUs of each; 1, a fraction 1/n, or 0.
    """

    count: int
    cpus: int
    gpus: float


def slots_of(workers: int | None, cpus: int, gpus: int) -> Slots:
    """Divides cores and GPUs: a job a GPU, or a job a core without GPUs; more jobs than GPUs share them evenly.

    Args:
        workers: jobs at once, or None for the rule above.
        cpus: cores of the machine, at least 1.
        gpus: GPUs to use; 0 trains on cores.
    """
    count = workers or gpus or cpus
    share = 1 / ceil(count / gpus) if gpus else 0.0
    return Slots(count, max(1, cpus // count), share)


def build_executor(settings: Settings, ray_address: str | None = None) -> Executor:
    """Returns the executor that the settings ask for.

    Args:
        settings: in force.
        ray_address: of a running Ray cluster; None starts Ray on this machine.

    Raises:
        UsageError: Ray is asked for and not installed, or GPUs are asked for and there are none.
    """
    gpus = machine_gpus() if settings.gpus is None else settings.gpus
    slots = slots_of(settings.workers, machine_cpus(), gpus)
    worker = WorkerSettings(
        data_dir=str(settings.data_dir.resolve()),
        checkpoint_dir=str(settings.work_dir.resolve() / "checkpoints"),
        threads=slots.cpus,
        use_gpu=gpus > 0,
    )
    kind = settings.executor
    if kind == "auto":
        kind = "ray" if find_spec("ray") else "inline"
    if kind == "inline" and gpus > machine_gpus():
        found = machine_gpus()
        raise UsageError(
            f"--gpus: this machine has {found} NVIDIA GPUs, got {gpus}", "Leave --gpus out to use what is."
        )
    return _ray(worker, slots, settings.work_dir, ray_address) if kind == "ray" else _inline(worker)


def machine_cpus() -> int:
    """Returns the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_gpus() -> int:
    """Returns the NVIDIA GPUs this process may use, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    return found if visible is None else min(found, len([name for name in visible.split(",") if name.strip()]))


def _inline(worker: WorkerSettings) -> Executor:
    from lawn_tune.executors.inline import InlineExecutor  # brings torch

    return InlineExecutor(worker)


def _ray(worker: WorkerSettings, slots: Slots, work_dir: Path, address: str | None) -> Executor:
    if not find_spec("ray"):
        raise UsageError(
            "the executor is 'ray', but Ray is not installed", "pip install 'lawn-tune[ray]', or use inline."
        )
    from lawn_tune.executors.ray_tune import RayTuneExecutor  # brings Ray

    return RayTuneExecutor(
        settings=worker, slots=slots.count, cpus=slots.cpus, gpus=slots.gpus, work_dir=work_dir, address=address
    )
