"""Runs of pytest in forked processes that start with the large libraries imported, each in a copy of the tree."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from compileall import compile_dir
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode

PACKAGES = ["lawn_tune", "search_spaces", "trainables", "dashboards"]
OPTIONS = ["-q", "-p", "no:cacheprovider", "--hypothesis-seed=1", "--no-header"]
QUICK = ["-m", "not long and not ray"]
LEFT_OUT = (".git", ".venv", "build", "dist", "*.egg-info", ".mypy_cache", ".ruff_cache", ".hypothesis", "data")
TIMED_OUT = -1


def import_libraries() -> None:
    """Imports what takes seconds and starts no thread, so that forked processes have it."""
    import numpy  # noqa: F401
    import torch  # noqa: F401


def copied(root: Path, place: Path) -> Path:
    """Copies the tree; compiled files are checked by content, as two mutants may share a second."""
    shutil.copytree(root, place, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for package in PACKAGES:
        compile_dir(place / package, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    return place


@dataclass
class Running:
    """A forked process and when it has to be done."""

    pid: int
    deadline: float

    def ended(self) -> int | None:
        """Returns the exit code, TIMED_OUT once the deadline has passed, or None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() < self.deadline:
            return None
        self.kill()
        return TIMED_OUT

    def kill(self) -> None:
        """Ends the process and its group; first by an interrupt, so that fixtures stop their servers."""
        for number, pause in ((signal.SIGINT, 3.0), (signal.SIGKILL, 0.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            time.sleep(pause)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def forked(work: Callable[[], int], place: Path, log: Path, seconds: float) -> Running:
    """Starts `work` in a process of its own whose folder and imports are `place`; its output goes to `log`."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return Running(pid, time.monotonic() + seconds)
    code = 70
    try:
        _settle(place, log)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _settle(place: Path, log: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setpgid(0, 0)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(place)
    os.environ |= {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in [name for name in sys.modules if name.split(".")[0] in [*PACKAGES, "tests"]]:
        del sys.modules[name]
    sys.path[:] = [str(place), *(path for path in sys.path if path not in ("", os.environ.get("MUTANTS_ROOT", "")))]
    sys.dont_write_bytecode = True
