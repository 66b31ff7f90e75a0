"""The process of one rank: trains its share of a pack, and rank 0 reports what happens; `group` begins it."""

from __future__ import annotations

import base64
import faulthandler
import json
import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from socket import socket
from typing import Any, NoReturn

import torch

from trainables import ranks
from trainables.optimizers.fused import build_kernels
from trainables.out_of_memory import memory_ended
from trainables.tasks import PackConfig
from trainables.training.group import ERRORS
from trainables.training.process_memory import keep_freed_memory
from trainables.training.trial import Event, PackRun, Records, Unsaved, Unusable
from trainables.workloads.own_code import import_code

Message = dict[str, Any]


def main(number: int) -> NoReturn:
    """Does what the first line of a socket asks for, then ends this process.

    Args:
        number: file descriptor of a socket to the worker: JSON lines both ways. Its end ends this process, whatever it
            does.
    """
    channel = socket(fileno=number)
    faulthandler.enable()
    lines = channel.makefile("r")
    order = json.loads(lines.readline())
    answers = SimpleQueue[Message]()
    threading.Thread(target=_listen, args=(lines, answers), daemon=True).start()

    def send(message: Message) -> None:
        channel.sendall((json.dumps(message) + "\n").encode())

    def ask(message: Message) -> Message:
        send(message)
        return answers.get()

    try:
        end = _train(order, ask)
    except BaseException as error:
        end = _raised(error)
    send(end)
    os._exit(0)  # NCCL and gloo may wait for ranks that have ended


def _listen(lines: Any, answers: SimpleQueue[Message]) -> None:
    for line in lines:
        answers.put(json.loads(line))
    os._exit(1)


def _train(order: Message, ask: Callable[[Message], Message]) -> Message:
    """Trains; returns the message that ends it."""
    rank, device = order["rank"], torch.device(order["device"])
    keep_freed_memory()
    torch.set_num_threads(order["threads"])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        build_kernels()
    config = PackConfig.from_dict(order["config"])
    if order["code"]:
        import_code(base64.b64decode(order["code"]), order["named"])
    run = PackRun(
        config,
        data_dir=Path(order["data_dir"]),
        device=device,
        checkpoint=Path(order["checkpoint"]) if order["checkpoint"] else None,
        checkpoint_seconds=order["checkpoint_seconds"],
        checkpoint_steps=order["checkpoint_steps"],
        report_seconds=order["report_seconds"],
        flattening=order["flattening"],
    )
    with ranks.joined(Path(order["meeting"]), rank, order["count"], device):
        for event in run:
            if rank > 0:
                continue  # it sees what rank 0 sees
            answer = ask(_message(event))
            if answer["postpone"]:
                run.postpone_checkpoints()
            if answer["stop"]:
                run.stop()
    if rank > 0 or run.outcomes is None:
        return {"kind": "stopped"}
    outcomes = [asdict(end) | {"examples": base64.b64encode(end.examples).decode()} for end in run.outcomes]
    return {"kind": "finished", "outcomes": outcomes, "references": run.references, "digest": run.digest}


def _message(event: Event) -> Message:
    """Returns an event as JSON values; `group` has the inverse."""
    kind = {"kind": type(event).__name__}
    if isinstance(event, Records):
        return kind | {"records": [asdict(record) for record in event.records]}
    if isinstance(event, Unusable):
        return kind | {"reason": event.reason}
    if isinstance(event, Unsaved):
        return kind | {"error": getattr(event.error, "strerror", None) or str(event.error)}
    return kind | ({"epoch": event.epoch} if hasattr(event, "epoch") else {})


def _raised(error: BaseException) -> Message:
    known = (cause for cause, kind in ERRORS.items() if isinstance(error, kind))
    cause = "memory" if memory_ended(error) else next(known, "error")
    text = str(error) if cause in ERRORS else f"{type(error).__name__}: {error}"
    return {"kind": "raised", "cause": cause, "error": text, "traceback": traceback.format_exc()}
