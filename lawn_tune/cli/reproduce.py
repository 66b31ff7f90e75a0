"""`lawn-tune reproduce`: a table of the paper, trained and written next to the published one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from lawn_tune.cli.options import Storage
from lawn_tune.cli.printing import console, writing
from lawn_tune.errors import UsageError
from lawn_tune.planning.spaces import builtin_spaces, in_group
from lawn_tune.words import listing

SMOKE = "--smoke"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def reproduce(
    context: typer.Context,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="Table of the paper: table1 to table6.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the files.")] = Path(),
    no_launch: Annotated[bool, typer.Option("--no-launch", help="Train nothing; write what the ledger has.")] = False,
    storage: Storage = None,
) -> None:
    """Train what a table of the paper lacks, then write it next to ours: TABLE.md, TABLE.tex and TABLE.html.

    Takes every option of launch as well; the same command again continues after an interruption. Cells that are not
    trained yet are left empty.

    \b
    Examples:
      lawn-tune reproduce table4 --out tables --ray-address auto
      lawn-tune reproduce table2 --cells 'adam*/bs100000' --max-device-hours 24
      lawn-tune reproduce table5 --smoke
      lawn-tune reproduce table4 --no-launch --out tables
    """
    spaces = in_group(table)
    if not spaces or table == "paper":
        known = sorted({space.partition("_")[0] for space in builtin_spaces() if in_group(space.partition("_")[0])})
        raise UsageError(f"there are no spaces for '{table}'", f"Give one of {', '.join(known)}.")
    if no_launch and context.args:
        raise UsageError(f"--no-launch takes no option of launch, got {context.args[0]}", "Leave one of them out.")
    _check_folder(out)
    code = 0 if no_launch else _launch(spaces, context.args, storage)
    if SMOKE not in context.args:
        _write(int(table.removeprefix("table")), spaces, out, storage)
    raise typer.Exit(code)


def _check_folder(out: Path) -> None:
    """Makes the folder, before days of training end in an error."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out: cannot make the folder '{out}': {error.strerror}", "Give another one.") from None


def _launch(spaces: tuple[str, ...], options: list[str], storage: str | None) -> int:
    """Runs `lawn-tune launch` and returns its exit code; what cannot be continued raises its own error."""
    from lawn_tune.cli.launch import launch

    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command("launch")(launch)
    arguments = [*spaces, *options, *([] if storage is None else ["--storage", storage])]
    code: Any = typer.main.get_command(single).main(arguments, prog_name="lawn-tune launch", standalone_mode=False)
    return code or 0


def _write(number: int, spaces: tuple[str, ...], out: Path, storage: str | None) -> None:
    from lawn_tune.cli.source import reading, with_storage
    from lawn_tune.comparison.compare import compare_space
    from lawn_tune.comparison.published import paper_tables
    from lawn_tune.comparison.renderers.reproduction import WRITERS, summary
    from lawn_tune.comparison.reproduction import reproduction

    table = next(table for table in paper_tables() if table.number == number)
    with reading(storage) as ledger:
        launched = set(ledger.spaces())
        comparisons = [compare_space(ledger, space) for space in spaces if space in launched]
    shown = reproduction(table, [comparison for comparison in comparisons if not comparison.empty])
    files = [out / f"table{number}.{suffix}" for suffix in WRITERS]
    for file, write in zip(files, WRITERS.values(), strict=True):
        with writing(file, "--out", "folder"):
            file.write_text(write(shown), encoding="utf-8")
    lines = [summary(shown)]
    if shown.trained < shown.printed:
        command = with_storage(f"lawn-tune reproduce table{number} --out {shlex.quote(str(out))}", storage)
        only = f"Only results of {listing(spaces)} count: other spaces have other models or epochs than the table."
        lines += [only, f"Train what is missing: {command}"]
    console().print("\n".join([*lines, f"wrote {', '.join(map(str, files))}"]), soft_wrap=True, markup=False)
