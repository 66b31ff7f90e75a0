"""`lawn-tune doctor`: what this machine can do, and what stands in the way."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

import typer

from lawn_tune.cli.options import AsJson, Storage, print_json
from lawn_tune.errors import LawnTuneError
from lawn_tune.ledger.database import NETWORK_FILE_SYSTEMS, Database, file_system
from lawn_tune.ledger.schema import current_revision
from lawn_tune.settings import Settings, resolve, sqlite_file
from trainables import data
from trainables.config import DATASETS

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
print(json.dumps({"version": torch.__version__, "gpus": devices, "threads": torch.get_num_threads()}))
"""
TORCH_SECONDS = 120


@dataclass(frozen=True)
class Check:
    """One line of the doctor: what was looked at, how it is, and what to do if it is not ok."""

    name: str
    state: State
    detail: str
    todo: str = ""


def doctor(
    storage: Storage = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data sets; default data.")] = None,
    work_dir: Annotated[Path | None, typer.Option(help="Folder of checkpoints; default .lawn-tune.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine: packages, devices, disk, ledger, data. Fails if something keeps it from training.

    \b
    Examples:
      lawn-tune doctor
      lawn-tune doctor --json --storage postgresql://me@db/lawn
    """
    settings = resolve({"storage": storage, "data_dir": data_dir, "work_dir": work_dir})
    checks = [check for part in PARTS for check in part(settings)]
    failed = any(check.state == "fail" for check in checks)
    if as_json:
        print_json({"ok": not failed, "checks": [asdict(check) for check in checks]})
    else:
        _print(checks)
    if failed:
        raise typer.Exit(1)


def _print(checks: Iterable[Check]) -> None:
    colours = {"ok": typer.colors.GREEN, "warn": typer.colors.YELLOW, "fail": typer.colors.RED}
    for check in checks:
        state = typer.style(f"{check.state:4}", fg=colours[check.state])
        typer.echo(f"{state}  {check.name}: {check.detail}")
        if check.todo:
            typer.echo(f"      {check.todo}")


# --- the checks -------------------------------------------------------------------------------------------------------


def python(_: Settings) -> list[Check]:
    """Python, system and CPU cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [
        Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Check("cores", "ok", f"{cores} CPU cores for this process"),
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
        least = ".".join(map(str, RAY_AT_LEAST))
        return Check(name, "fail", f"{found}, at least {least} is needed", f"pip install 'ray[tune]>={least}'")
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
    return [Check("torch import", "ok", f"{found['version']}, {gpus}, {found['threads']} threads")]


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
                "ray token", "warn", "RAY_AUTH_MODE=disabled: whoever reaches a port runs code", "unset RAY_AUTH_MODE"
            )
        ]
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if given or (Path.home() / ".ray" / "auth_token").exists():
        return [Check("ray token", "ok", "in place")]
    return [Check("ray token", "ok", "none yet; Ray makes one when it starts on this machine")]


def disk(settings: Settings) -> list[Check]:
    """Free space where checkpoints, data and an SQLite ledger go."""
    file = sqlite_file(settings.storage)
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
    if not os.access(place, os.W_OK):
        return Check("disk", "fail", f"{place} ({', '.join(names)}) may not be written", "Choose another folder.")
    if free < FEW_BYTES:
        return Check("disk", "warn", detail, "Make room: checkpoints and data may need more.")
    return Check("disk", "ok", detail)


def _existing(folder: Path) -> Path:
    """Returns the folder, or the nearest one above it that is there."""
    absolute = folder.resolve()
    return next(place for place in (absolute, *absolute.parents) if place.exists())


def ledger(settings: Settings) -> list[Check]:
    """The ledger: where it is, whether it answers, and whether it may be written."""
    try:
        database = Database(settings.storage)
    except LawnTuneError as error:
        return [Check("ledger", "fail", error.message, error.hint or "")]
    try:
        return [*_file_system(database), _answer(database)]
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


def _answer(database: Database) -> Check:
    if database.path is not None and not database.path.exists():
        return Check("ledger", "ok", f"{database.shown} will be made by the first launch")
    try:
        with database.reading() as connection:
            revision = current_revision(connection)
        with database.writing():
            pass
    finally:
        database.close()
    if database.path is not None and not os.access(database.path, os.W_OK):
        return Check("ledger", "fail", f"{database.path} may not be written", f"chmod u+w '{database.path}'")
    there = f"schema {revision}" if revision else "no ledger yet, the first launch makes one"
    return Check("ledger", "ok", f"{database.shown} answers and may be written ({there})")


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
