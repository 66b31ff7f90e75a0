"""Free space where checkpoints, data and an SQLite ledger go, and the data sets that are there."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from lawn_tune.cli.checks import Check
from lawn_tune.errors import UsageError
from lawn_tune.settings import Settings
from lawn_tune.storage import StorageUrl
from trainables import data
from trainables.catalogue.datasets import DATASETS

FEW_BYTES = 2 * 10**9


def disk(settings: Settings) -> list[Check]:
    """Free space where checkpoints, data and an SQLite ledger go."""
    file = None
    with suppress(UsageError):  # which the ledger's own check reports
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


def own_folders(_: Settings) -> list[Check]:
    """The home and the temporary folder, where the optimizer kernels and Ray's files go."""
    checks = []
    try:
        checks.append(_own("home", Path.home(), "HOME"))
    except RuntimeError:
        checks.append(
            Check("home", "warn", "neither HOME nor an entry in passwd names one", "Set HOME to your folder.")
        )
    try:
        checks.append(_own("temp", Path(tempfile.gettempdir()), "TMPDIR"))
    except FileNotFoundError:
        checks.append(Check("temp", "warn", "no temporary folder may be written", "Set TMPDIR to a folder of yours."))
    return checks


def _own(name: str, folder: Path, variable: str) -> Check:
    if not folder.is_absolute():
        return Check(name, "warn", f"{folder} is not an absolute path", f"Set {variable} to one.")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Check(name, "warn", f"{folder} may not be written by this user", f"Set {variable} to a folder of yours.")
    return Check(name, "ok", str(folder))


def datasets(settings: Settings) -> list[Check]:
    """Which data sets are here, with their published content; the others in one line, as few launches need them."""
    folder = settings.data_dir
    found = [data.check(name, folder) for name in DATASETS]
    missing = [status.name for status in found if status.state == "missing"]
    here = [_dataset(status, folder) for status in found if status.state != "missing"]
    todo = f"Before a launch that needs one: lawn-tune data fetch NAME --data-dir {folder}"
    return [*here, Check("data", "warn", f"not in {folder}: {', '.join(missing)}", todo)] if missing else here


def _dataset(status: data.Status, folder: Path) -> Check:
    if status.state == "ready":
        return Check(f"data {status.name}", "ok", status.detail)
    return Check(f"data {status.name}", "fail", status.detail, data.remedy(status.name, folder))
