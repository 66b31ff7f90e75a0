"""`lawn-tune doctor`: what this machine can do, and what prevents it from training."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import typer
from sqlalchemy import Connection, select

from lawn_tune.cli.options import AsJson, DataDir, RayAddress, Storage, WorkDir, print_json, settings_of
from lawn_tune.errors import LawnTuneError
from lawn_tune.executors.build import NVIDIA, machine_cpus
from lawn_tune.ledger.database import NETWORK_FILE_SYSTEMS, Database, clock, file_system
from lawn_tune.ledger.definitions import REVISION
from lawn_tune.ledger.schema import current_revision, open_schema
from lawn_tune.settings import Settings
from lawn_tune.storage import StorageUrl
from trainables import data
from trainables.catalogue.datasets import DATASETS

State = Literal["ok", "warn", "fail"]

PACKAGES: Mapping[str, State] = {
    "torch": "fail",
    "torchvision": "warn",
    "scikit-learn": "warn",
    "ray": "warn",
    "plotly": "warn",
    "optuna": "fail",
    "sqlalchemy": "fail",
    "psycopg": "ok",
}
"""Package → what its absence means: nothing can be trained, something cannot, or it is for PostgreSQL only."""

RAY_AT_LEAST = (2, 59)
"""The first Ray that protects a local cluster with a token by itself."""

FEW_BYTES = 2 * 10**9
TORCH = """
import json, torch
devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
built = {"cuda": torch.version.cuda, "rocm": torch.version.hip}
print(json.dumps({"version": torch.__version__, "gpus": devices, "threads": torch.get_num_threads(), **built}))
"""
TORCH_SECONDS = 120

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

AMD = Path("/dev/kfd")
"""Where AMD's driver shows a GPU."""

SKEW_SECONDS = 3.0
"""Difference of two clocks from which times of trials, taken here, and times of the database are hard to compare."""


@dataclass(frozen=True)
class Check:
    """One line of the doctor: what was looked at, how it is, and what to do if it is not ok."""

    name: str
    state: State
    detail: str
    todo: str = ""


def doctor(
    storage: Storage = None,
    data_dir: DataDir = None,
    work_dir: WorkDir = None,
    ray_address: RayAddress = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine: packages, devices, disk, ledger, data. Fails if something keeps it from training.

    \b
    Examples:
      lawn-tune doctor
      lawn-tune doctor --json --storage postgresql://me@db/lawn
      lawn-tune doctor --ray-address head:6379
    """
    settings = settings_of(locals())
    checks = [check for part in PARTS for check in part(settings)]
    checks += [] if settings.ray_address is None else [cluster(settings.ray_address)]
    failed = any(check.state == "fail" for check in checks)
    if as_json:
        print_json({"ok": not failed, "checks": [asdict(check) for check in checks]})
    else:
        _print(checks)
    if failed:
        raise typer.Exit(1)


def _print(checks: Iterable[Check]) -> None:
    colors = {"ok": typer.colors.GREEN, "warn": typer.colors.YELLOW, "fail": typer.colors.RED}
    for check in checks:
        state = typer.style(f"{check.state:4}", fg=colors[check.state])
        typer.echo(f"{state}  {check.name}: {check.detail}")
        if check.todo:
            typer.echo(f"      {check.todo}")


# --- the checks -------------------------------------------------------------------------------------------------------


def python(_: Settings) -> list[Check]:
    """Python, system and CPU cores."""
    return [
        Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Check("cores", "ok", f"{machine_cpus()} CPU cores for this process"),
    ]


def packages(_: Settings) -> list[Check]:
    """Installed packages, without importing them."""
    return [_package(name, absent) for name, absent in PACKAGES.items()]


def _package(name: str, absent: State) -> Check:
    found = installed(name)
    if found is None:
        if absent == "ok":
            return Check(name, "ok", "not installed; only PostgreSQL needs it")
        return Check(name, absent, "not installed", "pip install 'lawn-tune[all]'")
    if name == "ray" and release(found) < RAY_AT_LEAST:
        lowest = ".".join(map(str, RAY_AT_LEAST))
        return Check(name, "fail", f"{found}, at least {lowest} is needed", f"pip install 'ray[tune]>={lowest}'")
    return Check(name, "ok", found)


def installed(name: str) -> str | None:
    """Returns the installed version of a package, None if there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def release(text: str) -> tuple[int, int]:
    """Returns major and minor number of a version such as "2.60.0rc1"."""
    major, minor, *_ = [*text.split("."), "0"]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)


def torch(_: Settings) -> list[Check]:
    """Torch in a process of its own, so that a broken one cannot take the doctor down."""
    try:
        run = subprocess.run(
            [sys.executable, "-c", TORCH], capture_output=True, text=True, timeout=TORCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return [Check("torch import", "fail", f"no answer in {TORCH_SECONDS} s", "Try: python -c 'import torch'")]
    if run.returncode:
        last = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
        return [Check("torch import", "fail", last, "pip install 'lawn-tune[train]'")]
    found = json.loads(run.stdout.splitlines()[-1])
    gpus = f"GPUs: {', '.join(found['gpus'])}" if found["gpus"] else "no GPU, training uses CPU cores"
    here = Check("torch import", "ok", f"{found['version']}, {gpus}, {found['threads']} threads")
    return [here, *unused_gpus(found, os.environ.get("CUDA_VISIBLE_DEVICES"))]


def unused_gpus(found: Mapping[str, Any], visible: str | None) -> list[Check]:
    """Why GPUs of this machine would not be used.

    Args:
        found: what `TORCH` printed.
        visible: `CUDA_VISIBLE_DEVICES`, None if it is not set.
    """
    count = len(list(NVIDIA.glob("*")))
    there = f"{count} NVIDIA GPU{'s' if count > 1 else ''} here"
    detail, todo = "", ""
    if count and visible is not None and visible.strip() in ("", "-1", "NoDevFiles"):
        detail, todo = f"{there}, and CUDA_VISIBLE_DEVICES='{visible}' hides all", "unset CUDA_VISIBLE_DEVICES"
    elif count and found["cuda"] is None:
        detail = f"{there}, but torch {found['version']} is built without CUDA"
        todo = "Install torch's CUDA build; pytorch.org names the command."
    elif count and not found["gpus"]:
        detail = f"{there}, but torch, built for CUDA {found['cuda']}, cannot use one"
        todo = "Check nvidia-smi; update a driver that is older than that CUDA, or install an older torch."
    elif AMD.exists() and not count:
        detail = "an AMD GPU is here; lawn-tune uses NVIDIA GPUs only, and trains on CPU cores"
        todo = "With ROCm's torch, 'launch --executor ray --gpus 1' may work; untested."
    return [Check("GPU", "warn", detail, todo)] if detail else []


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


def compiler(_: Settings) -> list[Check]:
    """The C compiler that builds the optimizer kernels, once a machine."""
    found = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if found is None:
        detail = (
            "none: optimizer steps on a CPU take torch operations, several times as long; results agree to rounding"
        )
        return [Check("C compiler", "warn", detail, "Install one, for example: apt-get install gcc")]
    return [Check("C compiler", "ok", found)]


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


def disk(settings: Settings) -> list[Check]:
    """Free space where checkpoints, data and an SQLite ledger go."""
    file = StorageUrl.parse(settings.storage).file
    folders = {"work_dir": settings.work_dir, "data_dir": settings.data_dir} | (
        {"storage": file.parent} if file else {}
    )
    places: dict[Path, list[str]] = {}
    for name, folder in folders.items():
        places.setdefault(_existing(folder), []).append(name)
    return [_space(place, names) for place, names in places.items()]


def _space(place: Path, names: list[str]) -> Check:
    free = shutil.disk_usage(place).free
    detail = f"{free / 1e9:.1f} GB free in {place} ({', '.join(names)})"
    if not place.is_dir():
        return Check("disk", "fail", f"{place} ({', '.join(names)}) is not a folder", "Choose another place.")
    if not os.access(place, os.W_OK | os.X_OK):
        closed = f"{place} ({', '.join(names)}) may not be written by this user"
        if names == ["data_dir"]:
            return Check("disk", "warn", closed, "Data sets there can be used, but none fetched.")
        flags = ", ".join("--storage" if name == "storage" else f"--{name.replace('_', '-')}" for name in names)
        return Check("disk", "fail", closed, f"chown or chmod it, or choose another place by {flags}.")
    if free < FEW_BYTES:
        return Check("disk", "warn", detail, "Make room: checkpoints and data may need more.")
    return Check("disk", "ok", detail)


def _existing(folder: Path) -> Path:
    """Returns the folder, or the nearest one above it that is there."""
    absolute = folder.resolve()
    return next(
        place for place in (absolute, *absolute.parents) if os.path.exists(place)
    )  # False where it may not look


def ledger(settings: Settings) -> list[Check]:
    """The ledger: where it is, whether it answers, and whether it may be written."""
    try:
        database = Database(settings.storage)
    except LawnTuneError as error:
        return [Check("ledger", "fail", error.message, error.hint or "")]
    try:
        return [*_file_system(database), *_answer(database)]
    except LawnTuneError as error:
        return [Check("ledger", "fail", error.message, error.hint or "")]


def _file_system(database: Database) -> list[Check]:
    mounts = Path("/proc/self/mounts")
    if database.path is None or not mounts.exists():
        return []
    kind = file_system(database.path, mounts.read_text(errors="replace")) or "unknown"
    if kind in NETWORK_FILE_SYSTEMS:
        todo = "Use a local disk, or PostgreSQL."
        return [Check("ledger disk", "fail", f"{kind} is a network file system, where SQLite loses results", todo)]
    return [Check("ledger disk", "ok", f"{kind} file system")]


def _answer(database: Database) -> list[Check]:
    if database.path is not None and not os.path.exists(database.path):
        return [Check("ledger", "ok", f"{database.shown} will be made by the first launch")]
    try:
        with database.reading() as connection:
            revision = current_revision(connection)
            times = [] if database.path else _clocks(connection)
        if revision not in (None, REVISION):
            return [_other_schema(database)]
        with database.writing():
            pass
    finally:
        database.close()
    if database.path is not None and not os.access(database.path, os.W_OK):
        return [Check("ledger", "fail", f"{database.path} may not be written", f"chmod u+w '{database.path}'")]
    there = f"schema {revision}" if revision else "no ledger yet, the first launch makes one"
    return [Check("ledger", "ok", f"{database.shown} answers and may be written ({there})"), *times]


def _other_schema(database: Database) -> Check:
    """A ledger of another version, or a copy that was not finished; a launch can do something about an older one."""
    try:
        open_schema(database, create=False)
    except LawnTuneError as error:
        return Check("ledger", "warn" if "older" in error.message else "fail", error.message, error.hint or "")
    return Check("ledger", "ok", f"{database.shown} was brought up to date this moment")


def _clocks(connection: Connection) -> list[Check]:
    """This machine's clock against the server's, at the middle of the question."""
    before = now()
    theirs = connection.execute(select(clock(connection))).scalar_one()
    after = now()
    ahead = (before + after) / 2 - theirs
    if abs(ahead) <= SKEW_SECONDS + (after - before) / 2:
        return [Check("clocks", "ok", f"{abs(ahead):.1f} s between this machine and the database server")]
    side = "ahead of" if ahead > 0 else "behind"
    detail = f"this machine is {abs(ahead):.1f} s {side} the database server; timestamps will be inconsistent"
    return [Check("clocks", "warn", detail, "Set both by NTP: timedatectl set-ntp true.")]


def now() -> float:
    """Returns seconds since 1970 by this machine's clock."""
    return time.time()


def datasets(settings: Settings) -> list[Check]:
    """Which data sets are here, with their published content."""
    return [_dataset(data.check(name, settings.data_dir), settings.data_dir) for name in DATASETS]


def _dataset(status: data.Status, folder: Path) -> Check:
    if status.state == "ready":
        return Check(f"data {status.name}", "ok", status.detail)
    state: State = "fail" if status.state == "broken" else "warn"
    return Check(f"data {status.name}", state, status.detail, data.fetch_command(status.name, folder))


PARTS: tuple[Callable[[Settings], list[Check]], ...] = (
    python,
    packages,
    torch,
    compiler,
    ray_token,
    disk,
    ledger,
    datasets,
)
"""In the order of the output."""
