"""Every random source from one seed; nothing else in training draws a random number, except layers of a user's."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Returns a 63-bit seed for one purpose, independent of every other purpose of the same trial seed."""
    text = ":".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Returns the CPU generator of one epoch's data, so that resuming at an epoch needs no generator state."""
    return torch.Generator().manual_seed(derived_seed(seed, "epoch", epoch))


def seed_step(seed: int, step: int, *part: int) -> None:
    """Seeds the global generators for what a user's layers draw in one step, so that resuming needs no state of them.

    Or in one micro-batch of it, its `part`, so that it does not matter which process computes the others.

    Such layers, as dropout, are trained with one trial a pack only.
    """
    drawn = derived_seed(seed, "layers", step, *part)
    random.seed(drawn)
    np.random.seed(drawn % 2**32)
    # What torch.manual_seed does for these devices: it looks at all kinds of them, which takes as long as a small step.
    torch.default_generator.manual_seed(drawn)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(drawn)


@contextmanager
def seeded_init(seed: int) -> Iterator[None]:
    """Seeds torch's global generator for building a model, and gives the old state back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "init"))
        yield


def make_deterministic(seed: int) -> None:
    """Resets what a reused worker process may have left behind: global generators, default dtype, kernel choice."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float32)
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory: Any = torch.utils.deterministic
        memory.fill_uninitialized_memory = False  # it takes a write of each new tensor, and nothing here reads one
        torch.backends.cudnn.benchmark = False
