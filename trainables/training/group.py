"""One run of a pack by several ranks on one machine: the same events as a `PackRun`'s.

Every rank, 0 included, is a process of its own, and this one only watches them: when a rank ends, whatever the others
are doing, they are ended too, and all that they held on their devices is free. Ranks are on one machine: Ray reserves
several GPUs of one machine for a job, and the same code runs without Ray. Ray Train, or an actor for each rank, would
also reach several machines, which packs on up to 8 GPUs do not need; it would be a second way to do the same (our
choice).
"""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import torch

from trainables.data import DataError
from trainables.optimizers.classes import OptimizerClassError
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.processes import exit_text, python
from trainables.tasks import PackConfig
from trainables.training.packable import Unpackable
from trainables.training.trial import EpochEnded, Event, Records, Resumed, Saved, StepsEnded, Unsaved, Unusable, Waiting
from trainables.workloads.own_errors import WorkloadError

Message = dict[str, Any]

START = "import sys; from trainables.training.rank import main; main(int(sys.argv[1]))"

POLL_SECONDS = 0.25
"""Longest time without an event."""

GRACE_SECONDS = 1.0
"""How long the others have to report why they ended, once a rank has: one that ran out of memory ends them all."""

ERRORS: Mapping[str, type[Exception]] = {
    "memory": torch.OutOfMemoryError,
    "data": DataError,
    "workload": WorkloadError,
    "class": OptimizerClassError,
    "alone": Unpackable,
}
"""Why a rank may end → what the run raises then."""

CAUSES = (*ERRORS, "ended", "error")
"""Why ranks end, those that explain the others first."""

KEPT_BYTES = 4_000
"""Of what a rank printed before it ended without a word."""


class RankError(RuntimeError):
    """How a rank ended: its number and its error, with its traceback where there is one."""


class GroupRun:
    """Trains every trial of a pack on several devices; iterating it, once, yields what happens, as of a `PackRun`.

    Args:
        config: the pack.
        count: ranks, one of `tasks.RANKS`.
        device: "cuda", of which rank r takes number r, or "cpu" for all.
        threads: CPU threads of all ranks together.
        code, named: source files of a user's workload or optimizer class, as a .zip, and which of them is imported;
            empty for any other.
        data_dir, checkpoint, checkpoint_seconds, checkpoint_steps, report_seconds, flattening: as for `PackRun`.

    Iterating raises:
        torch.OutOfMemoryError, DataError, WorkloadError, OptimizerClassError, Unpackable: as of a `PackRun`, of any
            rank.
        RankError: a rank failed or ended.
    """

    def __init__(
        self,
        config: PackConfig,
        count: int,
        *,
        data_dir: Path,
        device: torch.device,
        checkpoint: Path | None,
        checkpoint_seconds: float,
        checkpoint_steps: int,
        report_seconds: float,
        flattening: bool,
        threads: int,
        code: bytes,
        named: str,
    ) -> None:
        self.config, self.count, self.device, self.checkpoint = config, count, device, checkpoint
        self.outcomes: list[TrialOutcome] | None = None
        """Of all trials in the pack's order, once they ended."""
        self.references: Mapping[str, Mapping[str, float]] = {}
        self.digest = ""
        self._stopping = self._postponing = False
        self._order = {
            "config": config.to_dict(),
            "count": count,
            "data_dir": str(data_dir),
            "checkpoint": None if checkpoint is None else str(checkpoint),
            "checkpoint_seconds": checkpoint_seconds,
            "checkpoint_steps": checkpoint_steps,
            "report_seconds": report_seconds,
            "flattening": flattening,
            "threads": max(1, threads // count),
            "code": base64.b64encode(code).decode(),
            "named": named,
        }

    def stop(self) -> None:
        """See `PackRun.stop`."""
        self._stopping = True

    def postpone_checkpoints(self) -> None:
        """See `PackRun.postpone_checkpoints`."""
        self._postponing = True

    def __iter__(self) -> Iterator[Event]:
        if self.device.type == "cuda" and torch.cuda.device_count() < self.count:
            raise RankError(f"{self.count} GPUs are to train a pack, and its worker sees {torch.cuda.device_count()}")
        with tempfile.TemporaryDirectory(prefix="lawn-tune-ranks-") as folder, _Group(self.count, folder) as group:
            for rank, process in enumerate(group.processes):
                device = f"cuda:{rank}" if self.device.type == "cuda" else "cpu"
                process.send(self._order | {"rank": rank, "device": device, "meeting": f"{folder}/meeting"})
            end = yield from self._follow(group)
        if end["kind"] == "finished":
            self.references, self.digest = end["references"], end["digest"]
            self.outcomes = [_outcome(values) for values in end["outcomes"]]

    def _follow(self, group: _Group) -> Generator[Event, None, Message]:
        """Yields events until rank 0 has ended; returns its last message."""
        while True:
            message = group.message()
            if message is None:
                yield Waiting()
            elif message["kind"] in ("finished", "stopped"):
                return message
            else:
                yield self._event(message)
                group.processes[0].send({"stop": self._stopping, "postpone": self._postponing})
                self._postponing = False

    def _event(self, message: Message) -> Event:
        kind = message["kind"]
        if kind == "Records":
            return Records([EpochRecord(**record) for record in message["records"]])
        if kind in ("Resumed", "EpochEnded"):
            return (Resumed if kind == "Resumed" else EpochEnded)(message["epoch"])
        if kind == "StepsEnded":
            return StepsEnded()
        if kind == "Unsaved":
            return Unsaved(OSError(message["error"]))
        assert self.checkpoint is not None
        return Saved(self.checkpoint) if kind == "Saved" else Unusable(self.checkpoint, message["reason"])


def _outcome(values: Message) -> TrialOutcome:
    examples, constrained = base64.b64decode(values["examples"]), tuple(values["constrained"])
    return TrialOutcome(**values | {"examples": examples, "constrained": constrained})


class _Rank:
    """A process and what it sends.

    Args:
        number: of the rank.
        output: where what it prints goes.
    """

    def __init__(self, number: int, output: Path) -> None:
        self.number, self._output, self._received = number, output, b""
        self.messages: list[Message] = []
        self.over = False
        self.channel, theirs = socket.socketpair()
        command, environment = python(START, str(theirs.fileno()))
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
        with theirs, output.open("wb") as printed:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,
            )

    def send(self, message: Message) -> None:
        """Sends a line; one that has ended is found by `read`."""
        with suppress(OSError):
            self.channel.sendall((json.dumps(message) + "\n").encode())

    def read(self) -> None:
        """Reads what is there; the end of a process that did not report one becomes its last message."""
        try:
            data = self.channel.recv(1 << 20)
        except ConnectionError:
            data = b""
        *lines, self._received = (self._received + data).split(b"\n")
        self.messages += map(json.loads, lines)
        if not data:
            self.over = True
            if not (self.messages and self.messages[-1]["kind"] in ("raised", "finished", "stopped")):
                error = exit_text(self._process.wait())
                self.messages.append({"kind": "raised", "cause": "ended", "error": error, "traceback": self._printed()})

    def end(self) -> None:
        """Ends it, if it still runs."""
        self.channel.close()
        self._process.kill()
        self._process.wait()

    def _printed(self) -> str:
        return self._output.read_bytes()[-KEPT_BYTES:].decode(errors="replace")


class _Group:
    """The processes of all ranks; used as a context manager, at whose end they are gone."""

    def __init__(self, count: int, folder: str) -> None:
        self.processes: list[_Rank] = []
        self._ready = DefaultSelector()
        self._count, self._folder = count, Path(folder)

    def __enter__(self) -> _Group:
        with ExitStack() as stack:
            stack.callback(self.__exit__)
            for number in range(self._count):
                self.processes.append(_Rank(number, self._folder / f"{number}.txt"))
                self._ready.register(self.processes[-1].channel, EVENT_READ, self.processes[-1])
            stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._ready.close()
        for process in self.processes:
            process.end()

    def message(self) -> Message | None:
        """Returns the next message of rank 0, None if none came for a moment.

        Raises:
            Exception: of `ERRORS`, or RankError: a rank ended before its time.
        """
        first = self.processes[0].messages
        if not first:
            self._read(POLL_SECONDS)
        if self._failed():
            limit = time.monotonic() + GRACE_SECONDS
            while (left := limit - time.monotonic()) > 0 and self._ready.get_map():
                self._read(left)
            _raise(self._failed(), self._count)
        return first.pop(0) if first else None

    def _read(self, seconds: float) -> None:
        for key, _ in self._ready.select(seconds):
            key.data.read()
            if key.data.over:
                self._ready.unregister(key.fileobj)

    def _failed(self) -> list[tuple[int, Message]]:
        """Returns the ranks that ended before their time, with their last message."""
        ends = [(rank.number, rank.messages[-1]) for rank in self.processes if rank.messages]
        return [(number, end) for number, end in ends if end["kind"] == "raised"]


def _raise(failed: Sequence[tuple[int, Message]], count: int) -> None:
    number, end = min(failed, key=lambda pair: CAUSES.index(pair[1]["cause"]))
    if end["cause"] in ERRORS:
        raise ERRORS[end["cause"]](end["error"])
    raise RankError(f"rank {number} of {count}: {end['error']}\n{end['traceback']}".rstrip())
