"""A cell's grid as heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import product
from typing import Any, NamedTuple

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank, capital, named, selecting
from dashboards.figures.panels import axis as axis_number
from dashboards.figures.panels import better_part, labeled
from lawn_tune.cells import Cell
from lawn_tune.comparison.comparison import CellResult, Comparison
from lawn_tune.planning.selection import Point, PointStatus
from lawn_tune.words import fixed, hyperparameter, metric_of, setting
from search_spaces.levels import split
from search_spaces.levels import text as level_text
from trainables.catalogue.rows import Direction


class HeatMapPanel(NamedTuple):
    """One heat map: rows are y levels, columns x levels; a value is None where the point is not complete.

    `keys` are those of each point's search trials.
    """

    label: str
    values: tuple[tuple[float | None, ...], ...]
    statuses: tuple[tuple[PointStatus, ...], ...]
    keys: tuple[tuple[tuple[str, ...], ...], ...]


class HeatMapPlace(NamedTuple):
    """A point's place: panel, row and column."""

    panel: int
    row: int
    column: int


class HeatMapInfo(NamedTuple):
    """One cell's grid, as panels of y (a hyperparameter of the control) against x (`peak_lr`); y may be "".

    `low` and `high` bound the colors of all cells of a batch size, so that they compare; `edges` are the winner's
    hyperparameters on the border of the grid; `hidden` points are not shown.
    """

    optimizer: str
    batch_size: int
    value: str
    unit: str
    digits: int
    direction: Direction
    x: str
    x_levels: tuple[float, ...]
    y: str
    y_levels: tuple[float, ...]
    panels: tuple[HeatMapPanel, ...]
    winner: HeatMapPlace | None
    edges: tuple[str, ...]
    low: float
    high: float
    hidden: int = 0

    @property
    def shown(self) -> int:
        """Number of points."""
        return len(self.panels) * len(self.x_levels) * len(self.y_levels)


NO_LEVELS = (0.0,)
"""On y for a grid of a single hyperparameter: one row."""

Axes = tuple[str, str]
"""Names of the hyperparameters on x and y."""


def heat_map_info(comparison: Comparison, result: CellResult, axes: Axes | None = None) -> HeatMapInfo:
    """Returns the heat map of one cell of a comparison; `axes` are two of its hyperparameters, else the usual ones."""
    low, high = _color_range(comparison, result.cell.name.batch_size)
    return _heat_map_info(result, low, high, axes or usual_axes(result.cell))


def heat_map_infos(comparison: Comparison) -> tuple[HeatMapInfo, ...]:
    """Returns one heat map per cell whose points are a product, by batch size and then method."""
    return tuple(
        _heat_map_info(result, *_color_range(comparison, size), usual_axes(result.cell))
        for size in comparison.batch_sizes
        for optimizer in comparison.optimizers
        if (result := comparison.cell(optimizer, size)) is not None and is_map(result.cell)
    )


def is_map(cell: Cell) -> bool:
    """True if a cell's points are all those of a product."""
    return not cell.grid.points


def _color_range(comparison: Comparison, batch_size: int) -> tuple[float, float]:
    """Returns the ends of the color scale: the better three quarters of all points; bad ones do not dominate."""
    values = [
        point.value
        for result in comparison.cells
        if result.cell.name.batch_size == batch_size
        for point in result.points
        if point.value is not None
    ]
    return better_part(values, comparison.protocol.direction)


def _heat_map_info(result: CellResult, low: float, high: float, axes: Axes) -> HeatMapInfo:
    cell, levels = result.cell, _in_order(result.cell)
    metric = metric_of(cell.protocol.metric)
    x, y = axes
    others = [name for name in levels if name not in (x, y)]
    combinations = list(product(*(levels[name] for name in others)))
    by_place = {tuple(point.hyperparameters.values()): point for point in result.points}
    panels = tuple(_panel(dict(zip(others, values, strict=True)), levels, x, y, by_place) for values in combinations)
    return HeatMapInfo(
        optimizer=cell.name.optimizer,
        batch_size=cell.name.batch_size,
        value=selecting(cell),
        unit=metric.unit,
        digits=metric.digits,
        direction=cell.protocol.direction,
        x=x,
        x_levels=levels[x],
        y=y,
        y_levels=levels.get(y, NO_LEVELS),
        panels=panels,
        winner=_place(result, levels, axes, combinations),
        edges=result.winner.edges if result.winner else (),
        low=low,
        high=high,
    )


def _in_order(cell: Cell) -> dict[str, tuple[float, ...]]:
    """Returns the levels of each hyperparameter from low to high, words last: those that `--extend` adds come last."""
    parts = {name: split(levels) for name, levels in cell.grid.values.items()}
    return {name: (*sorted(numbers), *words) for name, (numbers, words) in parts.items()}


def usual_axes(cell: Cell) -> Axes:
    """Returns the names on x and y: learning rate, and the hyperparameter of the control, which rivals do not share."""
    grid = list(cell.grid.values)
    x = "peak_lr" if "peak_lr" in grid else grid[0]
    roles = [*cell.method.names("control"), *cell.method.names("loss"), *cell.method.names("rule"), "warmup_epochs"]
    return x, next((name for name in (*roles, *grid) if name in grid and name != x), "")


def _panel(
    fixed: Mapping[str, float],
    levels: Mapping[str, Sequence[float]],
    x: str,
    y: str,
    by_place: Mapping[tuple[float, ...], Point],
) -> HeatMapPanel:
    def at(row: float, column: float) -> Point:
        chosen = {**fixed, x: column, y: row}
        return by_place[tuple(chosen[name] for name in levels)]

    rows = [[at(row, column) for column in levels[x]] for row in levels.get(y, NO_LEVELS)]
    return HeatMapPanel(
        label=", ".join(f"{hyperparameter(name)} {level_text(value)}" for name, value in fixed.items()),
        values=tuple(tuple(point.value for point in row) for row in rows),
        statuses=tuple(tuple(point.status for point in row) for row in rows),
        keys=tuple(tuple(point.keys for point in row) for row in rows),
    )


def _place(
    result: CellResult, levels: Mapping[str, Sequence[float]], axes: Axes, combinations: Sequence[tuple[float, ...]]
) -> HeatMapPlace | None:
    if result.winner is None:
        return None
    (x, y), chosen = axes, result.winner.hyperparameters
    panel = combinations.index(tuple(chosen[name] for name in levels if name not in axes))
    return HeatMapPlace(panel, levels[y].index(chosen[y]) if y else 0, levels[x].index(chosen[x]))


# --- drawing ----------------------------------------------------------------------------------------------------------


_ROW, _DENSE_ROW, _GAP, _TOP, _BOTTOM = 30, 14, 30, 78, 52
"""Pixels: a row of a heat map, one without values, the space between panels, and the margins."""

MAX_WRITTEN = 14
"""Columns of a heat map whose values are written into it."""

_SIGNS = {"diverged": "×", "failed": "!", "running": "…", "missing": "·"}


def heat_map_figure(info: HeatMapInfo) -> go.Figure:
    """Draws one cell's grid, panels one below the other; the winner is framed, by dashes where it is on an edge."""
    height, panels = len(info.y_levels) * _row(info), len(info.panels)
    inside = panels * height + (panels - 1) * _GAP
    figure = blank(height=inside + _TOP + _BOTTOM, legend=False)
    for i, panel in enumerate(info.panels):
        top = 1 - i * (height + _GAP) / inside
        _add_panel(figure, info, panel, i, (max(0.0, top - height / inside), top))
    figure.update_layout(
        title=_heat_map_title(info),
        margin={"t": _TOP, "b": _BOTTOM, "l": _left(info), "r": 8},
    )
    return figure


def _left(info: HeatMapInfo) -> int:
    """Returns the pixels that the labels of the rows and their title need."""
    return 38 + 8 * max(map(len, map(level_text, info.y_levels)))


def _row(info: HeatMapInfo) -> int:
    return _ROW if _written(info) else _DENSE_ROW


def _written(info: HeatMapInfo) -> bool:
    """True where columns are wide enough to hold their values; else they are shown on hover only."""
    return len(info.x_levels) <= MAX_WRITTEN


def _heat_map_title(info: HeatMapInfo) -> dict[str, Any]:
    notes = [f"winner on the edge in {', '.join(info.edges)}"] if info.edges else []
    if info.hidden:
        notes.append(f"{info.shown:,} of {info.shown + info.hidden:,} points, around the winner")
    return {
        "text": f"<b>{named(info.optimizer)}, batch {info.batch_size:,}</b>",
        "subtitle": {"text": escape("; ".join(notes)), "font": {"size": 12}},
        "y": 1,
        "yanchor": "top",
        "pad": {"t": 6},
    }


def _add_panel(figure: go.Figure, info: HeatMapInfo, panel: HeatMapPanel, i: int, domain: tuple[float, float]) -> None:
    suffix = axis_number(i)
    x, y = list(map(level_text, info.x_levels)), list(map(level_text, info.y_levels)) if info.y else [""]
    last = i == len(info.panels) - 1
    figure.add_trace(_heat(info, panel, x, y, suffix))
    figure.add_trace(_signs(info, panel, x, y, suffix))
    axis = {"type": "category", "showgrid": False, "showline": False, "ticks": "", "zeroline": False}
    x_title = capital(hyperparameter(info.x)) if last else None
    figure.layout[f"xaxis{suffix}"] = axis | {
        "anchor": f"y{suffix}", "showticklabels": last, "tickvals": [x[i] for i in labeled(x)],
        "title": {"text": x_title}, "range": [-0.5, len(x) - 0.5]
    }  # fmt: skip
    figure.layout[f"yaxis{suffix}"] = axis | {
        "anchor": f"x{suffix}",
        "domain": domain,
        "title": {"text": capital(hyperparameter(info.y)) if i == len(info.panels) // 2 else None},
        "range": [-0.5, len(y) - 0.5],
    }
    figure.add_annotation(
        text=escape(panel.label), xref="paper", yref="paper", x=0, y=domain[1], yanchor="bottom", xanchor="left",
        showarrow=False, font={"size": 12},
    )  # fmt: skip
    if info.winner is not None and info.winner.panel == i:
        _frame(figure, info, suffix)


def _heat(info: HeatMapInfo, panel: HeatMapPanel, x: list[str], y: list[str], suffix: str) -> go.Heatmap:
    return go.Heatmap(
        x=x,
        y=y,
        z=panel.values,
        texttemplate=f"%{{z:.{min(1, info.digits)}f}}" if _written(info) else None,
        customdata=[[" ".join(keys) for keys in row] for row in panel.keys],
        hovertemplate=_heat_hover(info, panel),
        hoverongaps=False,
        zmin=info.low,
        zmax=max(info.high, info.low + 1e-9),
        reversescale=info.direction == "minimize",
        showscale=False,
        xgap=2 if _written(info) else 1,
        ygap=2 if _written(info) else 1,
        xaxis=f"x{suffix}",
        yaxis=f"y{suffix}",
    )


def _signs(info: HeatMapInfo, panel: HeatMapPanel, x: list[str], y: list[str], suffix: str) -> go.Scatter:
    """Returns signs on the points without a value: × diverged, ! failed, … running, · missing."""
    places = [(r, c) for r in range(len(y)) for c in range(len(x)) if panel.values[r][c] is None]
    return go.Scatter(
        x=[x[c] for _, c in places],
        y=[y[r] for r, _ in places],
        text=[_SIGNS.get(panel.statuses[r][c], "?") for r, c in places],
        customdata=[" ".join(panel.keys[r][c]) for r, c in places],
        mode="text",
        textfont={"size": 17},
        hovertext=[_heat_map_hover(info, panel, r, c) for r, c in places],
        hoverinfo="text",
        showlegend=False,
        xaxis=f"x{suffix}",
        yaxis=f"y{suffix}",
    )


def _heat_hover(info: HeatMapInfo, panel: HeatMapPanel) -> str:
    value = f"{escape(info.value)}: %{{z:.{info.digits}f}} {escape(info.unit)}"
    place = f"{hyperparameter(info.x)} %{{x}}" + (f", {hyperparameter(info.y)} %{{y}}" if info.y else "")
    return "<br>".join(text for text in (value, place, escape(panel.label)) if text) + "<extra></extra>"


def _heat_map_hover(info: HeatMapInfo, panel: HeatMapPanel, row: int, column: int) -> str:
    value = panel.values[row][column]
    shown = panel.statuses[row][column] if value is None else f"{fixed(value, info.digits)} {info.unit}"
    place = place_text(info, row, column)
    return "<br>".join(escape(text) for text in (f"{info.value}: {shown}", place, panel.label) if text)


def place_text(info: HeatMapInfo, row: int, column: int) -> str:
    """Returns the hyperparameters of a place on the axes: "peak learning rate 0.01, free epochs 5"."""
    found = {info.x: info.x_levels[column]} | ({info.y: info.y_levels[row]} if info.y else {})
    return setting({hyperparameter(name): level for name, level in found.items()})


def _frame(figure: go.Figure, info: HeatMapInfo, suffix: str) -> None:
    place = info.winner
    if place is None:
        return
    figure.add_shape(
        type="rect", xref=f"x{suffix}", yref=f"y{suffix}",
        x0=place.column - 0.48, x1=place.column + 0.48, y0=place.row - 0.46, y1=place.row + 0.46,
        line={"width": 3, "color": style.FRAME, "dash": "4px,3px" if info.edges else "solid"},
    )  # fmt: skip
