"""Peak memory of a pack on the device that trains it."""

from __future__ import annotations

import torch

from trainables.training.process_memory import process_peak, reset_process_peak


def reset_peak_memory(device: torch.device) -> None:
    """Resets `peak_memory` for a pack, as a worker trains one pack after another."""
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # before it there is no peak to reset
        torch.cuda.reset_peak_memory_stats(device)
    else:
        reset_process_peak()


def peak_memory(device: torch.device) -> float:
    """Returns the peak memory since `reset_peak_memory`, bytes: allocated on the device, or of the process on a CPU.

    The process's includes what it already held then: libraries, data, and freed blocks that the C library keeps. Where
    the peak cannot be reset (not Linux), it is that of the whole process.
    """
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(process_peak())
