"""Runs of other programs as cells and outcomes, so that whatever reads a ledger can read them; nothing trains them."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal, NamedTuple

from lawn_tune.cells import PHASES, Cell, CellName, Phase, Protocol, default_baselines
from lawn_tune.errors import UsageError
from search_spaces.space import Grid
from trainables.catalogue import BUILT_IN, catalogue, rows_text
from trainables.catalogue.methods import RULES
from trainables.catalogue.rows import IMPORTED, SCHEDULE, Direction
from trainables.outcomes import TrialOutcome
from trainables.tasks import ModelConfig, Task, Trial, trial_key

UNKNOWN = "imported"
"""Name of the model, of the loss and of the kind of data, of which nothing is known."""

SIGNIFICANT = 4
"""Digits of a typical value that tables show, of a metric that is not built in (our choice)."""

Point = tuple[tuple[str, float], ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished run.

    Args:
        where: line of a file or number of a trial, for errors.
        method, batch_size, seed, phase: whose it is; `search` runs select, `confirm` runs of the winner are compared.
        point: its hyperparameters.
        outcome: a diverged run has no values.
        validation, test: its value on each split, in the metric's unit; None where it was not measured.
        epochs: that it trained.
        seconds: of device time; None if unknown.
    """

    where: str
    method: str
    seed: int
    phase: Phase
    point: Point
    batch_size: int = 1
    outcome: Literal["complete", "diverged"] = "complete"
    validation: float | None = None
    test: float | None = None
    epochs: int = 1
    seconds: float | None = None


class Described(NamedTuple):
    """What the runs do not say.

    Args:
        space: name that they get.
        source: where they are from, for people.
        metric, direction: of their values.
        compare: pairs (challenger, baseline) of methods.
    """

    space: str
    source: str
    metric: str
    direction: Direction
    compare: Sequence[tuple[str, str]] = ()


class Imported(NamedTuple):
    """A cell with its runs: phase → trials and their outcomes, in the same order."""

    cell: Cell
    phases: Mapping[Phase, tuple[Sequence[Trial], Sequence[TrialOutcome]]]

    @property
    def unused(self) -> int:
        """Number of search runs with a seed that most points lack: they select nothing."""
        trials, _ = self.phases["search"]
        return sum(trial.seed not in self.cell.protocol.search_seeds for trial in trials)


def imported(runs: Sequence[Run], described: Described) -> tuple[Imported, ...]:
    """Returns the cells of a space that holds the runs: baselines first, whatever the order of the runs.

    A method of the catalogue keeps its row if the runs have its hyperparameters, others get one of their own. The
    identity of every trial holds a hash of all runs, so results of different imports never mix.

    Raises:
        UsageError: two runs are the same, runs of a method differ in which hyperparameters or values they have, most of
            its points have no seed in common, the metric is in percent and the values are not, or a pair names no
            method.
    """
    _check(runs, described)
    _check_values(runs, described.metric)
    challengers = {challenger for challenger, _ in described.compare}
    runs = sorted(runs, key=lambda run: (run.method in challengers, run.method, run.batch_size, run.seed, run.point))
    names = dict.fromkeys(run.method for run in runs)
    carried, rows = _rows(runs, described)
    cells = []
    for method in names:
        for size in sorted({run.batch_size for run in runs if run.method == method}):
            group = [run for run in runs if _place(run) == (method, size)]
            baselines = tuple(rows[base] for challenger, base in described.compare if challenger == method)
            cells.append(_cell(group, described, carried, rows[method], baselines))
    return tuple(cells)


def _check(runs: Sequence[Run], described: Described) -> None:
    columns: dict[str, tuple[str, ...]] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for run in runs:
        if not run.point:
            todo = "Add a column with a number, the same one for all its runs if it has none."
            raise UsageError(f"{run.where}: method '{run.method}' has no hyperparameter here", todo)
        names = tuple(sorted(name for name, _ in run.point))
        if columns.setdefault(run.method, names) != names:
            raise UsageError(
                f"{run.where}: method '{run.method}' has the hyperparameters {', '.join(names)} here, and "
                f"{', '.join(columns[run.method])} in the lines before",
                "Give every run of a method the same ones.",
            )
        same = (run.method, run.batch_size, run.seed, run.phase, run.point)
        if same in seen:
            raise UsageError(
                f"{run.where}: the same {run.phase} run as {seen[same]}: method, batch size, seed and hyperparameters",
                "Remove one of them, or give it its own seed.",
            )
        seen[same] = run.where
    selecting: dict[tuple[str, int], bool] = {}
    for run in runs:
        known = run.validation is not None
        if run.phase == "search" and run.outcome == "complete" and known != selecting.setdefault(_place(run), known):
            raise UsageError(
                f"{run.where}: validation: some search runs of method '{run.method}' have a value, others none",
                "Give one to all of them, or to none.",
            )
    searched = {_place(run) for run in runs if run.phase == "search"}
    tried = {(*_place(run), run.seed) for run in runs if run.phase == "search"}
    for run in runs:
        if _place(run) not in searched:
            raise UsageError(
                f"{run.where}: method '{run.method}' has no search run at batch size {run.batch_size}",
                "Add the runs that selected it, of phase search.",
            )
        if run.phase == "confirm" and (*_place(run), run.seed) in tried:
            raise UsageError(
                f"{run.where}: seed {run.seed} is one that method '{run.method}' was searched with",
                "Give confirm runs seeds of their own: a winner does best with those that selected it.",
            )
    for name in (name for pair in described.compare for name in pair):
        if name not in columns:
            raise UsageError(f"--compare: there is no method '{name}'", f"Methods: {', '.join(columns)}.")


def _place(run: Run) -> tuple[str, int]:
    return run.method, run.batch_size


def _check_values(runs: Sequence[Run], metric: str) -> None:
    """Refuses fractions and other values that are no percentages, of which half a point would be a margin."""
    known = [(run.where, value) for run in runs for value in (run.validation, run.test) if value is not None]
    if metric not in BUILT_IN.metrics or BUILT_IN.metrics[metric].unit != "%" or not known:
        return
    where, high = max(known, key=lambda found: found[1])
    advice = "give another --metric with its --direction."
    if 0 < high <= 1:
        raise UsageError(f"{where}: {metric} is in percent, and no value is above 1", f"Multiply by 100, or {advice}")
    for where, value in known:
        if not 0 <= value <= 100:
            outside = f"{where}: {metric} must be from 0 to 100 percent, got {value:g}"
            raise UsageError(outside, f"Correct it, or {advice}")


# --- rows ------------------------------------------------------------------------------------------------------------


def _rows(runs: Sequence[Run], described: Described) -> tuple[str, dict[str, str]]:
    """Returns the rows that all tasks carry, as `Task.rows` has them, and the name of each method's row."""
    points = {run.method: dict(run.point) for run in runs}
    rows = {name: name if _built_in(name, point) else _free(name, BUILT_IN.methods) for name, point in points.items()}
    contents = sorted(repr(replace(run, where="")) for run in runs)
    digest = hashlib.sha256("\n".join(contents).encode()).hexdigest()[:16]
    kind = {"data": UNKNOWN, "targets": UNKNOWN}
    values: dict[str, Any] = {
        "losses": {UNKNOWN: {"label": "not given", "targets": UNKNOWN, "function": UNKNOWN}},
        "models": {UNKNOWN: {"label": "not given", "data": UNKNOWN, "build": UNKNOWN}},
        "datasets": {
            _free(described.space, BUILT_IN.datasets): {
                **{"summary": f"results of {described.source}", "metrics": [described.metric], **kind},
                **{"workload": f"{IMPORTED}{digest}", "train_examples": 1, "full_examples": 1},
            }
        },
        **_own_methods(points, rows, dict(described.compare)),
    }
    if described.metric not in BUILT_IN.metrics:
        row = {"label": described.metric, "direction": described.direction, "digits": _digits(runs)}
        values["metrics"] = {described.metric: row}
    return rows_text(values), rows


def _digits(runs: Sequence[Run]) -> int:
    """Returns the decimals that show `SIGNIFICANT` digits of the median value, at least 2."""
    sizes = [abs(value) for run in runs for value in (run.validation, run.test) if value]
    return max(2, SIGNIFICANT - 1 - math.floor(math.log10(median(sizes)))) if sizes else 2


def _own_methods(
    points: Mapping[str, Mapping[str, float]], rows: Mapping[str, str], baselines: Mapping[str, str]
) -> dict[str, Any]:
    """Returns the rows of methods that are not built in; a challenger has the color of its baseline."""
    palette = list(dict.fromkeys(rule.color for rule in RULES.values()))
    bases = list(dict.fromkeys(baselines.get(name, name) for name in rows))
    schedule = {row.name for row in SCHEDULE}
    own = {name: row for name, row in rows.items() if row not in BUILT_IN.methods}
    return {
        "rules": {
            row: {
                **{"label": name, "direction": UNKNOWN, "state": []},
                "hyperparameters": [{"name": key} for key in points[name] if key not in schedule],
                "color": palette[bases.index(baselines.get(name, name)) % len(palette)],
            }
            for name, row in own.items()
        },
        "methods": {
            row: {"label": name, "rule": row, "defaults": dict.fromkeys(schedule - points[name].keys(), 0.0)}
            | ({"baseline": rows[baselines[name]]} if name in baselines else {})
            for name, row in own.items()
        },
    }


def _built_in(name: str, point: Mapping[str, float]) -> bool:
    """True for a method of the catalogue whose hyperparameters the point has."""
    try:
        return name in BUILT_IN.methods and bool(BUILT_IN.methods[name].complete(point))
    except ValueError:
        return False


def _free(name: str, taken: Iterable[str]) -> str:
    return f"{name}-{UNKNOWN}" if name in taken else name


# --- cells -----------------------------------------------------------------------------------------------------------


def _cell(runs: Sequence[Run], described: Described, carried: str, row: str, baselines: tuple[str, ...]) -> Imported:
    task = Task(
        dataset=_free(described.space, BUILT_IN.datasets),
        model=ModelConfig(UNKNOWN),
        loss=UNKNOWN,
        optimizer=row,
        batch_size=runs[0].batch_size,
        epochs=max(run.epochs for run in runs),
        rows=carried,
    )
    metric = catalogue(carried).metrics[described.metric]
    search = [run for run in runs if run.phase == "search"]
    cell = Cell(
        name=CellName(described.space, row, task.batch_size),
        task=task,
        grid=_grid([run.point for run in search]),
        protocol=Protocol(
            metric=metric.name,
            direction=metric.direction,
            selection="validation" if any(run.validation is not None for run in search) else "test",
            reported="last",
            search_seeds=_shared_seeds(search),
            confirm_seeds=tuple(sorted({run.seed for run in runs if run.phase == "confirm"})),
            full_epochs=task.epochs,
            margin=metric.margin,
        ),
        baselines=baselines or (() if described.compare else default_baselines(task.method)),
        about=(f"Results of {described.source}.",),
    )
    return Imported(cell, dict(_phases(cell, runs)))


def _shared_seeds(runs: Sequence[Run]) -> tuple[int, ...]:
    """Returns the seeds by which points are compared: as many as more than half of the points have all of (our choice).

    Points with a diverged run count only if all have one, as the other seeds are often not run then. A point that was
    repeated without need, as samplers do, thus keeps no other from winning.

    Raises:
        UsageError: most points have no seed in common.
    """
    diverged = {run.point for run in runs if run.outcome == "diverged"}
    counted = [run for run in runs if run.point not in diverged] or runs
    held: dict[Point, set[int]] = {}
    for run in counted:
        held.setdefault(run.point, set()).add(run.seed)
    shared: set[int] = set()
    for seed, _ in Counter(sorted(run.seed for run in counted)).most_common():
        wider = shared | {seed}
        shared = wider if 2 * sum(wider <= seeds for seeds in held.values()) > len(held) else shared
    if not shared:
        raise UsageError(
            f"{runs[0].where}: most points of method '{runs[0].method}' have no seed in common",
            "Points are compared by the same seeds: give their search runs the same ones, 0 where each has one run.",
        )
    return tuple(sorted(shared))


def _grid(points: Sequence[Point]) -> Grid:
    """Returns the product of the levels if the points are all of it, else the points."""
    distinct = list(dict.fromkeys(points))
    names = [name for name, _ in distinct[0]]
    levels = {name: tuple(sorted({dict(point)[name] for point in distinct})) for name in names}
    if math.prod(map(len, levels.values())) == len(distinct):
        return Grid(levels)
    return Grid(levels, tuple(tuple(value for _, value in point) for point in distinct))


def _phases(cell: Cell, runs: Sequence[Run]) -> Iterator[tuple[Phase, tuple[list[Trial], list[TrialOutcome]]]]:
    for phase in PHASES:
        task, here = cell.task_of(phase), [run for run in runs if run.phase == phase]
        trials = [
            Trial(key=trial_key(task, run.seed, dict(run.point)), seed=run.seed, hyperparameters=dict(run.point))
            for run in here
        ]
        if here:
            yield phase, (trials, [_outcome(cell, run, trial) for run, trial in zip(here, trials, strict=True)])


def _outcome(cell: Cell, run: Run, trial: Trial) -> TrialOutcome:
    values = {"validation": run.validation, "test": run.test}
    measured = {f"last/{split}/{cell.protocol.metric}": value for split, value in values.items() if value is not None}
    summary = {**measured, "seconds": run.seconds}
    return TrialOutcome(key=trial.key, outcome=run.outcome, epochs=run.epochs, summary=summary)
