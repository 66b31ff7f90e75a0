"""Functions run by several ranks at once, each a fork of this process."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trainables import ranks


def on_ranks(count: int, function: Callable[[], Any], folder: Path) -> list[Any]:
    """Returns what a function returns on each of `count` ranks, in their order; `folder` is empty."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_run, args=(rank, count, function, folder)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        if process.is_alive():
            process.kill()
    found = [pickle.loads((folder / f"{rank}").read_bytes()) for rank in range(count)]
    for error, _ in found:
        assert not error, error
    return [value for _, value in found]


def _run(rank: int, count: int, function: Callable[[], Any], folder: Path) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)  # a fork has none of its parent's threads
    error, value = "", None
    try:
        with ranks.joined(folder / "meeting", rank, count, torch.device("cpu")):
            value = function()
    except BaseException:
        error = traceback.format_exc()
    (folder / f"{rank}").write_bytes(pickle.dumps((error, value)))
    os._exit(0)
