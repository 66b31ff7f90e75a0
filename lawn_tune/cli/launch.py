"""`lawn-tune launch`: trains what the ledger lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from lawn_tune.cells import Cell
from lawn_tune.cli.damage import tell_damage
from lawn_tune.cli.options import (
    Cells,
    Checkpoints,
    CheckpointSeconds,
    CheckpointSteps,
    DataDir,
    DeadlineText,
    ExecutorName,
    Extend,
    FetchData,
    Flattening,
    Gpus,
    GpusPerTrial,
    KeepCode,
    MaxDeviceHours,
    MaxEpochs,
    Notify,
    PackSize,
    ProgressTimeout,
    RayAddress,
    Retries,
    Seeds,
    Smoke,
    Storage,
    WorkDir,
    Workers,
    settings_of,
)
from lawn_tune.cli.printing import messages, warn
from lawn_tune.errors import AT_LIMIT, DataError, ExecutionError, UsageError
from lawn_tune.settings import Settings, check_work_dir
from lawn_tune.settings.deadlines import moment
from lawn_tune.storage import masked
from lawn_tune.words import count

if TYPE_CHECKING:
    from lawn_tune.cli.notifying import Notices
    from lawn_tune.cli.stopping import Stops
    from lawn_tune.executors.base import Agenda
    from lawn_tune.executors.slots import Slots
    from lawn_tune.launching.launch import Launch
    from lawn_tune.launching.limits import Limits
    from lawn_tune.ledger import Ledger
    from lawn_tune.planning.remaining import Remaining
    from lawn_tune.results import TrialRow
    from trainables.catalogue.rows import Dataset


def launch(
    spaces: Annotated[list[str], typer.Argument(metavar="SPACE", help="Built-in name or path of a TOML file.")],
    cells: Cells = None,
    max_epochs: MaxEpochs = None,
    seeds: Seeds = None,
    pack_size: PackSize = None,
    retries: Retries = None,
    workers: Workers = None,
    gpus: Gpus = None,
    gpus_per_trial: GpusPerTrial = None,
    executor: ExecutorName = None,
    ray_address: RayAddress = None,
    progress_timeout: ProgressTimeout = None,
    max_device_hours: MaxDeviceHours = None,
    deadline: DeadlineText = None,
    notify: Notify = None,
    storage: Storage = None,
    data_dir: DataDir = None,
    work_dir: WorkDir = None,
    checkpoints: Checkpoints = None,
    checkpoint_seconds: CheckpointSeconds = None,
    checkpoint_steps: CheckpointSteps = None,
    fetch_data: FetchData = None,
    flattening: Flattening = None,
    extend: Extend = None,
    smoke: Smoke = False,
    keep_code: KeepCode = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show problems only.")] = False,
) -> None:
    """Train what the ledger lacks: search each cell's grid, then confirm its winner with fresh seeds.

    The same command again continues after any interruption, and trains nothing when all is done.

    Ctrl-C, SIGTERM and a closed terminal (SIGHUP) stop it cleanly: packs in training write a checkpoint after a step or
    epoch, if one ends within 6 s, the cells are free at once, and the exit code is 130, 143 or 129. A second
    Ctrl-C or SIGTERM quits immediately.

    Packs are as large as the plan allows and as small as needed to keep the workers of the first launch busy (plan
    --workers shows them). Later launches keep these sizes, so that an interruption changes no result.

    At a limit (--max-device-hours, --deadline) a launch stops as by Ctrl-C: running packs keep their checkpoint. No
    pack is begun that would pass it by the measured speed of its cell, or else by what the plan knows. A job's device
    time is its wall time, times its GPUs or its share of one; without GPUs, a worker's cores count as one device. If
    trials are left then, the exit code is 6, and the same command continues.

    With --extend, no winner is confirmed on an edge of its grid while a level can be added beyond it. Rivals grow
    together, so that none is favored, by up to three levels of each hyperparameter. Later launches, plan and compare
    know the added levels; the space's file stays as it is.

    --notify runs a command, with JSON on its standard input, when the launch ends in whatever way and when over half of
    a cell's trials diverge. docs/automation.md lists the fields. A command that fails is a warning.

    With --smoke nothing of the study is trained: every cell takes a few steps with its own batches, model and packs, in
    a ledger of its own that is removed, and one pack is interrupted and resumed. It prints what was checked.

    \b
    Examples:
      lawn-tune launch quickstart
      lawn-tune launch movielens_100k --cells 'adam*/bs100000' --max-epochs 60
      lawn-tune launch digits --cells '*/bs512' --extend
      lawn-tune launch my/space.toml --workers 4 --gpus 1
      lawn-tune launch my/space.toml --deadline 7h30m --max-device-hours 24
      lawn-tune launch my/space.toml --smoke --ray-address auto
    """
    settings = settings_of(locals())
    from lawn_tune.executors.build import machine_slots
    from lawn_tune.planning.functions import archives
    from lawn_tune.planning.plan import plan_all, warnings
    from lawn_tune.planning.spaces import find_spaces

    cap = None if smoke else max_epochs  # the schedule of a smoke run is scaled, whatever its epochs
    found = find_spaces(spaces)
    planned = plan_all(found, cells=cells or (), max_epochs=cap, seeds=seeds)
    code = archives(found)
    if changed := [cell for cell in planned if cell.task.code and cell.task.code not in code]:
        raise UsageError(f"{changed[0].task.code_of} has changed since this launch began", "Launch again.")
    console = messages()
    slots = machine_slots(settings)  # refuses GPUs that are not there, before anything is begun
    for warning in warnings(planned):
        warn(console, warning)
    if smoke:
        from lawn_tune.cli.smoke import run_smoke

        run_smoke(planned, settings, console, partial(_launch, slots=slots, code=code))
    else:
        shown = {"quiet": quiet, "storage": storage and masked(storage)}
        with _notices(planned, settings, console) as notices:
            _launch(planned, settings, console, slots, code=code, keep_code=keep_code, notices=notices, **shown)


def _notices(cells: Sequence[Cell], settings: Settings, console: Console) -> Notices:
    from lawn_tune.cli.notifying import Notices

    spaces = list(dict.fromkeys(cell.name.space for cell in cells))
    return Notices(settings.notify, spaces, masked(settings.storage), lambda text: warn(console, text))


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _launch(cells: Sequence[Cell], settings: Settings, console: Console, slots: Slots, **options: Any) -> None:
    """Checks what can be checked here, then runs a launch; `options` are those of `run_launch`."""
    if settings.ray_address is None and not settings.fetch_data:
        check_data(cells, settings)
    check_work_dir(settings)
    for row in _datasets(cells):
        if row.splits and not options.get("quiet"):
            _say(console, f"data set '{row.name}': {row.splits}")
    limits, before = limits_of(settings, slots), len(cells) + 1
    while waiting := run_launch(cells, settings, console, slots, limits, **options):
        if waiting >= before:
            raise ExecutionError(f"{waiting} cells wait for winners of others that are not known", "Launch again.")
        before = waiting


def _datasets(cells: Sequence[Cell]) -> list[Dataset]:
    return list({cell.task.dataset: cell.task.dataset_row for cell in cells}.values())


def check_data(cells: Sequence[Cell], settings: Settings) -> None:
    """Raises the data set's own error, with the command that fetches it, before anything is started."""
    from trainables import data

    try:
        for row in _datasets(cells):
            data.require(row.name, settings.data_dir, {row.name: row})
    except data.DataError as error:
        raise DataError(str(error)) from None


def run_launch(
    cells: Sequence[Cell],
    settings: Settings,
    console: Console,
    slots: Slots,
    limits: Limits,
    *,
    code: Mapping[str, bytes] | None = None,
    keep_code: bool = False,
    quiet: bool = False,
    storage: str | None = None,
    around: Callable[[Launch], Agenda] | None = None,
    notices: Notices | None = None,
) -> int:
    """Opens the ledger, trains the cells and prints what was done.

    Args:
        slots: how this machine is divided among jobs.
        limits: of time.
        code: sources of training functions and optimizer classes, see `planning.functions.archives`.
        keep_code: whether the trials keep the keys of the code that the ledger has for their cells.
        storage: the ledger's URL as typed, if it was, without its password.
        around: returns what the executor works off in place of the launch, of a smoke run, which has a summary of its
            own.
        notices: receives what the launch did; None for a smoke run.

    Returns:
        How many cells were left out, whose levels are those of winners that the others have only now: the same again
        trains them.

    Raises:
        LedgerError: the ledger cannot be used.
        ExecutionError: packs failed for good, or the means of execution broke.
    """
    from lawn_tune.executors.build import planned_workers
    from lawn_tune.launching.launch import Launch
    from lawn_tune.launching.progress import Display, print_left, print_summary
    from lawn_tune.ledger import Owner, Patience, open_ledger
    from lawn_tune.planning.ranks import check_ranks

    check_ranks(cells, settings.gpus_per_trial)
    patience = Patience(lambda text: warn(console, text))
    with open_ledger(settings.storage, patience=patience) as ledger:
        cells, waiting, code = _register(ledger, cells, console, code or {}, keep_code=keep_code)
        spaces = list(dict.fromkeys(cell.name.space for cell in cells))
        for space in spaces if limits.limited else ():
            limits.speeds.learn(cells, ledger.trials(space))
        with Display(console, cells, quiet, notices.diverged if notices else None) as display:
            agenda = Launch(
                cells,
                ledger,
                Owner.current(),
                display,
                workers=planned_workers(settings, slots),
                pack_size=settings.pack_size,
                retries=settings.retries,
                extend=settings.extend and around is None,
                limits=limits,
            )
            if notices:
                notices.tallies.append(agenda.tally)
            patience.stopping = lambda: agenda.interrupted
            stops = _work_off(agenda, settings, slots, console, code, around)
        left = _left(agenda, waiting)
        stopped = agenda.interrupted or left.trials > 0
        if around is None and (not quiet or stopped):
            print_summary(console, cells, agenda.tally, stopped, storage)
        if left.trials:
            print_left(console, left, limits)
        tell_damage(console, [row for name in spaces for row in ledger.trials(name)])
    if agenda.interrupted:
        raise typer.Exit(stops.exit_code)
    if left.trials:
        raise typer.Exit(AT_LIMIT)
    if agenda.tally.errors:
        hint = "Correct it, then launch again." if agenda.tally.by_code else "Launch again to retry."
        raise ExecutionError(f"{count(agenda.tally.failed, 'trial')} failed: {agenda.tally.errors[-1]}", hint)
    return len(waiting)


def _register(
    ledger: Ledger, cells: Sequence[Cell], console: Console, code: Mapping[str, bytes], *, keep_code: bool
) -> tuple[Sequence[Cell], Sequence[Cell], Mapping[str, bytes]]:
    """Registers the cells that can be trained now, with what earlier launches added to them, and prints what that is.

    Returns:
        These cells, those that wait for winners of others, and the sources of their code.
    """
    from lawn_tune.launching.same_space import check_same_space, of_earlier_code
    from lawn_tune.planning.extending import STAY, edited, resumed
    from lawn_tune.planning.generations import code_text
    from lawn_tune.results import readable_cells

    known = readable_cells(ledger, {cell.name.space for cell in cells})
    if keep_code:
        cells, code = of_earlier_code(known, cells, code)
    check_same_space(known, cells)
    planned = resumed(cells, known)
    rows = [row for space in {cell.name.space for cell in known} for row in ledger.trials(space)]
    cells = _trainable(planned, known, rows, console)
    ledger.register(cells)
    if older := edited(planned, known):
        names = ", ".join(str(cell.name) for cell in older)
        _say(console, f"{names}: levels of earlier launches are in the grid; {STAY}")
    if changed := code_text(cells, rows):
        _say(console, f"{changed} (--keep-code would)")
    ready = {cell.name for cell in cells}
    return cells, [cell for cell in planned if cell.name not in ready], code


def _work_off(
    agenda: Launch,
    settings: Settings,
    slots: Slots,
    console: Console,
    code: Mapping[str, bytes],
    around: Callable[[Launch], Agenda] | None,
) -> Stops:
    """Trains what a launch has to train, with an executor that is started only if there is anything.

    Returns:
        What signals did to it.
    """
    from lawn_tune.cli.stopping import stopped_by_signals
    from lawn_tune.executors.build import build_executor
    from lawn_tune.launching.leases import Heartbeat

    with Heartbeat(agenda.leases), stopped_by_signals(agenda, console) as stops, ExitStack() as stack:
        stack.callback(agenda.close)
        if agenda.expects_work() or agenda.has_work():
            executor = build_executor(settings, slots, agenda.expect_workers, code)
            stack.callback(executor.close)
            executor.prepare(agenda)
            if agenda.workers is None or agenda.has_work():
                executor.run(agenda if around is None else around(agenda))
    return stops


def _left(agenda: Launch, waiting: Sequence[Cell]) -> Remaining:
    """Returns what a launch that came to a limit leaves to the next one; nothing of any other."""
    from lawn_tune.planning.remaining import Remaining, remaining

    left = agenda.left() if agenda.at_limit else Remaining()
    for cell in waiting if left.trials else ():
        left += remaining(cell, (), agenda.limits.speeds, agenda.pack_size)
    return left


def _trainable(
    cells: Sequence[Cell], known: Sequence[Cell], rows: Sequence[TrialRow], console: Console
) -> Sequence[Cell]:
    """Returns the cells whose levels are all known, and prints which another batch size decides."""
    if not any(cell.kept for cell in cells):
        return cells
    from lawn_tune.planning.keeping import settled, state, trainable

    cells = settled(cells, known, rows)
    for cell in (cell for cell in cells if cell.kept):
        _say(console, f"{cell.name}: {state(cell)}")
    return trainable(cells, rows)


def limits_of(settings: Settings, slots: Slots) -> Limits:
    """Returns the limits that the settings set for a launch that starts now.

    The table of measured speeds is of CPU cores: GPUs and a cluster's devices have none before one is measured.

    Args:
        slots: how this machine is divided among jobs.

    Raises:
        UsageError: the deadline has passed.
    """
    from lawn_tune.executors.build import on_gpus
    from lawn_tune.launching.limits import Limits
    from lawn_tune.planning.speed import Speeds

    now = datetime.now().astimezone()
    end = None if settings.deadline is None else moment(settings.deadline, now)
    if end is not None and end <= now:
        raise UsageError(f"--deadline: {end.isoformat(' ', 'minutes')} has passed", "Give a later one, as 8h or 18:30.")
    return Limits(
        device_seconds=inf if settings.max_device_hours is None else 3600 * settings.max_device_hours,
        deadline=inf if end is None else end.timestamp(),
        share=slots.gpus or 1.0,
        speeds=Speeds(table=settings.ray_address is None, devices=settings.gpus_per_trial, on_gpu=on_gpus(settings)),
    )
