"""A measure against the batch size: one line per method with its errors, the paper's values faint behind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank, capital, named, under, with_unit
from dashboards.figures.caveats import cell_caveats
from dashboards.figures.figure_of_merit import Measure, Measured, Rows, measured
from dashboards.figures.panels import dodge, gapped, log_range, whiskers
from dashboards.figures.untrained import Level, draw_levels, levels
from lawn_tune.cells import Phase
from lawn_tune.comparison.comparison import CellResult
from lawn_tune.comparison.published import paper_dataset, printed, published_curve
from lawn_tune.comparison.references import Reference
from lawn_tune.comparison.tables import model_text
from lawn_tune.words import fixed
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
        untrained: what needs no training, on test.
    """

    measure: Measure
    split: str
    curves: tuple[BatchCurve, ...]
    paper: str
    untrained: tuple[Level, ...] = ()


def batch_curves(
    results: Sequence[CellResult], measure: Measure, phase: Phase, rows: Rows, references: Sequence[Reference] = ()
) -> BatchCurves:
    """Returns every method's values over batch sizes.

    Args:
        results: of one space.
        measure, phase, rows: see `figure_of_merit.measured`.
        references: of the space.

    The paper's values are shown for the protocol's metric on test only: it prints no other.
    """
    names = dict.fromkeys(result.cell.name.optimizer for result in results)
    split = results[0].cell.protocol.selection if phase == "search" and results else "test"
    curves = [_curve([r for r in results if r.cell.name.optimizer == name], measure, phase, rows) for name in names]
    if split != "test":
        curves = [curve._replace(paper=()) for curve in curves]
    shown = tuple(curve for curve in curves if curve.points)
    paper = differs(results) if any(curve.paper for curve in shown) else ""
    return BatchCurves(measure, split, shown, paper, levels(references, measure.metric) if split == "test" else ())


def _curve(results: Sequence[CellResult], measure: Measure, phase: Phase, rows: Rows) -> BatchCurve:
    ordered = sorted(results, key=lambda result: result.cell.name.batch_size)
    found = [(result, measured(result, measure, phase, rows)) for result in ordered]
    first = results[0].cell
    theirs = published_curve(
        paper_dataset(first.task), first.task.optimizer, metric=measure.metric or "", loss=first.task.loss
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
    """Returns the paper's setup next to ours in one line; "" where the paper has no value for any of the cells."""
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


# --- drawing ----------------------------------------------------------------------------------------------------------


PAPER_DASH = "2px,3px"


def batch_curves_figure(info: BatchCurves) -> go.Figure:
    """Draws every method over batch sizes on a log axis, ± one standard error; open markers are unconfirmed.

    No line joins a search value to a test value.
    """
    names = len(info.curves) + any(curve.paper for curve in info.curves)
    figure = blank(height=380 + 11 * names)
    figure.update_layout(under(names))
    sizes = _sizes(info)
    for curve in info.curves:
        if curve.paper:
            figure.add_trace(_paper(curve))
    for i, curve in enumerate(info.curves):
        figure.add_trace(_ours(curve, info, dodge(sizes, i, len(info.curves))))
    if any(curve.paper for curve in info.curves):
        figure.add_trace(_paper_key())
    ticks = {
        "tickvals": sizes,
        "ticktext": _ticks(sizes),
        "minor": {"ticks": ""},
        "automargin": True,
    }
    figure.update_xaxes(
        type="log", title_text="Batch size (examples per step, log scale)", range=log_range(sizes), **ticks
    )
    name = info.measure.name if info.measure.metric is None else f"{info.split} {info.measure.name}"
    figure.update_yaxes(title_text=capital(with_unit(name, info.measure.unit)), automargin=True)
    ours = [point.value.mean for curve in info.curves for point in curve.points]
    draw_levels(figure, info.untrained, ours, info.measure.digits)
    return figure


def _ours(curve: BatchCurve, info: BatchCurves, aside: float) -> go.Scatter:
    color = style.color(curve.optimizer)
    phases = [point.value.phase for point in curve.points]
    points = gapped(curve.points, phases)
    return go.Scatter(
        name=named(curve.optimizer),
        x=[point and point.batch_size * aside for point in points],
        y=[point and point.value.mean for point in points],
        mode="lines+markers",
        line={"color": color, "width": 2, "dash": style.dash(curve.optimizer)},
        marker={
            "size": 9, "color": color, "line": {"width": 2, "color": color},
            "symbol": [
                style.symbol(curve.optimizer, confirmed=point is None or point.value.phase == "confirm")
                for point in points
            ],
        },
        error_y=whiskers([point and point.value.error for point in points]),
        hovertext=[point and _hover(curve.optimizer, point, info) for point in points],
        hoverinfo="text",
    )  # fmt: skip


def _hover(optimizer: str, point: BatchPoint, info: BatchCurves) -> str:
    value, digits = point.value, info.measure.digits
    spread = "" if value.error is None else f" ± {fixed(value.error, digits)}"
    sure = "fresh seeds, on test" if value.phase == "confirm" else "search value, not confirmed"
    lines = [
        f"<b>{named(optimizer)}</b>, batch {point.batch_size:,}",
        escape(f"{fixed(value.mean, digits)}{spread} {info.measure.unit}".strip() + f", n = {value.n}"),
        sure,
    ]
    caveats = escape(", ".join(dict.fromkeys(point.caveats)))
    return "<br>".join([*lines, *([caveats] if caveats else [])])


def _paper(curve: BatchCurve) -> go.Scatter:
    color = style.color(curve.optimizer)
    return go.Scatter(
        x=[value.batch_size for value in curve.paper],
        y=[value.mean for value in curve.paper],
        mode="lines+markers",
        opacity=0.5,
        showlegend=False,
        line={"color": color, "width": 1.5, "dash": PAPER_DASH},
        marker={"size": 6, "color": color, "symbol": style.symbol(curve.optimizer, confirmed=True)},
        hovertext=[
            f"paper, Table {value.table}: {named(curve.optimizer)}, batch {escape(value.batch)}<br>{value.text}, "
            f"{value.epochs} epochs, 3 runs"
            for value in curve.paper
        ],
        hoverinfo="text",
    )


def _paper_key() -> go.Scatter:
    """Returns a trace without points, for the legend."""
    line = {"color": style.ZERO, "width": 1.5, "dash": PAPER_DASH}
    return go.Scatter(
        x=[None], y=[None], mode="lines+markers", name="paper", line=line, marker={"size": 6}, opacity=0.7
    )


def _sizes(info: BatchCurves) -> list[int]:
    ours = {point.batch_size for curve in info.curves for point in curve.points}
    paper = {value.batch_size for curve in info.curves for value in curve.paper if value.batch_size is not None}
    return sorted(ours | paper)


def _ticks(sizes: Sequence[int]) -> list[str]:
    """Returns the sizes as the paper writes them, "10k", where all of them can be; else in full."""
    if any(size >= 1_000 and size % 1_000 for size in sizes):
        return [f"{size:,}" for size in sizes]
    return [
        f"{size // 1_000_000}M" if size % 1_000_000 == 0 else f"{size // 1_000}k" if size >= 1_000 else str(size)
        for size in sizes
    ]
