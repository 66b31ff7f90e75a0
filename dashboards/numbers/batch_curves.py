"""A measure against the batch size, LAWN beside weight decay, with the paper's values behind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dashboards.numbers.caveats import cell_caveats
from dashboards.numbers.measure import Measure, Measured, Rows, measured
from lawn_tune.cells import Phase
from lawn_tune.comparison.compare import CellResult
from lawn_tune.comparison.published import printed, published_curve
from lawn_tune.comparison.tables import model_text
from search_spaces.published import PublishedValue


class BatchPoint(NamedTuple):
    """One cell's value, and its caveats in words."""

    batch_size: int
    value: Measured
    caveats: tuple[str, ...]


class BatchCurve(NamedTuple):
    """One method: our points and the paper's, each ascending in batch size."""

    optimizer: str
    points: tuple[BatchPoint, ...]
    paper: tuple[PublishedValue, ...]


class BatchCurves(NamedTuple):
    """The figure.

    Args:
        measure: what is shown.
        split: of our values, "test" or the one that selects.
        curves: in the order of the results; methods with no value of ours are left out.
        paper: how the paper's runs differ from ours, "" where no value of theirs is shown.
    """

    measure: Measure
    split: str
    curves: tuple[BatchCurve, ...]
    paper: str


def batch_curves(results: Sequence[CellResult], measure: Measure, phase: Phase, rows: Rows) -> BatchCurves:
    """Returns every method's values over batch sizes.

    Args:
        results: of one space.
        measure, phase, rows: see `measure.measured`.

    The paper's values are shown beside the protocol's metric on test only: it prints no other.
    """
    names = dict.fromkeys(result.cell.name.optimizer for result in results)
    split = results[0].cell.protocol.selection if phase == "search" and results else "test"
    curves = [_curve([r for r in results if r.cell.name.optimizer == name], measure, phase, rows) for name in names]
    if split != "test":
        curves = [curve._replace(paper=()) for curve in curves]
    shown = tuple(curve for curve in curves if curve.points)
    return BatchCurves(measure, split, shown, differs(results) if any(curve.paper for curve in shown) else "")


def _curve(results: Sequence[CellResult], measure: Measure, phase: Phase, rows: Rows) -> BatchCurve:
    ordered = sorted(results, key=lambda result: result.cell.name.batch_size)
    found = [(result, measured(result, measure, phase, rows)) for result in ordered]
    first = results[0].cell
    theirs = published_curve(
        first.task.dataset, first.task.optimizer, metric=measure.metric or "", loss=first.task.loss
    )
    return BatchCurve(
        optimizer=first.name.optimizer,
        points=tuple(
            BatchPoint(result.cell.name.batch_size, value, cell_caveats(result))
            for result, value in found
            if value is not None
        ),
        paper=theirs if measure.chosen else (),
    )


def differs(results: Sequence[CellResult]) -> str:
    """Returns the paper's set-up beside ours in one line; "" where the paper has no value for any of the cells."""
    pairs = [(value, result.cell) for result in results if (value := printed(result.cell)) and value.mean is not None]
    if not pairs:
        return ""
    theirs = _or({value.epochs for value, _ in pairs}), " or ".join(dict.fromkeys(value.model for value, _ in pairs))
    ours = _or({cell.task.epochs for _, cell in pairs}), " or ".join(dict.fromkeys(model_text(c) for _, c in pairs))
    schedules = " or ".join(dict.fromkeys(cell.task.schedule for _, cell in pairs))
    return (
        f"Paper: {theirs[0]} epochs, {theirs[1]} of a size not published, linear schedule, grids not published. "
        f"Here: {ours[0]} epochs, {ours[1]}, {schedules} schedule."
    )


def _or(numbers: Iterable[int]) -> str:
    return " or ".join(map(str, sorted(numbers)))
