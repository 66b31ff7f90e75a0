"""Which commit of lawn_tune runs here."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 10
"""Until a Git that does not answer is left alone."""


@cache
def commit(root: Path = ROOT) -> str:
    """Returns the commit of a checkout, "-dirty" after it where tracked files differ; "" where Git knows of none.

    An installed package is not a checkout, whatever repository its environment lies in.
    """
    if not (root / ".git").exists():
        return ""
    command = ("git", "-C", str(root), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty")
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
