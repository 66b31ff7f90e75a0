"""Installed packages, without importing them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from lawn_tune.cli.checks import Check, State
from lawn_tune.settings import Settings

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
