"""The command `lawn-tune doctor`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import typer

from lawn_tune.cli.checks import Check, print_checks
from lawn_tune.cli.doctor.database import ledger
from lawn_tune.cli.doctor.devices import compiler, python, torch
from lawn_tune.cli.doctor.folders import datasets, disk, own_folders
from lawn_tune.cli.doctor.packages import packages
from lawn_tune.cli.doctor.ray import cluster, local_ray, ray_token
from lawn_tune.cli.options import AsJson, DataDir, RayAddress, Storage, WorkDir, settings_of
from lawn_tune.cli.printing import print_json
from lawn_tune.settings import Settings

PARTS: tuple[Callable[[Settings], list[Check]], ...] = (
    python,
    packages,
    torch,
    compiler,
    local_ray,
    ray_token,
    own_folders,
    disk,
    ledger,
    datasets,
)
"""In the order of the output."""


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
        print_json("doctor/1", {"ok": not failed, "checks": [asdict(check) for check in checks]})
    else:
        print_checks(checks)
    if failed:
        raise typer.Exit(1)
