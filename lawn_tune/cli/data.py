"""`lawn-tune data`: what data sets there are, fetching them and checking them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from lawn_tune.cli.options import AsJson, DataDir
from lawn_tune.cli.printing import console, messages, print_json
from lawn_tune.errors import DataError, UsageError
from lawn_tune.settings import resolve
from search_spaces.keys import did_you_mean
from trainables import data
from trainables.catalogue.datasets import DATASETS

app = typer.Typer(
    help="List, fetch and check data sets.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(metavar="NAME", help=f"One of {', '.join(DATASETS)}.")]

COLOURS = {"ready": "green", "missing": "yellow", "broken": "red"}


@app.command("list")
def list_(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show every data set, what it holds and whether it is here.

    \b
    Examples:
      lawn-tune data list
      lawn-tune data list --json
    """
    _show([data.check(name, _folder(data_dir)) for name in DATASETS], as_json, where=False)
    if not as_json:
        console().print("Files: lawn-tune data check NAME. Download: lawn-tune data fetch NAME.", soft_wrap=True)


@app.command()
def fetch(name: Name, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Download a data set and verify it. Does nothing if it is here already.

    \b
    Examples:
      lawn-tune data fetch movielens-100k
      lawn-tune data fetch fashion-mnist --data-dir /datasets
    """
    _known(name)
    with _bars() as bar:
        try:
            status = data.fetch(name, _folder(data_dir), bar)
        except data.DataError as error:
            raise DataError(str(error)) from error
    _show([status], as_json)
    _fail_unless_ready([status], _folder(data_dir))


@app.command()
def check(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help=f"One of {', '.join(DATASETS)}.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Check every data set.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Compare a data set with its published content. Fails if it is missing or damaged.

    \b
    Examples:
      lawn-tune data check movielens-100k
      lawn-tune data check --all --json
    """
    if (name is None) == (not every):
        raise UsageError("give the name of one data set, or --all", f"Names: {', '.join(DATASETS)}.")
    names = list(DATASETS) if name is None else [_known(name)]
    found = [data.check(each, _folder(data_dir)) for each in names]
    _show(found, as_json)
    _fail_unless_ready(found, _folder(data_dir))


def _known(name: str) -> str:
    if name not in DATASETS:
        raise UsageError(
            f"there is no data set '{name}'", f"{did_you_mean(name, DATASETS)}Names: {', '.join(DATASETS)}."
        )
    return name


def _folder(flag: str | None) -> Path:
    return resolve({"data_dir": flag}).data_dir


def _show(found: Sequence[data.Status], as_json: bool, *, where: bool = True) -> None:
    """Prints data sets; `where` adds their place, or the files that are missing, which takes many lines."""
    if as_json:
        print_json("data/1", {"datasets": [asdict(status) for status in found]})
        return
    table = Table(box=None, pad_edge=False)
    for title in ("data set", "state", "download", "holds", *(["where"] if where else [])):
        table.add_column(title, overflow="fold", no_wrap=title in ("data set", "state", "download"))
    for status in found:
        source = DATASETS[status.name]
        state = f"[{COLOURS[status.state]}]{status.state}[/]"
        holds = f"{source.summary}; {source.splits}" if source.splits else source.summary
        table.add_row(status.name, state, source.download or "-", holds, *([escape(status.detail)] if where else []))
    console().print(table)


def _fail_unless_ready(found: Sequence[data.Status], folder: Path) -> None:
    bad = [status.name for status in found if status.state != "ready"]
    if bad:
        remedies = [data.remedy(name, folder) for name in bad]
        todo = " ".join(text if text.endswith(".") else f"Run `{text}`." for text in remedies)
        raise DataError(f"not ready: {', '.join(bad)}", todo)


@dataclass
class _Bar:
    """One download on the screen."""

    progress: Progress
    task: TaskID
    total: int = 0

    def update(self, count: int) -> None:
        self.progress.update(self.task, total=self.total or None, advance=count)

    def reset(self) -> None:
        self.progress.reset(self.task)

    def close(self) -> None:
        self.progress.stop_task(self.task)


@contextmanager
def _bars() -> Iterator[Callable[[str], data.ProgressBar]]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    screen = messages()
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as progress:
        yield lambda name: _Bar(progress, progress.add_task(name, total=None))
