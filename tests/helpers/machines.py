"""What docker-compose.yml starts, as real processes on this machine: a Ray head, and workers that can be killed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"
HEAD = "ray-head:6379"
STARTED = "will now block forever"
PATIENCE = 60.0


def environment(token: str) -> dict[str, str]:
    """Variables of every process of a cluster whose members know a token."""
    ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    fast = {"RAY_health_check_initial_delay_ms": "500", "RAY_health_check_period_ms": "500"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return os.environ | ours | fast | {"PATH": path}


class Cluster:
    """Starts and kills machines; used as a context manager.

    Args:
        head: options of the head beyond those of docker-compose.yml; of two that contradict, the later one counts.
    """

    def __init__(self, *head: str) -> None:
        self._head = head
        self.folder = Path(tempfile.mkdtemp(prefix="lawn-ray-", dir="/tmp"))  # sockets' paths must be short
        self.environment = environment(secrets.token_hex(32))
        self.address = ""
        self.secrets = self.folder / "secrets"
        self.secrets.mkdir()
        for name in ("postgres_password", "dashboard_token"):
            (self.secrets / name).write_text(secrets.token_hex(32))
        self._services: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
        self._machines: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        command = self.command("ray-head", "--port=6379", "--port=0")
        self.start("head", [*command, f"--temp-dir={self.folder}", *self._head])
        self.address = (self.folder / "ray_current_cluster").read_text().strip()
        return self

    def __exit__(self, *error: object) -> None:
        for name in list(self._machines):
            self.kill(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def join(self, name: str, *options: str) -> None:
        """Adds a machine with one core."""
        self.start(name, [*self.command("gpu-worker"), "--num-cpus=1", *options])

    def command(self, service: str, before: str = HEAD, after: str = "") -> list[str]:
        """Returns what a service runs, with names that only containers know replaced."""
        found = self._services[service]
        words = [*found.get("entrypoint", []), *found["command"]]
        swaps = (
            (before, after or self.address),
            (HEAD, self.address),
            ("/run/secrets", str(self.secrets)),
            ("$$", "$"),
        )
        for old, new in swaps:
            words = [word.replace(old, new) for word in words]
        return words

    def start(self, name: str, command: Sequence[str]) -> None:
        """Runs a `ray start` and waits until it says that all is up."""
        log = self.folder / f"{name}.log"
        common = [f"--node-name={name}", "--object-store-memory=80000000", "--disable-usage-stats"]
        with log.open("wb") as output:
            self._machines[name] = subprocess.Popen(
                [*command, *common], env=self.environment, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE
        while STARTED not in log.read_text():
            assert self._machines[name].poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    def kill(self, name: str) -> None:
        """Ends all processes of a machine at once, as a power cut does."""
        machine = self._machines.pop(name)
        end(machine.pid)
        machine.wait()


def end(leader: int) -> None:
    """Ends the processes of a session that we started."""
    for pid in session(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def session(leader: int) -> list[int]:
    """Returns the processes of a session that we started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[3]) == leader:
                found.append(int(stat.parent.name))
    return found
