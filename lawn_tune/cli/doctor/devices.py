"""Python, cores, torch with the GPUs it can use, and the compiler of the optimizer kernels."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

from lawn_tune import words
from lawn_tune.cli.checks import Check
from lawn_tune.executors.machine import NVIDIA, cpu_limit, machine_cpus, visible_gpus
from lawn_tune.settings import Settings

TORCH = """
import json, torch
devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
nccl = torch.distributed.is_available() and torch.distributed.is_nccl_available()
built = {"cuda": torch.version.cuda, "rocm": torch.version.hip, "nccl": nccl}
print(json.dumps({"version": torch.__version__, "gpus": devices, "threads": torch.get_num_threads(), **built}))
"""
TORCH_SECONDS = 120

AMD = Path("/dev/kfd")
"""Where AMD's driver shows a GPU."""


def python(_: Settings) -> list[Check]:
    """Python, system and CPU cores."""
    return [
        Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Check("cores", "ok", f"{machine_cpus()} CPU cores for this process{_limited(cpu_limit())}"),
    ]


def _limited(limit: float) -> str:
    return "" if limit == inf else f"; its control group allows the CPU time of {limit:.3g}"


def torch(settings: Settings) -> list[Check]:
    """Torch in a process of its own, so that a broken one cannot take the doctor down."""
    try:
        run = subprocess.run(
            [sys.executable, "-c", TORCH], capture_output=True, text=True, timeout=TORCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return [Check("torch import", "fail", f"no answer in {TORCH_SECONDS} s", "Try: python -c 'import torch'")]
    if run.returncode:
        last = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
        return [Check("torch import", "fail", last, "pip install 'lawn-tune[train]'")]
    found = json.loads(run.stdout.splitlines()[-1])
    gpus = f"GPUs: {', '.join(found['gpus'])}" if found["gpus"] else "no GPU, training uses CPU cores"
    here = Check("torch import", "ok", f"{found['version']}, {gpus}, {words.count(found['threads'], 'thread')}")
    return [here, *unused_gpus(found, os.environ.get("CUDA_VISIBLE_DEVICES")), *gpus_per_trial(found, settings)]


def gpus_per_trial(found: Mapping[str, Any], settings: Settings) -> list[Check]:
    """Whether this machine can train a trial on as many GPUs as the settings say; of a cluster its machines decide.

    Args:
        found: what `TORCH` printed.
    """
    count, here = settings.gpus_per_trial, len(found["gpus"])
    if count == 1 or settings.ray_address is not None:
        return []
    if here < count:
        todo = "Lower gpus_per_trial, or name a cluster with --ray-address."
        return [Check("GPUs per trial", "fail", f"gpus_per_trial is {count}, and torch can use {here}", todo)]
    if not found["nccl"]:
        todo = "Install torch's CUDA build for Linux, or use gpus_per_trial 1."
        return [Check("GPUs per trial", "fail", f"torch {found['version']} has no NCCL, which connects GPUs", todo)]
    return [Check("GPUs per trial", "ok", f"{count} of {here}, connected by NCCL")]


def unused_gpus(found: Mapping[str, Any], visible: str | None) -> list[Check]:
    """Why GPUs of this machine would not be used.

    Args:
        found: what `TORCH` printed.
        visible: `CUDA_VISIBLE_DEVICES`, None if it is not set.
    """
    number = len(list(NVIDIA.glob("*")))
    there = f"{words.count(number, 'NVIDIA GPU')} here"
    detail, todo = "", ""
    if number and not visible_gpus(visible, number):
        detail, todo = f"{there}, and CUDA_VISIBLE_DEVICES='{visible}' hides all", "unset CUDA_VISIBLE_DEVICES"
    elif number and found["cuda"] is None:
        detail = f"{there}, but torch {found['version']} is built without CUDA"
        todo = "Install torch's CUDA build; pytorch.org names the command."
    elif number and not found["gpus"]:
        detail = f"{there}, but torch, built for CUDA {found['cuda']}, cannot use one"
        todo = "Check nvidia-smi; update a driver that is older than that CUDA, or install an older torch."
    elif AMD.exists() and not number:
        detail = "an AMD GPU is here; lawn-tune uses NVIDIA GPUs only, and trains on CPU cores"
        todo = "With ROCm's torch, 'launch --executor ray --gpus 1' may work; untested."
    return [Check("GPU", "warn", detail, todo)] if detail else []


def compiler(_: Settings) -> list[Check]:
    """The C compiler that builds the optimizer kernels, once a machine."""
    found = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if found is None:
        detail = (
            "none: optimizer steps on a CPU take torch operations, several times as long; results agree to rounding"
        )
        return [Check("C compiler", "warn", detail, "Install one, for example: apt-get install gcc")]
    return [Check("C compiler", "ok", found)]
