"""What is stored with every trial of the process that trained it: versions, device, host and times."""

from __future__ import annotations

import platform
import socket
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

import lawn_tune
from trainables.optimizers.gpu import kernels_for


def provenance(device: torch.device, started: datetime) -> dict[str, Any]:
    """Returns code and library versions, device, host and times, as stored with every trial."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "lawn_tune": lawn_tune.__version__,
        "python": platform.python_version(),
        "libraries": {library: version(library) for library in ("torch", "numpy")},
        "device": f"{device.type}: {name}",
        **({"tf32": tf32()} if device.type == "cuda" else {}),
        "optimizer kernels": "compiled" if has_kernels(device) else "torch operations",
        "threads": torch.get_num_threads(),
        "host": socket.gethostname(),
        "started": started.isoformat(),
        "ended": datetime.now(UTC).isoformat(),
    }


def has_kernels(device: torch.device) -> bool:
    """True if optimizers take steps by compiled kernels on this device."""
    return kernels_for(torch.zeros(1, device=device)) is not None


def tf32() -> str:
    """Returns for which float32 operations a GPU may round its inputs to TF32's 10-bit mantissa, as torch is set."""
    settings = {"matrix products": torch.backends.cuda.matmul, "convolutions": torch.backends.cudnn.conv}  # type: ignore[attr-defined]
    return ", ".join(f"{name} {'on' if part.fp32_precision == 'tf32' else 'off'}" for name, part in settings.items())
