"""Processes that a worker begins: how they find our code, and how they ended."""

from __future__ import annotations

import os
import signal
import sys


def python(code: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Returns command and environment of a process that runs `code` with the modules that this one can import."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return [sys.executable, "-P", "-c", code, *arguments], environment


def exit_text(code: int) -> str:
    """Returns how a process ended, from its exit code, -n after signal n."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"its process was ended by {name}" + (", often because memory ran out" if name == "SIGKILL" else "")
