"""How busy a job keeps its device, at the cost of a look now and then."""

from __future__ import annotations

import os
import time

import torch


class Utilization:
    """Measures from its creation on: a CPU by the time of the process and its children, a GPU by its driver.

    Args:
        device: that trains.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._samples = device, list[float]()
        self._began, self._cpu = time.monotonic(), _cpu_seconds()

    def look(self) -> None:
        """Asks the GPU's driver once, where it can be asked (the package nvidia-ml-py)."""
        if self._device.type == "cuda":
            try:
                self._samples.append(torch.cuda.utilization(self._device) / 100)
            except Exception:  # NVML's errors are of no other class, and the package may be missing
                self._device = torch.device("meta")  # never asked again

    def share(self) -> float | None:
        """Returns the busy share, 0 to 1: of the threads that train, or of the GPU's time; None where it is unknown."""
        if self._device.type == "cpu":
            wall = time.monotonic() - self._began
            busy = (_cpu_seconds() - self._cpu) / torch.get_num_threads()
            return round(min(busy / wall, 1.0), 3) if wall else None
        return round(sum(self._samples) / len(self._samples), 3) if self._samples else None


def _cpu_seconds() -> float:
    return sum(os.times()[:4])
