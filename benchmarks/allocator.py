"""An NCF epoch at batch 100,000 with glibc keeping freed memory, against its default: one process each, one thread."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import ratio, summary
from benchmarks.packs import train_ncf
from trainables.data import check
from trainables.training.process_memory import keep_freed_memory

MODES = ("default", "keep freed memory")


def run(data_dir: Path, repeats: int = 5) -> dict[str, Any]:
    """Measures the third epoch of each process, interleaved; returns nothing if the data is missing."""
    if check("movielens-100k", data_dir).state != "ready":
        return {}
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(repeats):
        for mode in MODES:
            command = [sys.executable, "-m", "benchmarks.allocator", str(data_dir), mode]
            completed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
            seconds[mode].append(float(completed.stdout))
    return {
        "seconds_per_epoch": {mode: summary(values) for mode, values in seconds.items()},
        "ratio": ratio(seconds["keep freed memory"], seconds["default"]),
    }


def main() -> None:
    """Prints the seconds of one epoch after two others, in the mode of the second argument."""
    torch.set_num_threads(1)
    if sys.argv[2] != MODES[0]:
        keep_freed_memory()
    training = train_ncf(Path(sys.argv[1]), batch=100_000)
    for _ in range(2):
        training.run_epoch()
    start = time.perf_counter()
    training.run_epoch()
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
