"""`lawn-tune plan`: what would be trained, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from lawn_tune.cells import Cell
from lawn_tune.cli.options import AsJson, Cells, Gpus, GpusPerTrial, MaxEpochs, Seeds, Smoke, Storage, parsed
from lawn_tune.cli.plan_text import Planned, print_plan, time_text
from lawn_tune.cli.printing import console, print_json
from lawn_tune.errors import UsageError
from lawn_tune.executors.build import on_gpus
from lawn_tune.planning.costs import estimate
from lawn_tune.planning.extending import resumed
from lawn_tune.planning.makespan import makespan
from lawn_tune.planning.packing import largest_packs, pack_size
from lawn_tune.planning.placement import Placement, place
from lawn_tune.planning.plan import plan_all, twins, unconstrained_points
from lawn_tune.planning.ranks import check_ranks
from lawn_tune.planning.smoke import smoke_cells
from lawn_tune.planning.spaces import builtin_spaces, find_spaces, listed_spaces
from lawn_tune.planning.speed import Speeds
from lawn_tune.settings import Settings, kinds, resolve
from lawn_tune.storage import StorageUrl, masked
from trainables.examples import Outcomes

if TYPE_CHECKING:
    from lawn_tune.cells import CellName, Packing
    from lawn_tune.cli.detect import Detected
    from lawn_tune.planning.counts import Counts
    from lawn_tune.planning.remaining import Remaining
    from lawn_tune.results import Outcome, TrialRow

GPU_PACKS = "packs are those of a launch on GPUs; --gpus 0 shows those for CPU cores"


def plan(
    spaces: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SPACE", help="Built-in names, paper or table4 for all of the paper or a table, or TOML files."
        ),
    ] = None,
    all_spaces: Annotated[bool, typer.Option("--all", help="Plan every built-in space.")] = False,
    cells: Cells = None,
    max_epochs: MaxEpochs = None,
    seeds: Seeds = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=parsed(kinds.whole(1)),
            help="Choose packs for N such workers, and simulate how long these take.",
        ),
    ] = None,
    gpus: Gpus = None,
    gpus_per_trial: GpusPerTrial = None,
    smoke: Smoke = False,
    detect: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            parser=parsed(kinds.number("points", "0.5", zero=False)),
            help="Show how many confirm seeds would find such a difference.",
        ),
    ] = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Show cells, trials, packs and cost of a space; trains nothing.

    With --detect, each pair's confirm seeds are those with which four in five studies would find a difference of so
    many points: by the spread that the ledger shows, or else by an assumed one.

    Packs are those of a launch on this machine with the same --gpus: GPUs have room for larger ones than CPU cores.
    With --gpus-per-trial, times are those of workers with as many GPUs each, taken to be as many times as fast.

    \b
    Examples:
      lawn-tune plan quickstart
      lawn-tune plan movielens_100k --cells 'adam*/bs100000' --max-epochs 60
      lawn-tune plan fashion_mnist --workers 512
      lawn-tune plan movielens_100k --smoke
      lawn-tune plan movielens_100k --detect 0.5
      lawn-tune plan table4 --workers 64 --gpus 64
      lawn-tune plan --all --json
    """
    if bool(spaces) == all_spaces:
        raise UsageError("plan takes either spaces or --all", f"Give {listed_spaces()}, or a TOML file.")
    chosen = find_spaces(spaces or builtin_spaces())
    planned = plan_all(chosen, cells=cells or (), max_epochs=None if smoke else max_epochs, seeds=seeds)
    settings = resolve({"storage": storage, "gpus": gpus, "gpus_per_trial": gpus_per_trial})
    check_ranks(planned, settings.gpus_per_trial)
    shown = _estimated(planned, settings, workers, detect, smoke=smoke)
    if as_json:
        print_json("plan/1", _document(shown))
    else:
        _print(shown)


class _Plan(NamedTuple):
    """A plan as it is shown.

    Args:
        lines: one a cell.
        shared: cell → the cell of another space that has the same trials.
        url: of the ledger.
        held: what the ledger holds of it; None where there is none, or none is read.
        speeds: of the devices.
        placement: of the cells with trials of their own on workers; None where their number is not given.
        detected: confirm seeds for a difference; None where it is not given.
    """

    lines: Sequence[Planned]
    shared: Mapping[CellName, CellName]
    url: str
    held: _Held | None
    speeds: Speeds
    placement: Placement | None
    detected: Detected | None


def _estimated(
    planned: tuple[Cell, ...], settings: Settings, workers: int | None, detect: float | None, *, smoke: bool
) -> _Plan:
    """Returns what cells cost on the devices of the settings, packed as a launch packs them."""
    on_gpu, url = on_gpus(settings), settings.storage
    held = None if smoke else _held(url, planned, examples=detect is not None)
    planned = planned if held is None else held.cells
    detected = None if detect is None else _detected(planned, held, detect)
    planned = smoke_cells(planned, on_gpu=on_gpu) if smoke else planned
    speeds = Speeds(devices=settings.gpus_per_trial, on_gpu=on_gpu)
    if held is not None:
        speeds.learn(planned, held.rows)
        planned = tuple(cell.packed(held.packings.get(cell.name)) for cell in planned)
    shared, placement = twins(planned), None
    if workers is not None:
        own = [cell for cell in planned if cell.name not in shared]
        placement = place(own, speeds.costs(own), workers, on_gpu=on_gpu)
        packed = {cell.name: cell for cell in placement.cells}
        planned = tuple(packed.get(cell.name, cell) for cell in planned)
    planned = tuple(largest_packs(cell, on_gpu) for cell in planned)
    lines = [Planned(cell, estimate(cell, speeds=speeds), *_progress(cell, held, speeds)) for cell in planned]
    return _Plan(lines, shared, url, held, speeds, placement, detected)


def _print(shown: _Plan) -> None:
    rows = shown.held.rows if shown.held else None
    print_plan(shown.lines, shown.shared, shown.url, rows, sizes=shown.placement is not None)
    notes = [GPU_PACKS] if shown.speeds.on_gpu else []
    if rows is not None:
        from lawn_tune.planning.generations import code_text  # brings numpy

        notes.append(code_text([line.cell for line in shown.lines], rows))
    if shown.placement is not None:
        own = [line.cell for line in shown.lines if line.cell.name not in shown.shared]
        notes.append(_on_workers(shown.placement, own, shown.speeds))
    for note in filter(None, notes):
        console().print(note, soft_wrap=True, markup=False)
    if shown.detected is not None:
        shown.detected.print()


def _detected(planned: Sequence[Cell], held: _Held | None, difference: float) -> Detected:
    from lawn_tune.cli.detect import detected  # brings numpy

    return detected(planned, held.rows if held else [], held.examples if held else {}, difference)


def _simulated(placement: Placement | None, speeds: Speeds) -> dict[str, Any]:
    if placement is None:
        return {}
    wall = makespan(placement.cells, speeds.seconds, placement.workers)
    return {
        "workers": placement.workers,
        "makespan_hours": _hours(wall),
        "busy_share": None if wall is None else placement.busy,
        "order": [str(cell.name) for cell in placement.cells],
    }


def _on_workers(placement: Placement, planned: Sequence[Cell], speeds: Speeds) -> str:
    wall = makespan(placement.cells, speeds.seconds, placement.workers)
    text, sizes = f"from nothing on {placement.workers} such workers", "sizes are trials per pack in search and confirm"
    if wall is None:
        lines = [f"{text}: unknown until measured, which a first small launch does: --max-device-hours 1", sizes]
    else:
        busy = f"workers are busy for {100 * placement.busy:.0f}% of it"
        lines = [f"{text}: about {time_text(wall)}", f"{busy}; {sizes}"]
    if placement.cells != tuple(planned):
        lines.append("cells with the longest packs come first, which ends earlier than the order above")
    return "\n".join(lines)


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 3600


class _Held(NamedTuple):
    """What a ledger holds of a plan.

    Its cells with the levels that launches added, trials of the spaces, outcomes of the search whatever space trained
    it, sizes of packs.

    `examples` are the outcomes of confirm trials on test examples, where they were asked for.
    """

    cells: tuple[Cell, ...]
    rows: list[TrialRow]
    outcomes: dict[str, Outcome]
    packings: Mapping[CellName, Packing]
    examples: Mapping[str, Outcomes]


def _held(url: str, cells: Sequence[Cell], *, examples: bool) -> _Held | None:
    """Returns what the ledger holds, None where there is no ledger yet."""
    file = StorageUrl.parse(url).file
    if file is not None and not file.exists():
        return None
    from lawn_tune.ledger import open_ledger  # brings optuna: only where there is something to read
    from lawn_tune.results import readable_cells

    with open_ledger(url, create=False) as ledger:
        launched = set(ledger.spaces())
        names = dict.fromkeys(cell.name.space for cell in cells)
        stored = readable_cells(ledger, names)
        rows = [row for name in names if name in launched for row in ledger.trials(name)]
        cells = _settled(resumed(cells, stored), stored, rows)
        outcomes = ledger.outcomes([trial.key for cell in cells for trial in cell.search_trials])
        confirmed = [row.key for row in rows if examples and row.phase == "confirm" and row.outcome == "complete"]
        return _Held(cells, rows, outcomes, ledger.packings(cells), ledger.examples(confirmed) if confirmed else {})


def _settled(cells: tuple[Cell, ...], stored: Sequence[Cell], rows: Sequence[TrialRow]) -> tuple[Cell, ...]:
    if not any(cell.kept for cell in cells):
        return cells
    from lawn_tune.planning.keeping import settled  # brings numpy

    return settled(cells, stored, rows)


def _progress(cell: Cell, held: _Held | None, speeds: Speeds) -> tuple[Counts, Remaining] | tuple[None, None]:
    if held is None:
        return None, None
    from lawn_tune.planning.counts import count  # brings numpy
    from lawn_tune.planning.remaining import remaining

    return count(cell, held.rows, held.outcomes), remaining(cell, held.rows, speeds, elsewhere=held.outcomes)


def _document(shown: _Plan) -> dict[str, Any]:
    return {
        "cells": [_row(line, shown.shared.get(line.cell.name)) for line in shown.lines],
        "ledger": masked(shown.url) if any(line.counts for line in shown.lines) else None,
        **_simulated(shown.placement, shown.speeds),
        **(shown.detected.document() if shown.detected else {}),
    }


def _row(line: Planned, same: CellName | None) -> dict[str, Any]:
    cell, cost, counted, left = line
    return {
        "cell": str(cell.name),
        "same_trials_as": None if same is None else str(same),
        "points": cell.grid.size,
        "unconstrained_points": unconstrained_points(cell),
        "added_levels": {name: list(levels) for name, levels in cell.added.items()},
        "kept_from": {name: kept.batch_size for name, kept in cell.kept.items()},
        "kept_levels": {name: None if cell.pending else cell.grid.values[name][0] for name in cell.kept},
        "epochs": cell.task.epochs,
        "full_epochs": cell.protocol.full_epochs,
        "search_trials": cost.trials[0],
        "confirm_trials": cost.trials[1],
        "search_packs": cost.packs[0],
        "confirm_packs": cost.packs[1],
        "search_pack_size": pack_size(cell, "search"),
        "confirm_pack_size": pack_size(cell, "confirm"),
        "examples_trained": cost.examples,
        "examples_saved": cost.saved,
        "hours": _hours(cost.seconds),
        "hours_left": None if left is None else _hours(left.seconds),
        "hours_from": cost.basis,
        "ledger": None if counted is None else asdict(counted) | {"missing": counted.missing},
    }
