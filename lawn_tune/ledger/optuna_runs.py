"""Finished trials of studies that other programs made with Optuna, as runs; nothing of a study is changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from lawn_tune.errors import LedgerError, UsageError
from lawn_tune.planning.imported import Run
from lawn_tune.storage import StorageUrl, masked
from trainables.catalogue.rows import Direction


def read_studies(url: str, names: Sequence[str]) -> tuple[list[Run], Direction]:
    """Returns the complete trials of studies as search runs, a study a method, and the direction of their values.

    One whose value is infinite, as objectives return for a loss that is not a number, has diverged.
    The whole number `seed` among a trial's attributes is its seed; without it, trials of equal parameters are numbered.

    Raises:
        UsageError: there is no such study, it has several objectives or no complete trial, or a parameter is not a
            number.
        LedgerError: the database cannot be read.
    """
    file = StorageUrl.parse(url).file
    if file is not None and not file.exists():
        raise LedgerError(f"there is no database at {masked(url)}", "Give the URL of Optuna's storage.")
    runs: list[Run] = []
    directions = set()
    for name in names:
        study = _study(url, name)
        directions.add(study.direction.name.lower())
        seen: dict[tuple[Any, ...], int] = {}
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise UsageError(f"study '{name}' has no complete trial", "Leave it out, or give another study.")
        for trial in complete:
            run = _run(name, trial)
            again = seen.get(run.point, 0)
            seen[run.point] = again + 1
            runs.append(run if "seed" in trial.user_attrs else Run(**{**vars(run), "seed": again}))
    if len(directions) > 1:
        raise UsageError(f"studies {', '.join(names)} have different directions", "Import them one by one.")
    return runs, "maximize" if directions == {"maximize"} else "minimize"


def _study(url: str, name: str) -> optuna.Study:
    try:
        study = optuna.load_study(study_name=name, storage=url)
        known = len(study.directions)
    except KeyError:
        found = ", ".join(optuna.get_all_study_names(url)) or "none"
        raise UsageError(f"there is no study '{name}' in {masked(url)}", f"Studies there: {found}.") from None
    except (OptunaError, SQLAlchemyError, ImportError) as error:
        raise LedgerError(
            f"{masked(url)}: cannot be read by Optuna: {type(error).__name__}", "Check the URL."
        ) from None
    if known > 1:
        raise UsageError(f"study '{name}' has {known} objectives", "Give a study with one.")
    return study


def _run(study: str, trial: FrozenTrial) -> Run:
    where = f"study {study}, trial {trial.number}"
    for name, value in trial.params.items():
        if not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise UsageError(
                f"{where}: parameter '{name}' must be a number from 0, got {value!r}",
                "Write the trials to a CSV file, with numbers for words, and import that.",
            )
    seed = trial.user_attrs.get("seed", 0)
    finite = trial.value is not None and math.isfinite(trial.value)
    return Run(
        where=where,
        method=study,
        seed=seed if isinstance(seed, int) and seed >= 0 else 0,
        phase="search",
        point=tuple((name, float(value)) for name, value in sorted(trial.params.items())),
        outcome="complete" if finite else "diverged",
        validation=trial.value if finite else None,
        seconds=trial.duration.total_seconds() if trial.duration else None,
    )
