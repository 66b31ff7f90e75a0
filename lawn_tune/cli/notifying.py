"""Runs the command of `--notify` when a launch ends, fails or diverges widely; the launch goes on whatever it does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Literal

import typer

from lawn_tune.cells import Cell, Phase
from lawn_tune.errors import AT_LIMIT, INTERRUPTED, UsageError
from lawn_tune.launching.listener import Tally

SCHEMA = "lawn-tune/notice/1"

SECONDS = 10.0
"""A command that runs longer is killed (our choice): a launch that ends waits for it, even one that was stopped."""

SHOWN = 200
"""Last bytes of a failed command's errors that are shown."""

Event = Literal["finished", "failed", "stopped", "limit", "diverging"]


class Notices:
    """Around a launch: sends a notice of how it ended, and on the way one of the first phase that diverges widely.

    The command gets one line of JSON on standard input. No shell reads it; its output is discarded.

    Args:
        command: program and arguments; None sends nothing.
        spaces: names of what is launched.
        ledger: URL without its password.
        warn: shows what became of a command that failed.

    Raises:
        UsageError: there is no such program.
    """

    def __init__(
        self, command: Sequence[str] | None, spaces: Sequence[str], ledger: str, warn: Callable[[str], None]
    ) -> None:
        if command and shutil.which(command[0]) is None:
            raise UsageError(
                f"--notify: there is no program '{command[0]}' here, or it may not be run",
                "Give the path of an executable file; a shell's syntax needs sh -c '...'.",
            )
        self.tallies: list[Tally] = []
        """Of each part of the launch; a later one finds in the ledger what the earlier ones trained."""
        self._command, self._warn = command, warn
        self._about = {"spaces": list(spaces), "ledger": ledger}
        self._threads: list[threading.Thread] = []
        self._diverging: dict[str, Any] | None = None

    def __enter__(self) -> Notices:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        event, code = _ending(error)
        self._send(event, code, str(error) if event == "failed" else None)
        until = time.monotonic() + SECONDS + 1
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self._warn("--notify: a process that the command started is still running")

    def diverged(self, cell: Cell, phase: Phase, count: int, trials: int) -> None:
        """See `Listener.diverged`."""
        if self._diverging is None:
            self._diverging = {"cell": str(cell.name), "phase": phase, "diverged": count, "trials": trials}
            self._send("diverging", None, None)

    def _send(self, event: Event, code: int | None, error: str | None) -> None:
        if self._command is None:
            return
        tallies = self.tallies or [Tally()]
        counts = {name: sum(getattr(tally, name) for tally in tallies) for name in ("trained", "diverged", "failed")}
        counts["found"] = tallies[-1].found - sum(tally.trained for tally in tallies[:-1])
        notice = {"schema": SCHEMA, "event": event, **self._about, "exit_code": code, "error": error}
        text = json.dumps(notice | {"trials": counts, "diverging": self._diverging}, ensure_ascii=False)
        thread = threading.Thread(target=self._deliver, args=(self._command, text), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _deliver(self, command: Sequence[str], text: str) -> None:
        try:
            problem = _run(command, f"{text}\n".encode())
        except OSError as error:
            problem = f"could not be run: {error.strerror}"
        if problem:
            self._warn(f"--notify: '{command[0]}' {problem}")


def _ending(error: BaseException | None) -> tuple[Event, int]:
    """Returns how a launch ended, and the exit code of that."""
    if error is None:
        return "finished", 0
    if isinstance(error, typer.Exit):
        return "limit" if error.exit_code == AT_LIMIT else "stopped", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "stopped", INTERRUPTED
    return "failed", getattr(error, "exit_code", 1)


def _run(command: Sequence[str], text: bytes) -> str:
    """Runs a command that reads the text from a file, which never blocks; returns what went wrong, "" if nothing."""
    with tempfile.TemporaryFile() as notice:
        notice.write(text)
        notice.seek(0)
        process = subprocess.Popen(
            command, stdin=notice, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
    assert process.stderr
    late = threading.Event()

    def end() -> None:
        late.set()
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(SECONDS, end)
    timer.daemon = True
    timer.start()
    errors = b""
    while chunk := os.read(process.stderr.fileno(), 65536):
        errors = (errors + chunk)[-SHOWN:]
    process.stderr.close()
    code = process.wait()
    timer.cancel()
    if late.is_set():
        return f"ran longer than {SECONDS:g} s and was killed"
    last = errors.decode(errors="replace").strip().rpartition("\n")[2]
    return "" if code == 0 else f"failed with exit code {code}" + (f": {last}" if last else "")
