"""`lawn-tune import`: finished runs of other programs become a space that every command reads and none trains."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from lawn_tune.cli.options import AsJson, Storage
from lawn_tune.cli.printing import print_json
from lawn_tune.cli.source import with_storage
from lawn_tune.errors import UsageError
from lawn_tune.ledger import Ledger, open_ledger
from lawn_tune.planning.csv_runs import NAME, read_runs
from lawn_tune.planning.imported import Described, Imported, Run, imported
from lawn_tune.planning.selection import best, points
from lawn_tune.planning.spaces import builtin_spaces
from lawn_tune.results import FINISHED, TrialRow
from lawn_tune.settings import resolve
from lawn_tune.storage import masked
from lawn_tune.words import count, setting
from trainables.catalogue.losses import METRICS
from trainables.catalogue.rows import Direction

OPTUNA = "optuna"

PROVENANCE = {"started": "", "ended": ""}
"""Unknown: the time of the import is not that of the runs."""


def import_(
    source: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="A CSV file; or: optuna URL STUDY, with one study a method."),
    ],
    name: Annotated[
        str | None, typer.Option("--name", metavar="SPACE", help="Name of the space; else the file's.")
    ] = None,
    metric: Annotated[str, typer.Option("--metric", metavar="NAME", help="What the values are.")] = "accuracy",
    direction: Annotated[
        Literal["maximize", "minimize"] | None, typer.Option("--direction", help="Which values are better.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option("--compare", metavar="CHALLENGER:BASELINE", help="Methods to compare; may be repeated."),
    ] = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Bring finished runs of other programs into the ledger, so that compare, report and dashboard show them.

    A CSV file has one line a run, with the columns method, validation and test, optionally batch_size, seed, phase,
    outcome, epochs and seconds; all other columns are hyperparameters. Search runs select each method's winner, confirm
    runs of the winner are compared. Of Optuna studies, complete trials are search runs; a study is a method.

    The space cannot be launched. The same import again adds nothing.

    \b
    Examples:
      lawn-tune import runs.csv --metric accuracy --compare mine:adam
      lawn-tune import optuna sqlite:///optuna.db adam mine --name mnist --metric loss --compare mine:adam
    """
    runs, described = _read(source, name, metric, direction, compare or ())
    cells = imported(runs, described)
    url = resolve({"storage": storage}).storage
    with open_ledger(url) as ledger:
        _refuse_other(ledger, described.space, cells)
        ledger.register([found.cell for found in cells])
        added = sum(_write(ledger, cell, described.source) for cell in cells)
        beside = list(_beside(cells, ledger.trials(described.space)))
    unused = sum(found.unused for found in cells)
    facts = {"space": described.space, "ledger": masked(url), "cells": len(cells)}
    facts |= {"runs": len(runs), "added": added, "unused": unused, "beside": sum(number for _, number in beside)}
    if as_json:
        print_json("runs/1", facts)
        return
    new = "all new" if added == len(runs) else f"{added} new"
    typer.echo(f"imported {count(len(runs), 'run')} of {count(len(cells), 'cell')} as space {described.space}; {new}")
    if unused:
        typer.echo(f"{count(unused, 'search run')} with seeds that most points of the method lack: not used to select")
    for winner, number in beside:
        typer.echo(f"{count(number, 'confirm run')} not of the winner, {winner}: not compared")
    typer.echo(f"next: {with_storage(f'lawn-tune compare {described.space}', storage)}")


def _read(
    source: Sequence[str], name: str | None, metric: str, direction: Direction | None, compare: Sequence[str]
) -> tuple[list[Run], Described]:
    if source[0] == OPTUNA and len(source) > 1:
        from lawn_tune.ledger.optuna_runs import read_studies  # brings Optuna

        if len(source) < 3:
            raise UsageError("import optuna takes a URL and the name of a study", "As: import optuna URL STUDY.")
        runs, found = read_studies(source[1], source[2:])
        if direction not in (None, found):
            raise UsageError(f"--direction: the study is to {found}, got {direction}", "Leave it out.")
        if metric in METRICS and METRICS[metric].direction != found:
            rule = f"{metric} is to {METRICS[metric].direction}, and the study is to {found}"
            raise UsageError(f"--metric: {rule}", "Name what its values are, as --metric loss.")
        direction, origin, default = found, f"Optuna study {', '.join(source[2:])}", source[2]
    elif len(source) == 1:
        runs, origin, default = read_runs(Path(source[0])), Path(source[0]).name, Path(source[0]).stem
    else:
        raise UsageError(f"import takes one CSV file, got {len(source)}", "Or: import optuna URL STUDY.")
    pairs = [_pair(text) for text in compare]
    return runs, Described(_space(name or default), origin, metric, _direction(metric, direction), pairs)


def _space(name: str) -> str:
    if not re.fullmatch(NAME, name, re.ASCII) or name in builtin_spaces():
        rule = "a name of letters, digits, '.', '_' and '-' that no built-in space has"
        raise UsageError(f"--name: must be {rule}, got '{name}'", "Give one with --name.")
    return name


def _pair(text: str) -> tuple[str, str]:
    challenger, _, baseline = text.partition(":")
    if not challenger or not baseline or challenger == baseline:
        raise UsageError(
            f"--compare: must be CHALLENGER:BASELINE, two methods, got '{text}'", "As --compare mine:adam."
        )
    return challenger, baseline


def _direction(metric: str, direction: Direction | None) -> Direction:
    if not re.fullmatch(r"[\w@.-]+", metric, re.ASCII):
        raise UsageError(f"--metric: must be letters, digits, '@', '.', '_' and '-', got '{metric}'", "Rename it.")
    known = METRICS[metric].direction if metric in METRICS else direction
    if known is None:
        raise UsageError(f"--direction: needed for the metric '{metric}'", "Give --direction maximize, or minimize.")
    if direction not in (None, known):
        raise UsageError(f"--direction: {metric} is to {known}, got {direction}", "Leave it out, or rename the metric.")
    return known


def _refuse_other(ledger: Ledger, space: str, cells: Sequence[Imported]) -> None:
    """Refuses a space that the ledger holds with other contents."""
    held = ledger.cells(space) if space in ledger.spaces() else ()
    if held and {cell.task.dataset_row.workload for cell in held} != {cells[0].cell.task.dataset_row.workload}:
        raise UsageError(
            f"space '{space}' is in the ledger already, with other results", "Give another name with --name."
        )


def _beside(cells: Iterable[Imported], rows: Sequence[TrialRow]) -> Iterator[tuple[str, int]]:
    """Yields each winner that other points have confirm runs next to, as shown, and how many."""
    for cell, phases in cells:
        won, (trials, _) = best(cell, points(cell, rows)), phases.get("confirm", ((), ()))
        other = [trial for trial in trials if won and trial.hyperparameters != won.hyperparameters]
        if won and other:
            yield f"{cell.method.label} with {setting(won.hyperparameters)}", len(other)


def _write(ledger: Ledger, found: Imported, source: str) -> int:
    """Writes a cell and those of its runs that the ledger lacks; returns how many these are."""
    added = 0
    for phase, (trials, outcomes) in found.phases.items():
        known = ledger.outcomes([trial.key for trial in trials])
        fresh = [trial for trial in trials if known.get(trial.key) not in FINISHED]
        if fresh:
            (*_, pack) = ledger.record_packs(found.cell.name, phase, [trials])
            ledger.finish(ledger.begin(pack, trials), outcomes, PROVENANCE | {"imported from": source})
        added += len(fresh)
    return added
