"""How the C library keeps memory: large tensors are freed and asked for again at every operation of a training step."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""glibc's names and numbers (malloc.h)."""


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed blocks instead of giving them back to the system, which has to clear them each time.

    The pages of a 50 MB activation cost as much to map and clear as the operation that fills it: at batch 100,000 an
    NCF epoch takes about two thirds of the time with this (`docs/performance.md`). Never changes a number.

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
