"""Who a driver is, and whether another one on this machine is certainly dead."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Owner:
    """One driver process.

    Args:
        host: host name.
        pid: process ID.
        started: start time of the process in clock ticks since boot, "" where unknown; with it, a
            later process of the same ID is distinguished.
        boot: identity of the machine's boot and of the process-ID namespace: two containers may share host name and
            IDs, and then nothing is known of the other's processes. "" where unknown.
        token: random; what makes two owners different.
    """

    host: str
    pid: int
    started: str
    boot: str
    token: str

    @staticmethod
    def current() -> Owner:
        """Returns a new owner for this process."""
        pid = os.getpid()
        return Owner(
            host=socket.gethostname(), pid=pid, started=_started(pid), boot=_boot(), token=secrets.token_hex(8)
        )

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"

    def is_dead(self) -> bool:
        """True if the process is provably gone; False if it lives, or lives where this process cannot look."""
        if (self.host, self.boot) != (socket.gethostname(), _boot()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it lives, as another user
        return _is_zombie(self.pid) or _started(self.pid) != self.started


def _started(pid: int) -> str:
    return _stat(pid)[19] if _stat(pid) else ""


def _is_zombie(pid: int) -> bool:
    """A killed process that its parent has not waited for still has an ID, but can do nothing."""
    return _stat(pid)[:1] in (["Z"], ["X"])


def _stat(pid: int) -> list[str]:
    """Returns the fields of /proc/<pid>/stat after the program's name (which may hold anything), [] where unknown.

    Not by psutil: its times of start are counted from the clock, which may be set, and two of one process may differ.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
