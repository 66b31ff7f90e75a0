"""Memory of the process: how the C library keeps it, and its peak, which psutil does not give on Linux."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""glibc's names and numbers (malloc.h)."""


def keep_freed_memory() -> bool:
    """Makes glibc keep freed blocks instead of giving them back to the system, which has to clear them each time.

    Large tensors are freed and asked for again at every operation of a training step, and the pages of a 50 MB
    activation cost as much to map and clear as the operation that fills it: at batch 100,000 an NCF epoch takes about
    two thirds of the time with this (`docs/performance.md`). Never changes a number.

    Returns:
        True where the C library took it, False on systems without glibc, where nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1))
    return all(mallopt(name, value) == 1 for name, value in wanted)


def reset_process_peak() -> bool:
    """Lowers the peak of `process_peak` to the memory that the process has now.

    Returns:
        True where Linux took it, False elsewhere, where the peak stays that of the whole process. Source: proc(5).
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def process_peak() -> int:
    """Returns the most memory that this process has had since `reset_process_peak`, or ever without it, bytes.

    Linux's own mark of the process where there is one: `ru_maxrss` starts from that of the process that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        lines = []
    marks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return 1024 * (marks[0] if marks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
