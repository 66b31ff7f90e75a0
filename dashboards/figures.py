"""Numbers to Plotly figures; the only file that knows Plotly. Text is escaped here, as Plotly reads tags in it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dashboards import style
from dashboards.numbers import BatchSizeInfo, BatchSizeLine, Curve, CurveInfo, DifferenceInfo, GridInfo, GridPanel
from lawn_tune.words import fixed, hyperparameter, method, signed

LEGEND = {"orientation": "h", "yanchor": "top", "y": -0.22, "xanchor": "left", "x": 0, "title": {"text": ""}}


def plain(figure: go.Figure) -> dict[str, Any]:
    """Returns a figure as JSON values, without its template."""
    values: dict[str, Any] = json.loads(figure.to_json())
    values["layout"].pop("template", None)
    return values


def plotly_js() -> str:
    """Returns the text of plotly.js as the installed package carries it."""
    return str(get_plotlyjs())


# --- metric against batch size ---------------------------------------------------------------------------------------


def batch_size_figure(info: BatchSizeInfo) -> go.Figure:
    """Draws the metric against the batch size on a log axis, with ± one standard error; open markers: unconfirmed."""
    sizes = sorted({size for line in info.lines for size in line.batch_sizes})
    figure = _figure(height=420)
    for i, line in enumerate(info.lines):
        figure.add_trace(_batch_size_trace(info, line, _dodge(sizes, i, len(info.lines))))
    ticks = {"tickvals": sizes, "ticktext": [f"{size:,}" for size in sizes], "minor": {"ticks": ""}}
    figure.update_xaxes(type="log", title_text="Batch size (examples per step, log scale)", **ticks)
    figure.update_yaxes(title_text=_with_unit(f"Test {info.metric}", info.unit))
    return figure


def _batch_size_trace(info: BatchSizeInfo, line: BatchSizeLine, dodge: float) -> go.Scatter:
    confirmed = [phase == "confirm" for phase in line.phases]
    texts = []
    for size, mean, error, n, sure in zip(
        line.batch_sizes, line.means, line.errors, line.counts, confirmed, strict=True
    ):
        spread = "" if error is None else f" ± {fixed(error, info.digits)}"
        value = f"{fixed(mean, info.digits)}{spread} {info.unit}, n = {n}"
        source = "confirmed on test" if sure else "search value, not confirmed"
        texts.append(f"<b>{_name(line.optimizer)}</b>, batch {size:,}<br>{escape(value)}<br>{source}")
    colour = style.colour(line.optimizer)
    return go.Scatter(
        name=_name(line.optimizer),
        x=[size * dodge for size in line.batch_sizes],
        y=line.means,
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": style.dash(line.optimizer)},
        marker={
            "size": 9,
            "color": colour,
            "line": {"width": 2, "color": colour},
            "symbol": [style.symbol(line.optimizer, confirmed=sure) for sure in confirmed],
        },
        error_y={"array": [error or 0 for error in line.errors], "thickness": 1.5, "width": 4},
        hovertext=texts,
        hoverinfo="text",
    )


def _dodge(sizes: Sequence[int], i: int, n: int) -> float:
    """Returns the factor that moves line i of n a little sideways, so that error bars do not hide each other."""
    decades = math.log10(max(sizes) / min(sizes)) if len(sizes) > 1 else 1.0
    return float(10 ** (0.012 * decades * (i - (n - 1) / 2)))


# --- paired differences ----------------------------------------------------------------------------------------------


def difference_figure(info: DifferenceInfo) -> go.Figure:
    """Draws LAWN − WD with its 95 % interval for each pair; zero is where nothing can be told."""
    figure = _figure(height=110 + 46 * max(1, len(info.bars)), legend=False)
    for bar in info.bars:
        low, high = bar.low if bar.low is not None else bar.mean, bar.high if bar.high is not None else bar.mean
        colour = style.colour(bar.lawn)
        figure.add_trace(
            go.Scatter(
                x=[bar.mean],
                y=[_two_lines(bar.label)],
                mode="markers",
                marker={"size": 10, "color": colour, "symbol": "circle" if bar.low is not None else "circle-open"},
                error_x={"array": [high - bar.mean], "arrayminus": [bar.mean - low], "thickness": 2.5, "width": 6},
                hovertext=[_wrapped(f"{signed(bar.mean, info.digits)}. {bar.sentence}")],
                hoverinfo="text",
                showlegend=False,
            )
        )
    figure.add_vline(x=0, line={"width": 1.5, "color": style.ZERO})
    figure.update_xaxes(title_text="LAWN − WD (points)", rangemode="tozero")
    below = len(info.bars) - 0.5
    figure.update_yaxes(range=[max(below, 0.5), -0.5], type="category", title_text=None, showgrid=False)
    return figure


def _two_lines(label: str) -> str:
    first, _, second = label.partition(", ")
    return f"{escape(first)}<br>{escape(second)}"


def _wrapped(text: str, width: int = 60) -> str:
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{word} "
    return "<br>".join(escape(line.strip()) for line in lines)


# --- grid ------------------------------------------------------------------------------------------------------------

_ROW, _GAP, _TOP, _BOTTOM = 30, 30, 78, 52
"""Pixels: a row of a heat map, the space between panels, and the margins."""

_SIGNS = {"diverged": "×", "failed": "!", "running": "…", "missing": "·"}


def grid_figure(info: GridInfo) -> go.Figure:
    """Draws one cell's grid, panels one below the other; the winner is framed, by dashes where it is on an edge."""
    rows, panels = len(info.y_levels), len(info.panels)
    inside = panels * rows * _ROW + (panels - 1) * _GAP
    figure = _figure(height=inside + _TOP + _BOTTOM, legend=False)
    for i, panel in enumerate(info.panels):
        top = 1 - i * (rows * _ROW + _GAP) / inside
        _add_panel(figure, info, panel, i, (max(0.0, top - rows * _ROW / inside), top))
    figure.update_layout(
        title=_grid_title(info),
        margin={"t": _TOP, "b": _BOTTOM, "l": 64, "r": 8},
    )
    return figure


def _grid_title(info: GridInfo) -> dict[str, Any]:
    edge = f"winner on the edge in {', '.join(info.edges)}" if info.edges else ""
    return {
        "text": f"<b>{_name(info.optimizer)}, batch {info.batch_size:,}</b>",
        "subtitle": {"text": escape(edge), "font": {"size": 12}},
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
    x_title = hyperparameter(info.x) if last else None
    figure.layout[f"xaxis{suffix}"] = axis | {
        "anchor": f"y{suffix}", "showticklabels": last, "title": {"text": x_title}, "range": [-0.5, len(x) - 0.5]
    }  # fmt: skip
    figure.layout[f"yaxis{suffix}"] = axis | {
        "anchor": f"x{suffix}",
        "domain": domain,
        "title": {"text": hyperparameter(info.y) if i == len(info.panels) // 2 else None},
        "range": [-0.5, len(y) - 0.5],
    }
    figure.add_annotation(
        text=escape(panel.label), xref="paper", yref="paper", x=0, y=domain[1], yanchor="bottom", xanchor="left",
        showarrow=False, font={"size": 12},
    )  # fmt: skip
    if info.winner is not None and info.winner.panel == i:
        _frame(figure, info, suffix)


def _heat(info: GridInfo, panel: GridPanel, x: list[str], y: list[str], suffix: str) -> go.Heatmap:
    texts = [["" if v is None else fixed(v, min(1, info.digits)) for v in row] for row in panel.values]
    return go.Heatmap(
        x=x,
        y=y,
        z=panel.values,
        text=texts,
        texttemplate="%{text}",
        hovertext=[
            [_grid_hover(info, panel, r, c) for c in range(len(info.x_levels))] for r in range(len(info.y_levels))
        ],
        hoverinfo="text",
        zmin=info.low,
        zmax=max(info.high, info.low + 1e-9),
        colorscale=style.SCALE if info.direction == "maximize" else style.SCALE[::-1],
        textfont={"color": style.ON_SCALE},
        showscale=False,
        xgap=2,
        ygap=2,
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
        mode="text",
        textfont={"size": 17},
        hovertext=[_grid_hover(info, panel, r, c) for r, c in places],
        hoverinfo="text",
        showlegend=False,
        xaxis=f"x{suffix}",
        yaxis=f"y{suffix}",
    )


def _grid_hover(info: GridInfo, panel: GridPanel, row: int, column: int) -> str:
    value = panel.values[row][column]
    shown = panel.statuses[row][column] if value is None else f"{fixed(value, info.digits)} {info.unit}"
    place = f"{info.x} {info.x_levels[column]:g}, {info.y} {info.y_levels[row]:g}"
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


# --- learning curves -------------------------------------------------------------------------------------------------


def curve_figure(info: CurveInfo) -> go.Figure:
    """Draws the winners' metric with the range of its runs, and the median margin below; diamonds mark the switch."""
    figure = _figure(height=470)
    for curve in info.curves:
        figure.add_trace(_band(curve))
        figure.add_trace(_line(info, curve, curve.metric, "y", info.unit, legend=True))
        figure.add_trace(_line(info, curve, curve.margin, "y2", "", legend=False))
        if curve.switch is not None and 0 < curve.switch < curve.epochs[-1]:
            figure.add_traces([_switch(curve, curve.metric, "y"), _switch(curve, curve.margin, "y2")])
    figure.update_layout(
        title_text=f"<b>Batch {info.batch_size:,}</b>",
        hovermode="x unified",
        xaxis={"title": {"text": "Epoch"}, "anchor": "y2", "hoverformat": "d", "range": [0, 1.01 * _last(info)]},
        yaxis={
            "title": {"text": _with_unit(_capital(info.metric), info.unit)},
            "domain": [0.4, 1],
            "range": _focus(info),
        },
        yaxis2={"title": {"text": "Median margin (logits)"}, "domain": [0, 0.33], "anchor": "x", "rangemode": "tozero"},
    )
    return figure


def _last(info: CurveInfo) -> int:
    return max((epoch for curve in info.curves for epoch in curve.epochs), default=1)


def _band(curve: Curve) -> go.Scatter:
    known = [
        (epoch, low, high)
        for epoch, low, high in zip(curve.epochs, curve.least, curve.greatest, strict=True)
        if low is not None and high is not None
    ]
    return go.Scatter(
        x=[epoch for epoch, _, _ in known] + [epoch for epoch, _, _ in reversed(known)],
        y=[high for _, _, high in known] + [low for _, low, _ in reversed(known)],
        fill="toself",
        fillcolor=style.faint(curve.optimizer),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=curve.optimizer,
    )


def _line(
    info: CurveInfo, curve: Curve, values: Sequence[float | None], yaxis: str, unit: str, *, legend: bool
) -> go.Scatter:
    kind = f"n = {curve.n}" if curve.phase == "confirm" else f"search, n = {curve.n}"
    return go.Scatter(
        name=f"{_name(curve.optimizer)} ({kind})",
        x=curve.epochs,
        y=values,
        yaxis=yaxis,
        mode="lines",
        line={"color": style.colour(curve.optimizer), "width": 1.8, "dash": style.dash(curve.optimizer)},
        hovertemplate=f"%{{y:.{info.digits}f}} {escape(unit)}",
        showlegend=legend,
        legendgroup=curve.optimizer,
    )


def _switch(curve: Curve, values: Sequence[float | None], yaxis: str) -> go.Scatter:
    """Returns the diamond at the last epoch of the free phase."""
    at = max((i for i, epoch in enumerate(curve.epochs) if epoch <= (curve.switch or 0)), default=0)
    return go.Scatter(
        x=[curve.epochs[at]],
        y=[values[at]],
        yaxis=yaxis,
        mode="markers",
        marker={"symbol": "diamond", "size": 10, "color": style.colour(curve.optimizer), "line": {"width": 1}},
        name=f"{_name(curve.optimizer)} constrained from epoch {curve.switch:g}",
        hovertemplate=" ",
        showlegend=False,
        legendgroup=curve.optimizer,
    )


def _focus(info: CurveInfo) -> list[float] | None:
    """Returns a range that shows the last nine tenths of training; the steep start can be zoomed out to."""
    late = [
        value
        for curve in info.curves
        for low, high in zip(curve.least, curve.greatest, strict=True)
        for value in (low, high)
        if value is not None
    ]
    start = [
        value
        for curve in info.curves
        for epoch, value in zip(curve.epochs, curve.least, strict=True)
        if value is not None and epoch >= 0.1 * curve.epochs[-1]
    ]
    if not late or not start or min(start) == max(late):
        return None
    pad = 0.05 * (max(late) - min(start))
    return [min(start) - pad, max(late) + pad]


# --- shared ----------------------------------------------------------------------------------------------------------


def _figure(*, height: int, legend: bool = True) -> go.Figure:
    return go.Figure(layout={"template": style.template("light"), "height": height, "showlegend": legend} | {
        "legend": LEGEND
    })  # fmt: skip


def _name(optimizer: str) -> str:
    return escape(method(optimizer))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _with_unit(name: str, unit: str) -> str:
    return escape(f"{name} ({unit})" if unit else name)
