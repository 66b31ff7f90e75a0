"""Seconds of whole commands: `--help`, `plan` of every built-in space, and `launch` up to its first trained epoch."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import interleaved, summary

CLI = "lawn_tune.cli.main"
ROOT = Path(__file__).parents[1]
LIMIT = 120.0


def run(repeats: int = 7, launches: int = 5) -> dict[str, Any]:
    """Measures whole processes; for a launch, the time from process start to the first epoch in a new ledger."""
    commands = {"--help": ["--help"], "plan --all": ["plan", "--all"], "python -c pass": []}
    seconds = interleaved({name: partial(_command, arguments) for name, arguments in commands.items()}, repeats)
    seconds["launch quickstart, first epoch"] = [first_epoch() for _ in range(launches)]
    return {name: summary(values) for name, values in seconds.items()}


def first_epoch(space: str = "quickstart") -> float:
    """Returns the seconds from the start of `launch` to the first stored epoch of any trial, then stops it."""
    with tempfile.TemporaryDirectory(prefix="lawn-tune-startup-") as folder:
        path = Path(folder) / "ledger.db"
        places = ["--storage", f"sqlite:///{path}", "--work-dir", f"{folder}/work"]
        command = [sys.executable, "-m", CLI, "launch", space, "--executor", "ray", *places]
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not _trained(path):
                if process.poll() is not None or time.perf_counter() - start > LIMIT:
                    raise RuntimeError(f"launch of {space} ended or took {LIMIT:g} s without an epoch")
                time.sleep(0.02)
            return time.perf_counter() - start
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def _trained(path: Path) -> bool:
    """True once the ledger contains an epoch; its tables may not exist yet."""
    if not path.exists():
        return False
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
        try:
            return connection.execute("SELECT 1 FROM lawn_trials WHERE epochs > 0 LIMIT 1").fetchone() is not None
        except sqlite3.OperationalError:
            return False


def _command(arguments: list[str]) -> None:
    target = ["-m", CLI, *arguments] if arguments else ["-c", "pass"]
    subprocess.run([sys.executable, *target], check=True, capture_output=True, timeout=60)
