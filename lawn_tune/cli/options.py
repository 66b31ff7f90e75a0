"""Options that several commands share, and how they print."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

Storage = Annotated[
    str | None, typer.Option("--storage", metavar="URL", help="Ledger: a database URL.  [sqlite:///lawn-tune.db]")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of a table.")]
Cells = Annotated[
    list[str] | None,
    typer.Option("--cells", metavar="GLOB", help="Only cells like 'adam*/bs512'; may be given several times."),
]
MaxEpochs = Annotated[int | None, typer.Option("--max-epochs", metavar="N", help="Train at most N epochs a trial.")]
Seeds = Annotated[int | None, typer.Option("--seeds", metavar="N", help="Number of seeds that confirm each winner.")]

PIPE_WIDTH = 200
"""Columns of a table that goes to a file or a pipe, where no terminal gives a width."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leaves it to the command line, which knows the exit code."""
        raise BrokenPipeError


def console() -> Console:
    """Returns a console on standard output that never cuts a table because nobody looks at it."""
    return _Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def print_json(values: Any) -> None:
    """Prints values as JSON.

    Raises:
        ValueError: a number is not finite; JSON has no word for it.
    """
    typer.echo(json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False))
