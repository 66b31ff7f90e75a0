"""Checks as lines: what was looked at, how it is, and what to do if it is not ok."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import typer

State = Literal["ok", "warn", "fail"]

COLORS = {"ok": typer.colors.GREEN, "warn": typer.colors.YELLOW, "fail": typer.colors.RED}


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, and what to do if it is not ok."""

    name: str
    state: State
    detail: str
    todo: str = ""


def print_checks(checks: Iterable[Check]) -> None:
    """Prints a line a check, and a second one where there is something to do."""
    for check in checks:
        state = typer.style(f"{check.state:4}", fg=COLORS[check.state])
        typer.echo(f"{state}  {check.name}: {check.detail}")
        if check.todo:
            typer.echo(f"      {check.todo}")
