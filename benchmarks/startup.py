"""Seconds from the shell: `--help`, and `plan` of every built-in space."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Any

from benchmarks.measure import interleaved, summary


def run(repeats: int = 7) -> dict[str, Any]:
    """Measures whole processes."""
    commands = {"--help": ["--help"], "plan --all": ["plan", "--all"], "python -c pass": []}
    seconds = interleaved({name: partial(_command, arguments) for name, arguments in commands.items()}, repeats)
    return {name: summary(values) for name, values in seconds.items()}


def _command(arguments: list[str]) -> None:
    target = ["-m", "lawn_tune.cli.main", *arguments] if arguments else ["-c", "pass"]
    subprocess.run([sys.executable, *target], check=True, capture_output=True, timeout=60)
