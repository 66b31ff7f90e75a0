"""One run of a training function's trial: the same events as a pack's, from a process of its own.

Whatever the function does to its process (exit, leak, print, change seeds, fork) ends with it.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import signal
import socket
import tempfile
import time
import zipfile
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import torch

from trainables.data import verified
from trainables.functions.child import GO, STOP
from trainables.functions.host import Host, host
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.processes import exit_text
from trainables.tasks import PackConfig
from trainables.training.outcomes import summarize
from trainables.training.trial import EpochEnded, Event, Records, Resumed, Saved, Unsaved, Unusable, Waiting, Warned

Message = dict[str, Any]

POLL_SECONDS = 0.25
"""Longest time without an event."""

STOP_SECONDS = 5.0
"""How long a function that saves its state has to do so once the launch is stopping (our choice)."""

KEPT_LINES, KEPT_BYTES = 50, 8_000
"""Of what a function prints: the end, as kept in the ledger (our choice)."""

SLOWEST_EPOCHS = 10
"""Times the slowest epoch so far that the next one may take, as for packs."""


class FunctionError(RuntimeError):
    """How a training function failed: one line, its traceback where there is one, and the end of its output."""


class FunctionRun:
    """Runs the function of a pack of one trial; iterating it, once, yields what happens, as of a `PackRun`.

    Args:
        config: the pack.
        archive: the function's source files, as a .zip.
        data_dir, device, checkpoint, checkpoint_seconds, report_seconds: as for `PackRun`.
        threads: CPU threads for torch.
        progress_seconds: how long an epoch may take before the process is ended; 0 waits forever.

    Iterating raises:
        FunctionError: the function did not do what it should.
        DataError: a file that the space declares is missing, or has another content.
    """

    def __init__(
        self,
        config: PackConfig,
        archive: bytes,
        *,
        data_dir: Path,
        device: torch.device,
        checkpoint: Path | None,
        checkpoint_seconds: float,
        report_seconds: float,
        threads: int,
        progress_seconds: float,
    ) -> None:
        self.config, self.archive, self.data_dir, self.device = config, archive, data_dir, device
        self.checkpoint, self.checkpoint_seconds, self.threads = checkpoint, checkpoint_seconds, threads
        self.outcomes: list[TrialOutcome] | None = None
        """Of the one trial, once it ended."""
        self.references: Mapping[str, Mapping[str, float]] = {}
        self.records: list[EpochRecord] = []
        self._output, self._pace = _End(), _Pace(progress_seconds, report_seconds)
        self._diverged, self._sent, self._spent = "", 0, 0.0
        self._saves: bool | None = None
        self._stop_at: float | None = None

    def stop(self) -> None:
        """Asks the function to return, which it has a few seconds for if it saves its state."""
        if self._stop_at is None:
            self._stop_at = time.monotonic() + (STOP_SECONDS if self._saves else 0.0)

    def postpone_checkpoints(self) -> None:
        """The function decides when it saves."""

    @property
    def output(self) -> str:
        """The end of what the function printed."""
        return self._output.text

    def __iter__(self) -> Iterator[Event]:
        row = self.config.task.dataset_row
        with verified(row, self.data_dir), tempfile.TemporaryDirectory(prefix="lawn-tune-function-") as folder:
            (code := Path(folder) / "code").mkdir()
            (scratch := Path(folder) / "scratch").mkdir()
            with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
                archive.extractall(code)
            order = {
                "config": self.config.to_dict(),
                "code": str(code),
                "folder": str(scratch),
                "data_dir": str(self.data_dir),
                "device": str(self.device),
                "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
                "checkpoint_seconds": self.checkpoint_seconds,
                "threads": self.threads,
            }
            with _Process(host(), order, self._output) as process:
                began = time.monotonic()
                self._pace.begin()
                end = yield from self._follow(process)
        if end is not None:
            self.outcomes = [self._outcome(end, self._spent + time.monotonic() - began)]

    def _follow(self, process: _Process) -> Generator[Event, None, Message | None]:
        """Yields events until the function has ended; returns its last message, None if it was stopped."""
        while True:
            message = process.message()
            if self._stop_at is not None and time.monotonic() > self._stop_at:
                return None
            if message is None:
                if process.exit_code is not None:
                    raise self._failed(exit_text(process.exit_code))
                self._check_progress(process)
                yield Waiting()
                if self._stop_at is not None:
                    process.ask_to_stop()
            elif message["kind"] == "raised":
                raise self._failed(message["error"], message["traceback"])
            elif message["kind"] == "returned":
                return (yield from self._returned(message))
            else:
                yield from self._event(message)
                if self._diverged:
                    return {}
                process.answer(stop=self._stop_at is not None)
                self._pace.begin()

    def _check_progress(self, process: _Process) -> None:
        if self._pace.late:
            process.abort()
            raise self._failed(f"no epoch ended for {self._pace.seconds:.0f} s (--progress-timeout)")

    def _returned(self, message: Message) -> Generator[Event, None, Message | None]:
        name, done, epochs = self.config.task.dataset, len(self.records), self.config.task.epochs
        yield from (Warned(f"{name}: {text}") for text in message["warnings"])
        if message["warnings"] and self.records:
            yield Records(self.records[-1:])  # warnings go with records
        if done < epochs and self._stop_at is None:
            raise self._failed(f"it returned after {done} of {epochs} epochs reported")
        return message if done == epochs else None

    def _event(self, message: Message) -> Iterator[Event]:
        kind = message["kind"]
        if kind == "epoch":
            self.records.append(EpochRecord(epoch=message["epoch"], series=message["series"]))
            self._diverged = message["diverged"]
            self._pace.epoch_ended()
            yield EpochEnded(message["epoch"])
            if self._saves is None and message["epoch"] == 2:
                yield Warned(f"{self.config.task.dataset} saves no state: a trial that is interrupted starts again")
            if self._pace.reports_now() or self._diverged or message["epoch"] == self.config.task.epochs:
                yield Records(self.records[self._sent :])
                self._sent = len(self.records)
        elif kind == "resumed":
            self.records, self._saves = [EpochRecord(**record) for record in message["records"]], True
            self._spent = message["seconds"]
            yield Resumed(self.records[-1].epoch)
        elif kind == "unsaved":
            self._saves = False
            yield Unsaved(OSError(message["error"]))
        elif self.checkpoint is not None and kind == "saved":
            self._saves = True
            yield Saved(self.checkpoint)
        elif self.checkpoint is not None:
            yield Unusable(self.checkpoint, message["reason"])

    def _outcome(self, end: Message, seconds: float) -> TrialOutcome:
        measured = {"seconds": seconds, "peak_memory_bytes": end.get("peak_memory"), "ece": None}
        return TrialOutcome(
            key=self.config.members[0].key,
            outcome="diverged" if self._diverged else "complete",
            epochs=len(self.records),
            summary=summarize(self.records, 0, self.config.task.catalogue.metrics) | measured,
            examples=base64.b64decode(end.get("examples", "")),
            example_count=end.get("example_count", 0),
        )

    def _failed(self, text: str, trace: str = "") -> FunctionError:
        name = self.config.task.dataset
        printed = f"\nThe end of its output:\n{self.output}" if self.output else ""
        return FunctionError(f"{name}: {text}\n{trace}{printed}".strip())


class _Pace:
    """How fast a function reports.

    Args:
        progress_seconds: how long an epoch, or what comes before the first one, may take; 0 waits forever. Ten times
            the slowest epoch so far is waited for in any case.
        report_seconds: shortest time between two `Records`.
    """

    def __init__(self, progress_seconds: float, report_seconds: float) -> None:
        self._progress_seconds, self._report_seconds = progress_seconds, report_seconds
        self._slowest, self._reported = 0.0, -math.inf
        self._began = time.monotonic()

    def begin(self) -> None:
        """An epoch begins now; what its worker did before is not the function's time."""
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the epoch began."""
        return time.monotonic() - self._began

    @property
    def late(self) -> bool:
        """Whether the epoch takes too long."""
        return 0 < self._progress_seconds < self.seconds and self.seconds > SLOWEST_EPOCHS * self._slowest

    def epoch_ended(self) -> None:
        """Learns how long an epoch takes."""
        self._slowest = max(self._slowest, self.seconds)

    def reports_now(self) -> bool:
        """Whether it is time for `Records`; if so, the next time comes later."""
        due = time.monotonic() - self._reported >= self._report_seconds
        if due:
            self._reported = time.monotonic()
        return due


class _Process:
    """The process of a function; used as a context manager, at whose end it is gone with all it has begun."""

    def __init__(self, maker: Host, order: Mapping[str, Any], output: _End) -> None:
        self._host, self._output = maker, output
        self._received = b""
        self._messages: deque[Message] = deque()
        self._asked = False
        self.exit_code: int | None = None
        self._channel, theirs = socket.socketpair()
        self._pipe, write = os.pipe()
        try:
            self._id = maker.fork(theirs, write)
        finally:
            theirs.close()
            os.close(write)
        self._channel.sendall((json.dumps(order) + "\n").encode())
        self._channel.setblocking(False)
        os.set_blocking(self._pipe, False)
        self._ready = DefaultSelector()
        for source in (self._channel.fileno(), self._pipe, self._host):
            self._ready.register(source, EVENT_READ)

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *error: object) -> None:
        self._kill(signal.SIGKILL)
        if self.exit_code is None:
            self.exit_code = self._host.wait()
        self._read_all()
        self._ready.close()
        self._channel.close()
        os.close(self._pipe)

    def message(self) -> Message | None:
        """Returns the next message; None if none came for a moment, or the process has ended."""
        if not self._messages and self.exit_code is None:
            found = [key.fileobj for key, _ in self._ready.select(POLL_SECONDS)]
            self._read_all()
            if self._host in found:
                self.exit_code = self._host.wait()
                self._read_all()
        return self._messages.popleft() if self._messages else None

    def answer(self, stop: bool) -> None:
        """Lets the function go on after a message."""
        if stop:
            self.ask_to_stop()
        self._send(GO)

    def ask_to_stop(self) -> None:
        """Makes `should_stop` true."""
        if not self._asked:
            self._asked = True
            self._send(STOP)

    def _send(self, line: str) -> None:
        with suppress(OSError):
            self._channel.send(line.encode())

    def abort(self) -> None:
        """Makes it print where it is, and end."""
        self._kill(signal.SIGABRT)
        end = time.monotonic() + STOP_SECONDS
        while self.exit_code is None and time.monotonic() < end:
            self.message()

    def _kill(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._id, number)

    def _read_all(self) -> None:
        """Reads what is there now."""
        for data in self._read(self._channel.fileno()):
            *lines, self._received = (self._received + data).split(b"\n")
            self._messages.extend(map(json.loads, lines))
        for data in self._read(self._pipe):
            self._output.add(data)

    def _read(self, source: int) -> Iterator[bytes]:
        """Yields what is there now; a source that the process has closed is never waited for again."""
        with suppress(BlockingIOError, ConnectionError):
            while data := os.read(source, 1 << 16):
                yield data
            if source in self._ready.get_map():
                self._ready.unregister(source)


class _End:
    """The end of what a process prints."""

    def __init__(self) -> None:
        self._bytes = b""

    def add(self, data: bytes) -> None:
        """Adds what comes next."""
        self._bytes = (self._bytes + data)[-KEPT_BYTES:]

    @property
    def text(self) -> str:
        """Its lines; of one that was printed over, as progress bars are, the last state."""
        lines = self._bytes.decode(errors="replace").rstrip().split("\n")[-KEPT_LINES:]
        return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
