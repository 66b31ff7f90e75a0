"""The contents of a report, as plain values: the one source of its page, its Markdown and its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dashboards.figures.free_phase import FreePhaseInfo, free_phase_info
from dashboards.figures.sensitivity import SensitivityAxis, SensitivityLevel, sensitivity_info, span
from dashboards.figures.tuning_curve import ROUND, Drawn, TuningCurveInfo, tuning_curve_infos
from dashboards.report.protocol import commands, dates, protocol
from dashboards.widening import shortest_budget, suggested
from lawn_tune.cells import Cell
from lawn_tune.comparison.comparison import CellResult, Comparison
from lawn_tune.comparison.tables import Table, table
from lawn_tune.planning.selection import Winner
from lawn_tune.planning.widening import widenings
from lawn_tune.results import TrialRow
from lawn_tune.words import duration, fixed, method
from search_spaces.levels import text as level_text

TUNING_DEFINITION = (
    "The best of k points drawn at random, without replacement, from the finished points of a grid: its mean over all "
    "draws, the middle 80 % of them, and the test value of the point selected (same runs, no fresh seeds). Exact: the "
    "r-th best of N points is the best of k with chance C(N − r, k − 1) / C(N, k). A diverged point counts as drawn."
)


NO_VALUE = " Draws of diverged points only have no value and are left out."
"""What is added where there are such draws."""


def tuning_definition(curves: Sequence[TuningCurveInfo]) -> str:
    """Returns how the expected best is computed."""
    found = [drawn.found for info in curves for line in info.lines for drawn in line.draws]
    return TUNING_DEFINITION + (NO_VALUE if min(found, default=1.0) < 1 - 5e-5 else "")


class Contents(NamedTuple):
    """The content of a report next to the comparison itself, ready to print; rows are texts under their headers.

    `wider` is TOML that extends the grids whose winners are on the edge, `stays` why others are not extended.
    """

    comparison: Comparison
    table: Table
    winners: tuple[dict[str, str], ...]
    wider: str
    stays: tuple[str, ...]
    sensitivity: tuple[tuple[str, ...], ...]
    free_phases: tuple[FreePhaseInfo, ...]
    tuning_curves: tuple[TuningCurveInfo, ...]
    tuning_rows: tuple[tuple[str, ...], ...]
    protocol: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]


WINNER_HEADER = ("Method", "Batch", "Winner", "Points", "Diverged", "Epochs", "Device time")
WIDER = "lines that replace those of the space's file; a launch trains only the new points"
SENSITIVITY_HEADER = ("Method", "Batch", "Hyperparameter", "Level", "Best", "Median", "Complete", "Diverged", "Span")
TUNING_HEADER = ("Method", "Batch", "k", "Best expected", "80 % of draws", "Test value", "Device time")


def contents(comparison: Comparison, trials: Sequence[TrialRow], storage: str | None = None) -> Contents:
    """Returns the content of a report.

    Args:
        comparison: of one space.
        trials: of that space; the source of costs, dates and the test values of search points.
        storage: URL of the ledger where it is not the default, for the commands to type; its password is masked.
    """
    curves = tuning_curve_infos(comparison, trials)
    shortest = shortest_budget(comparison)
    return Contents(
        comparison=comparison,
        table=table(comparison),
        winners=tuple(_winner_row(result) for result in comparison.cells),
        wider=suggested(comparison.cells, shortest),
        stays=tuple(text for result in comparison.cells for text in _stays(result, shortest)),
        sensitivity=tuple(row for result in comparison.cells if result.winner for row in _sensitivity(result)),
        free_phases=tuple(info for result in comparison.cells if (info := free_phase_info(result, trials))),
        tuning_curves=curves,
        tuning_rows=_tuning_rows(curves),
        protocol=tuple(protocol(comparison, dates(trials))),
        commands=tuple(commands(comparison, storage)),
    )


def _winner_row(result: CellResult) -> dict[str, str]:
    statuses = [point.status for point in result.points]
    done = sum(point.finished for point in result.points)
    values = (
        *_names(result.cell),
        _winner(result.winner),
        f"{done:,} of {len(statuses):,}",
        f"{statuses.count('diverged'):,}",
        str(result.cell.task.epochs),
        duration(result.seconds),
    )
    return dict(zip(WINNER_HEADER, values, strict=True))


def _winner(winner: Winner | None) -> str:
    if winner is None:
        return "none yet"
    values = winner.hyperparameters.items()
    return ", ".join(f"{name} {level_text(value)}{' (edge)' if name in winner.edges else ''}" for name, value in values)


def _names(cell: Cell) -> tuple[str, str]:
    return method(cell.name.optimizer), f"{cell.name.batch_size:,}"


def _stays(result: CellResult, shortest: int) -> list[str]:
    """Returns which grids are not extended although the winner is on their edge, and why."""
    where = ", batch ".join(_names(result.cell))
    kept = [found for found in widenings(result.cell, result.winner, shortest) if found.why]
    return [f"{where}: {found.name} is not extended: {found.why}." for found in kept]


def _sensitivity(result: CellResult) -> list[tuple[str, ...]]:
    info = sensitivity_info(result)
    return [
        (*_names(result.cell), *_level_row(axis, level, i, info.digits))
        for axis in info.axes
        for i, level in enumerate(axis.levels)
    ]


def _level_row(axis: SensitivityAxis, level: SensitivityLevel, i: int, digits: int) -> tuple[str, ...]:
    best = "–" if level.best is None else fixed(level.best, digits)
    median = "–" if level.median is None else fixed(level.median, digits)
    spread = fixed(span(axis), digits) if i == 0 else ""
    return axis.name, level_text(level.level), best, median, str(len(level.values)), str(level.diverged), spread


def _tuning_rows(curves: Sequence[TuningCurveInfo]) -> tuple[tuple[str, ...], ...]:
    """Returns the rows of all curves; those of a cell that is in several pairs once."""
    found = [
        (method(line.optimizer), f"{info.batch_size:,}", *tuning_cells(info, drawn))
        for info in curves
        for line in info.lines
        for drawn in line.draws
        if drawn.k in ROUND or drawn.k == line.finished
    ]
    return tuple(dict.fromkeys(found))


def tuning_cells(info: TuningCurveInfo, drawn: Drawn) -> tuple[str, str, str, str, str]:
    """Returns k, expected best, the middle of the draws, test value and time, as printed."""
    low, high = fixed(drawn.low, info.digits), fixed(drawn.high, info.digits)
    test = "–" if drawn.test is None else fixed(drawn.test, info.digits)
    return f"{drawn.k:,}", fixed(drawn.value, info.digits), f"{low} to {high}", test, duration(drawn.seconds)
