"""What happens inside a worker: trains one job and sends plain messages; the same code inline and under Ray."""

from __future__ import annotations

import platform
import socket
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import lawn_tune
from lawn_tune.executors.base import Job
from lawn_tune.executors.messages import Message, WorkerSettings
from trainables.memory import keep_freed_memory
from trainables.optimizers import fused
from trainables.trial import Interrupted, train_pack


def work(
    job: Job,
    settings: WorkerSettings,
    send: Callable[[Message], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Trains one job; sends any number of progress messages, then one that ends it. Never raises for a job's sake."""
    started = datetime.now(UTC)
    keep_freed_memory()
    torch.set_num_threads(settings.threads)
    device = torch.device("cuda" if settings.use_gpu and torch.cuda.is_available() else "cpu")
    try:
        outcomes = train_pack(
            job.config,
            data_dir=Path(settings.data_dir),
            device=device,
            report=lambda records: send({"kind": "progress", "records": [asdict(record) for record in records]}),
            checkpoint=settings.checkpoint(job.pack),
            should_stop=should_stop,
        )
    except Interrupted as stop:
        send({"kind": "failed", "reason": "stopped", "error": str(stop)})
    except (torch.OutOfMemoryError, MemoryError) as full:
        send({"kind": "failed", "reason": "memory", "error": f"{device} memory: {full}"})
    except Exception as error:
        text = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        send({"kind": "failed", "reason": "error", "error": text})
    else:
        held = ", ".join(outcomes[0].constrained)
        found = provenance(device, started) | ({"constrained tensors": held} if held else {})
        send({"kind": "finished", "outcomes": [asdict(outcome) for outcome in outcomes], "provenance": found})


def provenance(device: torch.device, started: datetime) -> dict[str, Any]:
    """Returns code and library versions, device, host and times, as stored with every trial."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "lawn_tune": lawn_tune.__version__,
        "python": platform.python_version(),
        "libraries": {library: version(library) for library in ("torch", "numpy")},
        "device": f"{device.type}: {name}",
        "optimizer kernels": "compiled" if device.type == "cpu" and fused.kernels() else "torch operations",
        "threads": torch.get_num_threads(),
        "host": socket.gethostname(),
        "started": started.isoformat(),
        "ended": datetime.now(UTC).isoformat(),
    }
