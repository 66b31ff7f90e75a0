"""`lawn-tune launch`: trains what the ledger lacks."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from lawn_tune.cells import Cell
from lawn_tune.cli.options import Cells, MaxEpochs, Seeds, Storage
from lawn_tune.errors import DataError, ExecutionError
from lawn_tune.secrets import masked
from lawn_tune.settings import Settings, check_work_dir, resolve

if TYPE_CHECKING:
    from lawn_tune.launch import Launch


def launch(
    spaces: Annotated[list[str], typer.Argument(metavar="SPACE...", help="Built-in name or path of a TOML file.")],
    cells: Cells = None,
    max_epochs: MaxEpochs = None,
    seeds: Seeds = None,
    pack_size: Annotated[int | None, typer.Option(min=1, help="Trials trained as one; default: by the plan.")] = None,
    retries: Annotated[int, typer.Option(min=0, help="How often a failed pack is tried again.")] = 2,
    workers: Annotated[int | None, typer.Option(min=1, help="Packs trained at once.")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs to use; workers beyond them share.")] = None,
    executor: Annotated[str | None, typer.Option(help="ray, inline, or auto.")] = None,
    ray_address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A running Ray cluster, or auto; default: start Ray here.")
    ] = None,
    storage: Storage = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data sets; default data.")] = None,
    work_dir: Annotated[Path | None, typer.Option(help="Folder of checkpoints; default .lawn-tune.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show problems only.")] = False,
) -> None:
    """Train what the ledger lacks: search each cell's grid, then confirm its winner with fresh seeds.

    The same command again continues after any interruption, and trains nothing when all is done.

    \b
    Examples:
      lawn-tune launch quickstart
      lawn-tune launch movielens_100k --cells 'adam*/bs100000' --max-epochs 40
      lawn-tune launch my/space.toml --workers 4 --gpus 1
    """
    from lawn_tune.plan import plan_all
    from lawn_tune.spaces import find_spaces

    flags = {"storage": storage, "data_dir": data_dir, "work_dir": work_dir}
    settings = resolve(flags | {"workers": workers, "gpus": gpus, "executor": executor})
    planned = plan_all(find_spaces(spaces), cells=cells or (), max_epochs=max_epochs, seeds=seeds)
    console = Console(stderr=True)
    check_data(planned, settings)
    check_work_dir(settings)
    run_launch(
        planned,
        settings,
        console,
        ray_address=ray_address,
        pack_size=pack_size,
        retries=retries,
        quiet=quiet,
        storage=storage and masked(storage),
    )


def check_data(cells: Sequence[Cell], settings: Settings) -> None:
    """Raises the data set's own error, with the command that fetches it, before anything is started."""
    from trainables import data

    try:
        for dataset in dict.fromkeys(cell.task.dataset for cell in cells):
            data.require(dataset, settings.data_dir)
    except data.DataError as error:
        raise DataError(str(error)) from None


def run_launch(
    cells: Sequence[Cell],
    settings: Settings,
    console: Console,
    *,
    ray_address: str | None = None,
    pack_size: int | None = None,
    retries: int = 2,
    quiet: bool = False,
    storage: str | None = None,
) -> None:
    """Opens the ledger, works the cells off and says what was done.

    Raises:
        LedgerError: the ledger cannot be used.
        ExecutionError: packs failed for good, or the means of execution broke.
    """
    from lawn_tune.executors.build import build_executor
    from lawn_tune.launch import Heartbeat, Launch, check_same_space
    from lawn_tune.ledger import Owner, open_ledger
    from lawn_tune.progress import Display, tell

    ledger = open_ledger(settings.storage)
    try:
        for space in {cell.name.space for cell in cells} & set(ledger.spaces()):
            check_same_space(ledger.cells(space), cells)
        ledger.register(cells)
        owner = Owner.current()
        with Display(console, cells, quiet) as display:
            agenda = Launch(cells, ledger, owner, display, pack_size=pack_size, retries=retries)
            with Heartbeat(agenda), _stopped_by_signals(agenda, console), ExitStack() as stack:
                stack.callback(agenda.close)
                if agenda.expects_work():
                    executor = build_executor(settings, ray_address)
                    stack.callback(executor.close)
                    executor.prepare()
                    if agenda.has_work():
                        executor.run(agenda)
                elif agenda.has_work():
                    build_executor(settings, ray_address).run(agenda)
        if not quiet or agenda.stopping:
            tell(console, cells, agenda.tally, agenda.stopping, storage)
    finally:
        ledger.close()
    if agenda.stopping:
        raise typer.Exit(130)
    if agenda.tally.errors:
        raise ExecutionError(
            f"{agenda.tally.failed} trials failed: {agenda.tally.errors[-1]}", "Launch again to retry."
        )


@contextmanager
def _stopped_by_signals(agenda: Launch, console: Console) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) stops cleanly; the second ends the process as any program."""

    def stop(signum: int, frame: FrameType | None) -> None:
        if agenda.stopping:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        agenda.stop()
        console.print("[yellow]stopping: results so far are kept; once more to end at once[/]")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
