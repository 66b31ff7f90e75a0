"""The command `lawn-tune`: finds sub-commands by name without importing them, and turns errors into exit codes."""

from __future__ import annotations

import gc
import importlib
import os
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated, Any, TextIO, cast

import typer
from typer.core import TyperGroup

from lawn_tune import __version__
from lawn_tune.cli.plain_help import plain_help
from lawn_tune.cli.streams import Output, Shown, cannot_write, flush, open_streams
from lawn_tune.errors import ABANDONED, INTERRUPTED, DataError, LawnTuneError, UsageError
from lawn_tune.settings import DEBUG, debugging, with_origin
from search_spaces.space import SpaceError

PLUGINS = "lawn_tune.commands"
"""Entry-point group through which other packages add sub-commands."""

BROKEN_PIPE = 141

_Refused: Any = typer.BadParameter.__base__
"""Any error of the arguments; typer has a public name for this kind of it only."""

EPILOG = """\b
Examples:
  lawn-tune plan quickstart                     what would be trained, and what it costs
  lawn-tune launch quickstart                   train it; the same command again goes on where it stopped
  lawn-tune launch my/space.toml --cells 'adam*/bs512'
  lawn-tune compare quickstart                  the paper's tables
  lawn-tune export quickstart --format csv      every trial

\b
Settings: a flag, else LAWN_TUNE_<NAME>, else lawn-tune.toml in the working directory, else the default.
Exit codes: 0 done, 2 usage, 3 ledger, 4 data, 5 training, 6 at a limit, 1 anything else;
stopped by a signal: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP."""


@dataclass(frozen=True)
class Lazy:
    """A sub-command that is imported when it is run.

    Args:
        target: `module:attribute` of a function, or of a typer app for a command with sub-commands.
        help: its line in the list of commands.
    """

    target: str
    help: str


COMMANDS: dict[str, Lazy] = {
    "plan": Lazy("lawn_tune.cli.plan:plan", "Show cells, trials, packs and cost of a space; trains nothing."),
    "launch": Lazy("lawn_tune.cli.launch:launch", "Train what the ledger lacks: search, then confirm each winner."),
    "status": Lazy("lawn_tune.cli.status:status", "Show what is done, running, failed and missing in each cell."),
    "compare": Lazy("lawn_tune.cli.compare:compare", "Compare optimizers: mean ± SE, paired difference, warnings."),
    "report": Lazy("", "Write one self-contained HTML page with tables and figures."),
    "dashboard": Lazy("", "Serve the results on a local web page."),
    "export": Lazy("lawn_tune.cli.export:export", "Write every trial of a space as JSON or CSV."),
    "reproduce": Lazy("lawn_tune.cli.reproduce:app", "Train a table of the paper, and write it next to ours."),
    "import": Lazy("lawn_tune.cli.importing:import_", "Bring finished runs of other programs into the ledger."),
    "ledger": Lazy("lawn_tune.cli.ledger:app", "Copy or check a ledger, import a bundle, upgrade an older one."),
    "data": Lazy("lawn_tune.cli.data:app", "List, fetch and check data sets."),
    "doctor": Lazy("lawn_tune.cli.doctor.command:doctor", "Check this machine: packages, devices, disk, ledger, data."),
}
"""In the order of the help text. Commands without a target are listed where a plugin of that name is installed."""


class LazyGroup(TyperGroup):
    """A group whose commands are stubs until one of them is run."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self._lazy = _installed()
        for name, lazy in self._lazy.items():
            self.commands[name] = _command(name, lambda: None, lazy.help)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the command as its base does, and imports it."""
        name, stub, rest = super().resolve_command(ctx, args)
        return name, stub and _load(str(name), self._lazy[str(name)]), rest

    def main(self, *args: Any, **options: Any) -> Any:
        """Runs the command line and exits; what its parser refuses is shown in the form of all errors."""
        try:
            code = super().main(*args, **options | {"standalone_mode": False})
        except _Refused as error:
            code = _show_refusal(error)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; the errors it is known to raise become a message and an exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except KeyboardInterrupt:
            _print_error("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise typer.Exit(BROKEN_PIPE) from None
        except Exception as error:
            if _debugging() or _exit_code(error) is None:
                raise
            raise typer.Exit(_explain(error)) from None


app = typer.Typer(
    name="lawn-tune",
    cls=LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain text: quick to show, and the same in a terminal, a pipe and a log
    epilog=EPILOG,
    pretty_exceptions_enable=False,  # a traceback with the values of variables would show passwords
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lawn-tune {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help=f"Show tracebacks; also by {DEBUG}=1.")] = False,
) -> None:
    """Does LAWN beat weight decay, where, by how much, and how sure are we?"""
    if debug:
        os.environ[DEBUG] = "1"  # workers inherit it
    debugging()


def _debugging() -> bool:
    """Whether tracebacks were asked for; what is neither yes nor no has been refused, and shows none."""
    try:
        return debugging()
    except UsageError:
        return False


def main() -> None:
    """Runs the command line and exits with its code."""
    open_streams()
    printed, shown = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, Output(printed)), cast(TextIO, Shown(shown))
    try:
        code = _run(printed)
    finally:
        sys.stdout, sys.stderr = printed, shown
    flush(shown)
    if any(thread.name == ABANDONED for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


def _run(printed: TextIO) -> int:
    """Runs the command line and returns its exit code, with what it printed written to the stream."""
    code = 0
    try:
        typer.main.get_command(app)(prog_name="lawn-tune")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except Exception as error:
        if _debugging():
            raise
        code = _explain(error)
    lost = flush(printed)
    if isinstance(lost, BrokenPipeError):
        return BROKEN_PIPE
    return _explain(cannot_write(lost)) if lost is not None and not code else code


# --- lazy commands ---------------------------------------------------------------------------------------------------


def _installed() -> dict[str, Lazy]:
    """Returns the commands there are, in the order of the table; plugins it does not know come last."""
    plugins = {point.name: point.value for point in entry_points(group=PLUGINS)}
    table = {name: Lazy(lazy.target or plugins.pop(name, ""), lazy.help) for name, lazy in COMMANDS.items()}
    unknown = {name: Lazy(target, f"Added by {target.partition('.')[0]}.") for name, target in plugins.items()}
    return {name: lazy for name, lazy in (table | unknown).items() if lazy.target}


def _command(name: str, function: Callable[..., Any], text: str | None = None) -> Any:
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name, help=text)(function)
    return plain_help(typer.main.get_command(single))


def _load(name: str, lazy: Lazy) -> Any:
    module, _, attribute = lazy.target.partition(":")
    gc.disable()
    try:
        target = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = error.name or str(error)
        raise UsageError(
            f"`lawn-tune {name}` needs the package '{missing}', which is not installed",
            "Install everything: pip install 'lawn-tune[all]'.",
        ) from error
    finally:
        gc.enable()
    if not gc.get_freeze_count():
        gc.freeze()  # modules live to the end: no collection of this process needs to walk them
        gc.set_threshold(20_000)  # nor any of the trials of a ledger, which are read at once and are in no cycle
    if not isinstance(target, typer.Typer):
        return _command(name, target)
    target.info.name = name
    return plain_help(typer.main.get_command(target))


# --- errors ----------------------------------------------------------------------------------------------------------


def _show_refusal(error: Any) -> int:
    """Prints what is wrong with the arguments, or the help where there are none, and returns the exit code."""
    if type(error).show is not _Refused.show:
        error.show()
    else:
        general = f"'{error.ctx.command_path} --help' shows what it takes." if error.ctx else None
        text = re.sub(r"^Invalid value for '(--[\w-]+)': (?=must be )", r"\1: ", error.format_message())
        text = text.replace(": Value error, ", ": ")
        _print_error(f"error: {text}", getattr(error, "hint", None) or general)
    return int(error.exit_code)


def _exit_code(error: Exception) -> int | None:
    """Returns the exit code of an error that was foreseen, else None."""
    if isinstance(error, LawnTuneError):
        return error.exit_code
    if isinstance(error, SpaceError):
        return UsageError.exit_code
    data = sys.modules.get("trainables.data")  # loaded already if the error is one of its own, and slow to load
    return DataError.exit_code if data and isinstance(error, data.DataError) else None


def _explain(error: Exception) -> int:
    """Prints an error for people and returns its exit code."""
    code = _exit_code(error)
    if code is not None or isinstance(error, OSError):
        _print_error(f"error: {with_origin(str(error), sys.argv[1:])}", getattr(error, "hint", None))
    else:
        _print_error(f"error: {type(error).__name__}: {error}", f"This is a bug in lawn-tune; {DEBUG}=1 shows where.")
    return code or 1


def _print_error(text: str, hint: str | None = None) -> None:
    print(text, file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)


if __name__ == "__main__":
    main()
