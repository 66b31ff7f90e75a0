"""What a ledger and its Optuna studies answer to every question, to compare copies of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import optuna
from typer.testing import CliRunner

from lawn_tune.cells import Cell
from lawn_tune.cli.main import app
from lawn_tune.executors.base import Job
from lawn_tune.launching.launch import Launch
from lawn_tune.ledger import Ledger, Owner, open_ledger
from lawn_tune.ledger.database import Database
from trainables.examples import encode


def answers(ledger: Ledger) -> dict[str, Any]:
    """Everything a ledger returns, floats by their bits."""
    found: dict[str, Any] = {"spaces": ledger.spaces()}
    for space in ledger.spaces():
        rows = ledger.trials(space)
        keys = [row.key for row in rows]
        found[space] = {
            "version": ledger.version(space),
            "cells": ledger.cells(space),
            "trials": [repr(asdict(row)) for row in rows],
            "outcomes": ledger.outcomes(keys),
            "packs": [
                ledger.packs(cell.name, phase) for cell in ledger.cells(space) for phase in ("search", "confirm")
            ],
            "curves": {key: {n: v.tobytes() for n, v in curve.items()} for key, curve in ledger.curves(keys).items()},
            "examples": {key: encode(found) for key, found in ledger.examples(keys).items()},
        }
    return found


def read(url: str) -> dict[str, Any]:
    with open_ledger(url, create=False) as ledger:
        return answers(ledger)


def studies(url: str) -> dict[str, list[str]]:
    """Every study as any Optuna program sees it."""
    storage = optuna.storages.RDBStorage(Database(url).url.render_as_string(hide_password=False))
    try:
        return {name: _seen(optuna.load_study(study_name=name, storage=storage)) for name in _names(storage)}
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _names(storage: optuna.storages.RDBStorage) -> list[str]:
    return sorted(optuna.get_all_study_names(storage=storage))


def _seen(study: optuna.Study) -> list[str]:
    seen = [repr((study.directions, study.metric_names, sorted(study.user_attrs.items())))]
    for trial in study.trials:
        values = {name: value for name, value in vars(trial).items() if name != "_trial_id"}
        seen.append(repr({n: sorted(v.items()) if isinstance(v, dict) else v for n, v in sorted(values.items())}))
    return seen


def comparison(url: str, space: str) -> str:
    """The comparison as JSON, without the ledger's place in commands to type; `space` may be a bundle."""
    result = CliRunner().invoke(app, ["compare", space, "--format", "json", "--storage", url])
    assert result.exit_code == 0, result.output
    return re.sub(r" --storage [^\s\"]+", "", result.stdout)


class Silent:
    """A display that shows nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **options: None


def jobs(url: str) -> dict[str, tuple[str, ...]]:
    """Cell → the trials that a launch against the ledger would train first; none where all is done."""
    found = {}
    with open_ledger(url) as ledger:
        cells: list[Cell] = [cell for space in ledger.spaces() for cell in ledger.cells(space)]
        for cell in cells:
            launch = Launch([cell], ledger, Owner.current(), Silent())
            job = launch.next_job() if launch.has_work() else None
            found[str(cell.name)] = tuple(member.key for member in job.config.members) if isinstance(job, Job) else ()
            launch.close()
    return found
