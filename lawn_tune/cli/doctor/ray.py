"""Whether Ray can start here, the token it would ask for, and a running cluster."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import Any

from lawn_tune.cli.checks import Check, State
from lawn_tune.cli.doctor.packages import installed
from lawn_tune.executors.surroundings import cluster_hint, obstacles, ray_folder, token_place
from lawn_tune.settings import Settings
from lawn_tune.words import one_line

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
    place = token_place()
    if place is None:
        return [Check("ray token", "ok", "no home folder to keep one in; each launch makes its own")]
    if place in os.environ or os.path.exists(place):
        return [Check("ray token", "ok", "in place")]
    return [Check("ray token", "ok", "none yet; Ray makes one when it starts on this machine")]


def local_ray(settings: Settings) -> list[Check]:
    """Whether a Ray of a launch's own could start here, and what else of Ray is around."""
    if installed("ray") is None:
        return []
    needed: State = "warn" if settings.executor == "inline" or settings.ray_address else "fail"
    return [
        *(Check(name, needed, f"Ray cannot start here: {detail}", todo) for name, detail, todo in obstacles()),
        *_others(),
    ]


def _others() -> list[Check]:
    join = "a launch starts its own Ray, on the same cores; --ray-address auto joins"
    checks = []
    if address := os.environ.get("RAY_ADDRESS"):
        checks.append(Check("RAY_ADDRESS", "ok", f"'{address}'; {join} that one"))
    elif os.path.exists(os.path.join(ray_folder(), "ray_current_cluster")):
        checks.append(Check("other ray", "ok", f"one was started on this machine by `ray start`; {join} it"))
    return checks


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
        reason = one_line(found["error"])
        return Check("ray cluster", "fail", f"{address}: {reason[:400]}", cluster_hint(reason))
    resources = ", ".join(f"{found['resources'].get(name, 0):g} {name}" for name in ("CPU", "GPU"))
    return Check("ray cluster", "ok", f"{address}: {found['nodes']} nodes, {resources}, same versions")


def _connect(address: str) -> None:
    """Raises OSError if nothing listens at HOST:PORT; Ray itself would go on trying for a minute."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
