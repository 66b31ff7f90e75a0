"""`lawn-tune compare`: the paper's tables, paired differences and every caveat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lawn_tune.cli.options import Storage, console
from lawn_tune.cli.source import launched, reading
from lawn_tune.comparison.compare import Comparison, compare_space
from lawn_tune.comparison.renderers import RENDERERS, Format
from lawn_tune.comparison.renderers.terminal import print_comparison
from lawn_tune.errors import LedgerError, UsageError
from lawn_tune.results import REPAIR, ResultSource


def compare(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="Name of a space, or its TOML file.")],
    format: Annotated[Format, typer.Option(help="What to print.")] = "rich",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there instead of printing.")
    ] = None,
    storage: Storage = None,
) -> None:
    """Compare each base optimizer with its LAWN variant: mean ± SE, paired difference with interval, caveats.

    \b
    Examples:
      lawn-tune compare quickstart
      lawn-tune compare movielens_100k --format latex --output table.tex
      lawn-tune compare my/space.toml --format csv
      lawn-tune compare digits --format json --storage sqlite:///study.db
    """
    with reading(storage) as ledger:
        comparison = comparison_of(ledger, space)
    write(comparison, format, output)


def comparison_of(source: ResultSource, space: str) -> Comparison:
    """Returns the comparison of a space given by its name or its TOML file.

    Raises:
        UsageError: the ledger has no result of that space; the hint is what to type.
        LedgerError: none of its results can be read.
    """
    name = launched(source, space)
    comparison = compare_space(source, name)
    if comparison.empty:
        damaged = [row.error for row in source.trials(name) if row.damaged]
        if damaged:
            text = f"no result of space '{name}' can be read, {len(damaged)} are damaged; the first: {damaged[0]}"
            raise LedgerError(text, REPAIR)
        raise UsageError(f"space '{name}' has no results yet", f"Train it: lawn-tune launch {space}.")
    return comparison


def write(comparison: Comparison, format: Format, output: Path | None) -> None:
    """Prints the comparison, or writes it to a file.

    Raises:
        UsageError: rich tables are for a terminal only, or the file cannot be written.
    """
    if output is None:
        if format == "rich":
            print_comparison(comparison, console())
        else:
            typer.echo(RENDERERS[format](comparison), nl=False)
        return
    if format == "rich":
        raise UsageError("--output needs a text format, got --format rich", f"Add --format {'|'.join(RENDERERS)}.")
    try:
        output.write_text(RENDERERS[format](comparison), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--output: cannot write '{output}': {error.strerror}", "Give another file.") from None
