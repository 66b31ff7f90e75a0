"""The process of one trial: imports the user's function, calls it, and reports how that ended."""

from __future__ import annotations

import base64
import faulthandler
import importlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from socket import socket
from typing import Any, NoReturn, cast

import numpy as np
import torch

from trainables.examples import encode
from trainables.functions.trial import Ended, FunctionTrial
from trainables.tasks import PackConfig
from trainables.training.peak_memory import peak_memory, reset_peak_memory
from trainables.training.seeding import make_deterministic

STOP, GO = "stop\n", "go\n"
"""What the worker sends: a request to stop, at any time, and the answer to each message."""

PLACE = "; it runs in an empty folder, from a copy of its sources: read data from trial.data_dir"
"""Added to the error of a function that looks for a file in either folder."""


def run(channel: socket, output: int) -> NoReturn:
    """Does what the first line of the channel asks for, then ends this process.

    Args:
        channel: to the worker; JSON lines both ways. Its end ends this process, wherever the function is.
        output: file descriptor for what the function prints.
    """
    os.setsid()
    for number in (1, 2):
        os.dup2(output, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    faulthandler.enable(sys.stderr)  # a worker that gives up on a hang asks for the place with SIGABRT
    lines = channel.makefile("r")
    order = json.loads(lines.readline())
    stopping, answers = threading.Event(), SimpleQueue[str]()
    threading.Thread(target=_listen, args=(lines, stopping, answers), daemon=True).start()

    def send(message: dict[str, Any]) -> None:
        channel.sendall((json.dumps(message) + "\n").encode())

    def ask(message: dict[str, Any]) -> None:
        send(message)
        answers.get()  # so that `should_stop` is up to date, and nothing runs ahead of what the worker has stored

    end = _called(order, ask, stopping.is_set)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    send(end)
    os._exit(0)  # whatever threads and exit handlers the function has left


def _listen(lines: Any, stopping: threading.Event, answers: SimpleQueue[str]) -> None:
    for line in lines:
        if line == STOP:
            stopping.set()
        else:
            answers.put(line)
    os._exit(1)


def _called(
    order: dict[str, Any], send: Callable[[dict[str, Any]], None], stopping: Callable[[], bool]
) -> dict[str, Any]:
    """Calls the function; returns the message that ends the trial."""
    config, device = PackConfig.from_dict(order["config"]), torch.device(order["device"])
    trial = FunctionTrial(
        config,
        device=device,
        data_dir=Path(order["data_dir"]),
        send=send,
        stopping=stopping,
        checkpoint=Path(order["checkpoint"]) if order["checkpoint"] else None,
        checkpoint_seconds=order["checkpoint_seconds"],
    )
    os.chdir(order["folder"])
    torch.set_num_threads(order["threads"])
    make_deterministic(trial.seed)
    reset_peak_memory(device)
    try:
        _function(order["code"], config.task.dataset_row.workload)(trial)
    except Ended:
        pass
    except SystemExit as error:
        return _raised(f"it called sys.exit({'' if error.code is None else repr(error.code)})", error)
    except BaseException as error:
        text = str(error).strip().splitlines()
        place = PLACE if isinstance(error, FileNotFoundError) and _is_own(error.filename, order) else ""
        return _raised((f"{type(error).__name__}: {text[0]}" if text else type(error).__name__) + place, error)
    hits = np.zeros(0, np.bool_) if trial.hits is None else trial.hits
    return {
        "kind": "returned",
        "warnings": list(trial.warnings()),
        "peak_memory": peak_memory(device),
        "examples": base64.b64encode(encode(hits)).decode(),
        "example_count": len(hits),
    }


def _is_own(file: object, order: dict[str, Any]) -> bool:
    """Whether a path is below the folders that are made for a trial: relative, or next to the sources."""
    try:
        path = Path(os.fsdecode(cast("str | bytes", file))).absolute()
    except TypeError:  # a file descriptor, or nothing
        return False
    return any(path.is_relative_to(Path(order[name]).absolute()) for name in ("folder", "code"))


def _function(folder: str, name: str) -> Callable[[FunctionTrial], None]:
    """Imports the function, from the sources that came with the trial."""
    sys.path.insert(0, folder)
    module, _, attribute = name.partition(":")
    function: Callable[[FunctionTrial], None] = getattr(importlib.import_module(module), attribute)
    if not callable(function):
        raise TypeError(f"{name} is not a function, but of type {type(function).__name__}")
    return function


def _raised(text: str, error: BaseException) -> dict[str, Any]:
    """Returns an error with its traceback, which begins in the user's code."""
    trace, ours = error.__traceback__, Path(__file__)
    while trace is not None and Path(trace.tb_frame.f_code.co_filename) == ours:
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    return {"kind": "raised", "error": text, "traceback": "".join(lines)}
