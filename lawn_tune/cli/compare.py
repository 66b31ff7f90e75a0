"""`lawn-tune compare`: the paper's tables, paired differences and every caveat."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from lawn_tune.cli.options import Output, SpaceName, Storage
from lawn_tune.cli.printing import console, plain_table, writing
from lawn_tune.cli.source import launched, option, reading_space, with_storage
from lawn_tune.comparison.compare import compare_space
from lawn_tune.comparison.comparison import Comparison
from lawn_tune.comparison.next_steps import launch_command
from lawn_tune.comparison.renderers import RENDERERS, Format
from lawn_tune.comparison.renderers.race import (
    DEFINITION,
    HEADER,
    PROFILE_HEADER,
    RACES,
    arrival_rows,
    profile_rows,
)
from lawn_tune.comparison.renderers.terminal import print_comparison
from lawn_tune.comparison.times import Arrival, arrivals
from lawn_tune.errors import LedgerError, UsageError
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import find_space
from lawn_tune.results import REPAIR, ResultSource
from lawn_tune.storage import is_path
from search_spaces.toml import SUFFIX

T = TypeVar("T")


def compare(
    space: SpaceName,
    format: Annotated[Format, typer.Option(help="What to print.")] = "rich",
    output: Output = None,
    times: Annotated[
        bool, typer.Option("--times", help="Print when each method reaches the baseline's value instead.")
    ] = False,
    storage: Storage = None,
) -> None:
    """Compare each base optimizer with its LAWN variant: mean ± SE, paired difference with interval, caveats.

    With --times: the epoch and the device hours at which the confirm runs of each method reach the baseline's confirmed
    value, and a performance profile over all pairs, cut at 4 times the fastest.

    \b
    Examples:
      lawn-tune compare quickstart
      lawn-tune compare movielens_100k --format latex --output table.tex
      lawn-tune compare my/space.toml --format csv
      lawn-tune compare digits --format json --storage sqlite:///study.db
      lawn-tune compare digits --times --format csv
      lawn-tune compare digits.bundle
    """
    with reading_space(space, storage) as (ledger, name):
        comparison = as_given(comparison_of(ledger, name, storage), space, storage)
        found = arrivals(ledger, comparison) if times else ()
    if not times:
        write(format, RENDERERS, comparison, print_comparison, output)
    elif found:
        write(format, RACES, found, _print_times, output)
    else:
        text = f"no pair of space '{space}' is confirmed with curves on test, so nothing has a time"
        raise UsageError(text, "Leave out --times to see what is missing.")


def comparison_of(source: ResultSource, space: str, storage: str | None = None) -> Comparison:
    """Returns the comparison of a space given by its name or its TOML file.

    Args:
        storage: as given to the command, for what it is told to type.

    Raises:
        UsageError: the ledger has no result of that space; the hint is what to type.
        LedgerError: none of its results can be read.
    """
    name = launched(source, space, storage)
    comparison = compare_space(source, name)
    if comparison.empty:
        damaged = [row.error for row in source.trials(name) if row.damaged]
        if damaged:
            text = f"no result of space '{name}' can be read, {len(damaged)} are damaged; the first: {damaged[0]}"
            raise LedgerError(text, REPAIR)
        known = launch_command([result.cell for result in comparison.cells])
        typed = f"lawn-tune launch {shlex.quote(space)}" if space.endswith(SUFFIX) else known
        raise UsageError(
            f"space '{name}' has no results yet", f"Train it: {with_storage(typed, storage)}" if typed else None
        )
    return comparison


def as_given(comparison: Comparison, space: str, storage: str | None) -> Comparison:
    """Returns a comparison with how to read its ledger again, and with what its space's file plans beyond it.

    Args:
        comparison: of one space.
        space: as given to the command; by the path of a TOML file, or of a bundle, which may have that file next to it.
        storage: as given.

    Raises:
        SpaceError: there is such a file, and it cannot be used.
    """
    file = Path(space).with_suffix(SUFFIX)
    planned = plan(find_space(file)) if is_path(space) and file.is_file() and file.stem == comparison.space else ()
    known = {result.cell.name for result in comparison.cells}
    absent = tuple(cell.name for cell in planned if cell.name not in known)
    return replace(comparison, storage=option(storage), absent=absent)


def write(
    format: str,
    renderers: Mapping[str, Callable[[T], str]],
    shown: T,
    print_rich: Callable[[T, Console], None],
    output: Path | None,
) -> None:
    """Prints something, or writes it to a file.

    Raises:
        UsageError: there is no such format of it, rich tables are for a terminal only, or the file cannot be written.
    """
    if output is None and format == "rich":
        print_rich(shown, console())
        return
    if format == "rich":
        raise UsageError("--output needs a text format, got --format rich", f"Add --format {'|'.join(renderers)}.")
    if format not in renderers:
        raise UsageError(f"--format {format} is not one of this table's", f"Use --format {'|'.join(renderers)}.")
    text = renderers[format](shown)
    if output is None:
        typer.echo(text, nl=False)
        return
    with writing(output):
        output.write_text(text, encoding="utf-8")


def _print_times(found: Sequence[Arrival], out: Console) -> None:
    left = ("Task", "Method", "Side")
    out.print(plain_table(HEADER, arrival_rows(found), left=left, title="Time to the baseline's value"), "")
    out.print(plain_table(PROFILE_HEADER, profile_rows(found), left=left, title="Performance profile"), "")
    out.print(DEFINITION, soft_wrap=True, markup=False)
