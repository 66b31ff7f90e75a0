"""What commands print about rows that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from lawn_tune.cli.printing import warn
from lawn_tune.results import REPAIR, TrialRow

MOST = 3
"""Trials that are named one by one."""


def tell_damage(console: Console, rows: Sequence[TrialRow]) -> None:
    """Names the trials that cannot be read: they count as failed, and no launch trains them."""
    damaged = list(dict.fromkeys(row.error for row in rows if row.damaged))
    for error in damaged[:MOST]:
        warn(console, error)
    if damaged:
        more = f"{len(damaged) - MOST} more trials cannot be read. " if len(damaged) > MOST else ""
        warn(console, f"{more}{REPAIR}")
