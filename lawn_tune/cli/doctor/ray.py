"""A running Ray cluster, and the token it would ask for."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from lawn_tune.cli.doctor.check import Check
from lawn_tune.cli.doctor.packages import installed
from lawn_tune.settings import Settings

RAY = """
import json, sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
    found = {"nodes": sum(node["Alive"] for node in ray.nodes()), "resources": ray.cluster_resources()}
except BaseException as error:
    found = {"error": f"{type(error).__name__}: {error}"}
print("\\n" + json.dumps(found), flush=True)
"""
RAY_SECONDS, CONNECT_SECONDS = 45, 5


def ray_token(_: Settings) -> list[Check]:
    """Whether a Ray cluster would ask for a token; the token itself is never read."""
    if installed("ray") is None:
        return []
    mode = os.environ.get("RAY_AUTH_MODE", "")
    if mode == "disabled":
        return [
            Check(
                "ray token",
                "warn",
                "RAY_AUTH_MODE=disabled: anyone who can reach a port can run code",
                "unset RAY_AUTH_MODE",
            )
        ]
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if given or (Path.home() / ".ray" / "auth_token").exists():
        return [Check("ray token", "ok", "in place")]
    return [Check("ray token", "ok", "none yet; Ray makes one when it starts on this machine")]


def cluster(address: str) -> Check:
    """A Ray cluster, from a process of its own with a time limit, as Ray waits long for one that does not answer."""
    command = [sys.executable, "-c", RAY, address]
    try:
        _connect(address)
        run = subprocess.run(command, capture_output=True, text=True, timeout=RAY_SECONDS, check=False)
    except (subprocess.TimeoutExpired, OSError) as error:
        reason = f"no connection: {error}" if isinstance(error, OSError) else f"no answer in {RAY_SECONDS} s"
        todo = "Check host and port (Ray's own is 6379), that the head runs, and firewalls in between."
        return Check("ray cluster", "fail", f"{address}: {reason}", todo)
    last = (run.stdout.strip().splitlines() or [""])[-1]
    found: Any = (
        json.loads(last) if last.startswith("{") else {"error": f"exit code {run.returncode}: {run.stderr[-300:]}"}
    )
    if "error" in found:
        reason = " ".join(found["error"].split())
        return Check("ray cluster", "fail", f"{address}: {reason[:400]}", _cluster_todo(reason))
    resources = ", ".join(f"{found['resources'].get(name, 0):g} {name}" for name in ("CPU", "GPU"))
    return Check("ray cluster", "ok", f"{address}: {found['nodes']} nodes, {resources}, same versions")


def _connect(address: str) -> None:
    """Raises OSError if nothing listens at HOST:PORT; Ray itself would go on trying for a minute."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()


def _cluster_todo(reason: str) -> str:
    if "ersion mismatch" in reason:
        return "Install here the Ray of the cluster (pip install 'ray[tune]==VERSION') under the same Python."
    if "oken" in reason or "Failed to connect" in reason:  # something listens there: most often a head that lacks it
        return "Give the head's token: RAY_AUTH_MODE=token, and its ~/.ray/auth_token here or at RAY_AUTH_TOKEN_PATH."
    if "No module named" in reason:
        return "pip install 'lawn-tune[ray]'"
    return "Check host and port (Ray's own is 6379) and that the head runs: ray status on its machine."
