"""A cell's grid as heat maps."""

from __future__ import annotations

from html import escape
from typing import Any

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import blank, capital, named
from dashboards.figures.panels import labelled
from dashboards.numbers import GridInfo, GridPanel
from lawn_tune.words import fixed, hyperparameter

_ROW, _DENSE_ROW, _GAP, _TOP, _BOTTOM = 30, 14, 30, 78, 52
"""Pixels: a row of a heat map, one without values, the space between panels, and the margins."""

MOST_WRITTEN = 14
"""Columns of a heat map whose values are written into it."""

_SIGNS = {"diverged": "×", "failed": "!", "running": "…", "missing": "·"}


def grid_figure(info: GridInfo) -> go.Figure:
    """Draws one cell's grid, panels one below the other; the winner is framed, by dashes where it is on an edge."""
    height, panels = len(info.y_levels) * _row(info), len(info.panels)
    inside = panels * height + (panels - 1) * _GAP
    figure = blank(height=inside + _TOP + _BOTTOM, legend=False)
    for i, panel in enumerate(info.panels):
        top = 1 - i * (height + _GAP) / inside
        _add_panel(figure, info, panel, i, (max(0.0, top - height / inside), top))
    figure.update_layout(
        title=_grid_title(info),
        margin={"t": _TOP, "b": _BOTTOM, "l": _left(info), "r": 8},
    )
    return figure


def _left(info: GridInfo) -> int:
    """Returns the pixels that the labels of the rows and their title need."""
    return 38 + 8 * max(len(f"{level:g}") for level in info.y_levels)


def _row(info: GridInfo) -> int:
    return _ROW if _written(info) else _DENSE_ROW


def _written(info: GridInfo) -> bool:
    """True where columns are wide enough to hold their values; else only hovering tells them."""
    return len(info.x_levels) <= MOST_WRITTEN


def _grid_title(info: GridInfo) -> dict[str, Any]:
    said = [f"winner on the edge in {', '.join(info.edges)}"] if info.edges else []
    if info.hidden:
        shown = len(info.panels) * len(info.x_levels) * len(info.y_levels)
        said.append(f"{shown:,} of {shown + info.hidden:,} points, around the best")
    return {
        "text": f"<b>{named(info.optimizer)}, batch {info.batch_size:,}</b>",
        "subtitle": {"text": escape("; ".join(said)), "font": {"size": 12}},
        "y": 1,
        "yanchor": "top",
        "pad": {"t": 6},
    }


def _add_panel(figure: go.Figure, info: GridInfo, panel: GridPanel, i: int, domain: tuple[float, float]) -> None:
    suffix = "" if i == 0 else str(i + 1)
    x, y = [f"{level:g}" for level in info.x_levels], [f"{level:g}" for level in info.y_levels]
    last = i == len(info.panels) - 1
    figure.add_trace(_heat(info, panel, x, y, suffix))
    figure.add_trace(_signs(info, panel, x, y, suffix))
    axis = {"type": "category", "showgrid": False, "showline": False, "ticks": "", "zeroline": False}
    x_title = capital(hyperparameter(info.x)) if last else None
    figure.layout[f"xaxis{suffix}"] = axis | {
        "anchor": f"y{suffix}", "showticklabels": last, "tickvals": [x[i] for i in labelled(x)],
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


def _heat(info: GridInfo, panel: GridPanel, x: list[str], y: list[str], suffix: str) -> go.Heatmap:
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


def _signs(info: GridInfo, panel: GridPanel, x: list[str], y: list[str], suffix: str) -> go.Scatter:
    """Returns signs on the points without a value: × diverged, ! failed, … running, · missing."""
    places = [(r, c) for r in range(len(y)) for c in range(len(x)) if panel.values[r][c] is None]
    return go.Scatter(
        x=[x[c] for _, c in places],
        y=[y[r] for r, _ in places],
        text=[_SIGNS.get(panel.statuses[r][c], "?") for r, c in places],
        customdata=[" ".join(panel.keys[r][c]) for r, c in places],
        mode="text",
        textfont={"size": 17},
        hovertext=[_grid_hover(info, panel, r, c) for r, c in places],
        hoverinfo="text",
        showlegend=False,
        xaxis=f"x{suffix}",
        yaxis=f"y{suffix}",
    )


def _heat_hover(info: GridInfo, panel: GridPanel) -> str:
    value = f"{escape(info.value)}: %{{z:.{info.digits}f}} {escape(info.unit)}"
    place = f"{hyperparameter(info.x)} %{{x}}, {hyperparameter(info.y)} %{{y}}"
    return "<br>".join(text for text in (value, place, escape(panel.label)) if text) + "<extra></extra>"


def _grid_hover(info: GridInfo, panel: GridPanel, row: int, column: int) -> str:
    value = panel.values[row][column]
    shown = panel.statuses[row][column] if value is None else f"{fixed(value, info.digits)} {info.unit}"
    place = f"{hyperparameter(info.x)} {info.x_levels[column]:g}, {hyperparameter(info.y)} {info.y_levels[row]:g}"
    return "<br>".join(escape(text) for text in (f"{info.value}: {shown}", place, panel.label) if text)


def _frame(figure: go.Figure, info: GridInfo, suffix: str) -> None:
    place = info.winner
    if place is None:
        return
    figure.add_shape(
        type="rect", xref=f"x{suffix}", yref=f"y{suffix}",
        x0=place.column - 0.48, x1=place.column + 0.48, y0=place.row - 0.46, y1=place.row + 0.46,
        line={"width": 3, "color": style.FRAME, "dash": "4px,3px" if info.edges else "solid"},
    )  # fmt: skip
