"""Settings of the command line: declared once in `table`, read by `resolve` from flag, variable, file or default."""

from __future__ import annotations

from lawn_tune.settings import kinds
from lawn_tune.settings.kinds import NO, YES
from lawn_tune.settings.resolve import (
    DASHBOARD_TOKEN,
    DEBUG,
    FILE,
    check_work_dir,
    debugging,
    resolve,
    with_origin,
)
from lawn_tune.settings.table import SETTINGS, Executor, Setting, Settings

__all__ = [
    "DASHBOARD_TOKEN",
    "DEBUG",
    "FILE",
    "NO",
    "SETTINGS",
    "YES",
    "Executor",
    "Setting",
    "Settings",
    "check_work_dir",
    "debugging",
    "kinds",
    "resolve",
    "with_origin",
]
