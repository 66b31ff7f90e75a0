"""`lawn-tune report`, which this package adds to the command line through an entry point."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from dashboards import report as page
from lawn_tune.cli.compare import comparison_of
from lawn_tune.cli.options import Storage
from lawn_tune.cli.source import reading
from lawn_tune.errors import UsageError
from lawn_tune.settings import SETTINGS, resolve


def report(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="Name of a space, or its TOML file.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Page to write.  [lawn-report-SPACE.html]")
    ] = None,
    storage: Storage = None,
) -> None:
    """Write one self-contained HTML page: verdicts, tables, figures, caveats, protocol. It loads nothing.

    \b
    Examples:
      lawn-tune report quickstart
      lawn-tune report movielens_100k --output movielens.html
    """
    with reading(storage) as ledger:
        comparison = comparison_of(ledger, space)
        text = page.report(ledger, comparison, elsewhere(storage))
    path = output or default_path(comparison.space)
    try:
        page.save(text, path)
    except OSError as error:
        raise UsageError(f"--output: cannot write '{path}': {error.strerror}", "Give another file.") from None
    typer.echo(f"wrote {path} ({len(text.encode()) / 1e6:.1f} MB)")


def elsewhere(storage: str | None) -> str | None:
    """Returns the URL of the ledger in force, or None where a command finds it without being told."""
    default = next(setting.default for setting in SETTINGS if setting.name == "storage")
    url = resolve({"storage": storage}).storage
    return None if url == default else url


def default_path(space: str) -> Path:
    """Returns the page's name in the working directory, with nothing in it that a file's name cannot hold."""
    return Path(f"lawn-report-{re.sub(r'[^A-Za-z0-9._-]+', '-', space)}.html")
