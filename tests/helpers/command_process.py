"""`lawn-tune` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from lawn_tune.settings import DEBUG

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def lawn_tune(
    *args: str,
    cwd: Path,
    flags: tuple[str, ...] = (),
    debug: str = "0",
    variables: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *flags, "-m", "lawn_tune", *args]
    env = {**ENVIRONMENT, DEBUG: debug, **variables}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=60, check=False)
