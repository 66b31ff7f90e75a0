"""How commands print and write files."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from lawn_tune.errors import UsageError

PIPE_WIDTH = 10_000
"""Columns for what goes to a file or a pipe, where no terminal gives a width: nothing is as wide, so nothing folds."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leaves it to the command line, which knows the exit code."""
        raise BrokenPipeError


def console() -> Console:
    """Returns a console on standard output that never cuts a table where there is no terminal."""
    return _Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def messages() -> Console:
    """Returns a console on standard error; ":train:", as in "file.py:train: ...", is text and no emoji."""
    return Console(stderr=True, emoji=False)


LONGEST_WHOLE = 40
"""Characters of a cell's name that never wraps: other columns of a table have room next to it in 80 columns."""


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[str], title: str) -> Table:
    """Returns a table without lines; columns that are empty in all rows are left out, and what is too wide folds.

    Names of cells, which people copy, are the last to fold.

    Args:
        left: columns of text; the others hold numbers.
    """
    lines = list(rows)
    table = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
    shown = [i for i in range(len(columns)) if any(line[i] for line in lines)]
    for i in shown:
        whole = columns[i] == "cell" and max(len(line[i]) for line in lines) <= LONGEST_WHOLE
        justify: JustifyMethod = "left" if columns[i] in left else "right"
        table.add_column(columns[i], justify=justify, overflow="fold", no_wrap=whole)
    for line in lines:
        table.add_row(*(Text(line[i]) for i in shown))
    return table


def print_json(schema: str, values: Mapping[str, Any]) -> None:
    """Prints values as a JSON document.

    Args:
        schema: its name and number, as "status/2"; docs/automation.md lists the fields of each. The number is raised
            when a field changes its meaning or goes; new fields may come.

    Raises:
        ValueError: a number is not finite; JSON has no word for it.
    """
    document = {"schema": f"lawn-tune/{schema}", **values}
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def warn(console: Console, text: str) -> None:
    """Prints a warning, on one line however long."""
    console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def writing(path: Path, flag: str = "--output", place: str = "file") -> Iterator[None]:
    """Around the writing of a file.

    Args:
        path: the file.
        flag: what names it, or the folder it is in.
        place: what to give another one of.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"{flag}: cannot write '{path}': {error.strerror}", f"Give another {place}.") from None
