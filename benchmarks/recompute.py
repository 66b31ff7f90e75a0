"""Brings committed comparisons up to the present inference: `python -m benchmarks.recompute`, training nothing.

A committed comparison holds the value of each confirm run and of each winner, not the trials. So the winners stay, what
needs other points of a grid (ties) or outcomes on single examples is not computed, and the intervals are over seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lawn_tune.cells import Cell, CellName, Phase, Protocol, default_baselines
from lawn_tune.comparison.compare import compare
from lawn_tune.comparison.renderers.exchange import to_dict
from lawn_tune.planning.selection import search_series
from lawn_tune.results import TrialRow
from search_spaces.space import Grid
from trainables.tasks import Task, Trial

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def main() -> None:
    """Rewrites every committed comparison."""
    for path in sorted(RESULTS.glob("*.json")):
        document = recomputed(json.loads(path.read_text()))
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def recomputed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a comparison's JSON as the present code makes it of the same values."""
    protocol = document["protocol"] | {
        name: tuple(document["protocol"][name]) for name in ("search_seeds", "confirm_seeds")
    }
    about = tuple(document.get("about", ()))
    cells = [replace(_cell(found, Protocol(**protocol)), about=about) for found in document["cells"]]
    rows = [row for cell, found in zip(cells, document["cells"], strict=True) for row in _rows(cell, found)]
    provenance = {name: tuple(values) for name, values in document["provenance"].items()}
    return to_dict(replace(compare(cells, rows, {}), provenance=provenance)) | {"lawn_tune": document["lawn_tune"]}


def _cell(found: Mapping[str, Any], protocol: Protocol) -> Cell:
    task = Task.from_dict(found["task"])
    return Cell(
        name=CellName.parse(found["cell"]),
        task=task,
        grid=Grid({name: tuple(levels) for name, levels in found["grid"].items()}),
        protocol=protocol,
        baselines=default_baselines(task.method),
    )


def _rows(cell: Cell, found: Mapping[str, Any]) -> list[TrialRow]:
    """Returns the trials as far as the file knows them: the winner's, and points that finished without a value."""
    won, estimate = found["winner"], found["estimate"]
    best = {search_series(cell.protocol): won["value"], "seconds": found["seconds"]}
    search = [
        _row(cell, "search", trial, best if trial.hyperparameters == won["hyperparameters"] else {})
        for trial in cell.search_trials
    ]
    values = dict(zip(estimate["seeds"], estimate["values"], strict=True))
    confirm: Sequence[Trial] = cell.confirm_trials(won["hyperparameters"])
    return search + [_row(cell, "confirm", trial, {estimate["value"]: values[trial.seed]}) for trial in confirm]


def _row(cell: Cell, phase: Phase, trial: Trial, summary: Mapping[str, float]) -> TrialRow:
    return TrialRow(
        key=trial.key,
        cell=str(cell.name),
        phase=phase,
        seed=trial.seed,
        hyperparameters=trial.hyperparameters,
        outcome="complete",
        epochs=cell.task.epochs,
        total_epochs=cell.task.epochs,
        summary=summary,
        pack="",
        attempts=1,
        error="",
        provenance={},
    )


if __name__ == "__main__":
    main()
