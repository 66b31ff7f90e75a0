"""Options that several commands share, and how they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from lawn_tune.settings import SETTINGS, Settings, kinds, resolve
from search_spaces.keys import shown


def _option(name: str) -> Any:
    """Returns the option of a setting; its text is read and checked by `settings.resolve`."""
    (setting,) = (setting for setting in SETTINGS if setting.name == name)
    return typer.Option(setting.flag, metavar=setting.metavar or None, help=setting.described)


class Refused(typer.BadParameter):
    """A value that an option does not take.

    Args:
        message: the rule and the value.
        hint: the next step; None for that of every option.
    """

    def __init__(self, message: str, hint: str | None) -> None:
        super().__init__(message)
        self.hint = hint


def parsed(parse: Callable[[str], Any], hint: str | None = None) -> Callable[[object], Any]:
    """Returns the parser of an option that is not a setting: it refuses a value in the words of those that are.

    Args:
        parse: of `settings.kinds`.
        hint: see `Refused`.
    """

    def value(given: object) -> Any:
        try:
            return parse(str(given))
        except ValueError as rule:
            raise Refused(f"must be {rule}, got {shown(given)}", hint) from None

    return value


Storage = Annotated[str | None, _option("storage")]
DataDir = Annotated[str | None, _option("data_dir")]
WorkDir = Annotated[str | None, _option("work_dir")]
Checkpoints = Annotated[str | None, _option("checkpoints")]
CheckpointSeconds = Annotated[str | None, _option("checkpoint_seconds")]
CheckpointSteps = Annotated[str | None, _option("checkpoint_steps")]
FetchData = Annotated[bool | None, _option("fetch_data")]
Workers = Annotated[str | None, _option("workers")]
Gpus = Annotated[str | None, _option("gpus")]
GpusPerTrial = Annotated[str | None, _option("gpus_per_trial")]
ExecutorName = Annotated[str | None, _option("executor")]
RayAddress = Annotated[str | None, _option("ray_address")]
ProgressTimeout = Annotated[str | None, _option("progress_timeout")]
PackSize = Annotated[str | None, _option("pack_size")]
Retries = Annotated[str | None, _option("retries")]
MaxDeviceHours = Annotated[str | None, _option("max_device_hours")]
Flattening = Annotated[bool | None, _option("flattening")]
Extend = Annotated[bool | None, _option("extend")]
DeadlineText = Annotated[str | None, _option("deadline")]
Notify = Annotated[str | None, _option("notify")]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of a table.")]
Cells = Annotated[
    list[str] | None,
    typer.Option("--cells", metavar="GLOB", help="Only cells like 'adam*/bs512'; may be given several times."),
]
MaxEpochs = Annotated[
    int | None,
    typer.Option(
        "--max-epochs",
        metavar="N",
        parser=parsed(kinds.whole(1), "Leave it out to use the space's epochs."),
        help="Train at most N epochs a trial.",
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        metavar="N",
        parser=parsed(kinds.whole(1), "Leave it out to use the space's seeds."),
        help="Number of seeds that confirm each winner.",
    ),
]
Smoke = Annotated[
    bool,
    typer.Option(
        "--smoke", help="A minute's check of data, devices, memory, checkpoints and database; keeps no result."
    ),
]
KeepCode = Annotated[
    bool,
    typer.Option("--keep-code", help="Take results of a training function's earlier code for those of its code now."),
]

PIPE_WIDTH = 10_000
"""Columns for what goes to a file or a pipe, where no terminal gives a width: nothing is as wide, so nothing folds."""


def settings_of(arguments: Mapping[str, Any]) -> Settings:
    """Returns the settings in force for a command.

    Args:
        arguments: of the command by name; those that are not settings are ignored.
    """
    names = {setting.name for setting in SETTINGS}
    return resolve({name: value for name, value in arguments.items() if name in names})


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
