"""`lawn-tune ledger`: copies a ledger, imports a bundle into one, upgrades an older one, and checks one for damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lawn_tune.cli.options import AsJson, Storage
from lawn_tune.cli.printing import messages, print_json
from lawn_tune.errors import LedgerError
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.definitions import PREFIX, REVISION
from lawn_tune.ledger.schema import current_revision, open_schema
from lawn_tune.settings import resolve

if TYPE_CHECKING:
    from lawn_tune.ledger.check import Damage

WORDS = {"lawn_plan": "planned", "lawn_progress": "epochs of unfinished packs", "lawn_examples": "sets of examples"}
"""Names for tables whose own names are unclear to users."""

app = typer.Typer(
    help="Copy a ledger to another database, import a bundle, upgrade an older ledger, or check one for damage.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="Ledger to copy: a database URL.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Where to: a new file, or an empty database.")],
    as_json: AsJson = False,
) -> None:
    """Copy a ledger with its Optuna studies, and compare both.

    A killed copy is completed by the same command. A URL with a password is refused: give it by PGPASSWORD, ~/.pgpass
    or a service file.

    \b
    Examples:
      lawn-tune ledger copy sqlite:///lawn-tune.db postgresql://me@db/lawn
      lawn-tune ledger copy postgresql://me@db/lawn sqlite:///backup.db
    """
    from lawn_tune.ledger.copying import copy_ledger  # brings Optuna

    with bars() as progress:
        done = copy_ledger(source, target, progress)
    if as_json:
        facts = {"source": done.source, "target": done.target, "rows": done.rows, "studies": done.studies}
        print_json("copy/1", {**facts, "sha256": done.digest})
        return
    typer.echo(f"copied {done.source} to {done.target}")
    typer.echo(f"read back and equal: {counts(done.rows)}, {done.studies} Optuna studies")
    typer.echo(f"sha256 {done.digest}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle, as 'report --bundle' writes it.")],
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Restore a bundle into a ledger.

    Launches then skip its trials, and every command shows them. What the ledger holds already must be the same; if
    anything differs, nothing is imported. Nothing in a bundle is executed. Its numbers are those of whoever wrote it:
    the checks find damage, not invention.

    \b
    Examples:
      lawn-tune ledger import digits.bundle
      lawn-tune ledger import digits.bundle --storage postgresql://me@db/lawn
    """
    from lawn_tune.ledger.importing import import_bundle  # brings Optuna

    with bars() as progress:
        done = import_bundle(file, resolve({"storage": storage}).storage, progress)
    if as_json:
        bundle = done.bundle
        facts = {"space": bundle.space, "target": done.target, "rows": bundle.rows, "added": done.added}
        print_json("import/1", {**facts, "sha256": bundle.digest})
        return
    typer.echo(f"imported space {done.bundle.space} into {done.target}")
    typer.echo(f"holds {counts(done.bundle.rows)}; new: {counts(done.added) or 'none'}")
    typer.echo(f"sha256 {done.bundle.digest}")


@app.command()
def upgrade(storage: Storage = None, as_json: AsJson = False) -> None:
    """Bring the tables of an older ledger up to date. There is no way back: make a backup before (cp, pg_dump).

    A launch does it by itself; commands that only read refuse an older ledger.

    \b
    Examples:
      lawn-tune ledger upgrade
      lawn-tune ledger upgrade --storage postgresql://me@db/lawn
    """
    with closing(Database(resolve({"storage": storage}).storage)) as database:
        before = _revision(database)
        open_schema(database, create=True)
    if as_json:
        print_json("upgrade/1", {"ledger": database.shown, "before": before, "now": REVISION})
        return
    done = f"is up to date: schema {REVISION}" if before == REVISION else f"went from schema {before} to {REVISION}"
    typer.echo(f"ledger {database.shown} {done}")


@app.command()
def check(storage: Storage = None, as_json: AsJson = False) -> None:
    """Read every row of a ledger, and print what is damaged.

    It prints how to repair that as well; the exit code is 1 then.

    \b
    Examples:
      lawn-tune ledger check
      lawn-tune ledger check --storage postgresql://me@db/lawn
    """
    from lawn_tune.ledger.check import check as check_rows

    with closing(Database(resolve({"storage": storage}).storage)) as database:
        open_schema(database, create=False)
        read, damage = check_rows(database)
    if as_json:
        print_json("check/1", {"ledger": database.shown, "rows_read": read, "damage": [asdict(row) for row in damage]})
    else:
        _print_damage(damage)
        typer.echo(f"ledger {database.shown}: {read} rows read, {len(damage) or 'none'} damaged")
    if damage:
        raise typer.Exit(1)


def _print_damage(damage: Sequence[Damage]) -> None:
    for repair in dict.fromkeys(row.repair for row in damage):
        for row in (row for row in damage if row.repair == repair):
            typer.echo(f"{row.cell or 'unknown cell'}: {row.row}: {row.why}")
        typer.echo(f"  {repair}")


def counts(rows: Mapping[str, int]) -> str:
    """Returns how many rows there are of what, "" if none."""
    return ", ".join(f"{n} {WORDS.get(name, name.removeprefix(PREFIX))}" for name, n in rows.items() if n)


def _revision(database: Database) -> str:
    if database.path is None or database.path.exists():
        with database.reading() as connection:
            revision = current_revision(connection)
        if revision is not None:
            return revision
    raise LedgerError(f"there is no ledger at {database.shown}", "Name the ledger with --storage.")


@contextmanager
def bars() -> Iterator[Callable[[str, float, float], None]]:
    """Shows progress on a terminal; yields what is called with a word, how much is done, and how much there is."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    screen = messages()
    with Progress(*columns, TimeRemainingColumn(), console=screen, disable=not screen.is_terminal) as bars:
        tasks = {}

        def advance(what: str, done: float, total: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        yield advance
