"""Whether an error means that memory ran out."""

from __future__ import annotations

import errno

import torch

TEXTS = (
    "can't allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "out of memory",
    "_ALLOC_FAILED",
    "_ALLOCATION_FAILED",
    "_STATUS_NOT_INITIALIZED",
)
"""Of the RuntimeErrors that torch and Triton raise without memory: on a CPU, and on a GPU where it is not torch's own
allocator that finds none, but the driver, which loads kernels and graphs, or a library, which creates a handle."""


def memory_ended(error: BaseException) -> bool:
    """True if an error means that memory ran out, on a device or in the process; see `TEXTS`."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(text in str(error) for text in TEXTS)
