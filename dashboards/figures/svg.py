"""A figure as SVG, drawn without a browser: lines, bands, points and intervals. Equal figures give equal bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape, unescape
from typing import Any, NamedTuple

import plotly.graph_objects as go

from dashboards import style
from dashboards.figures.base import plain
from dashboards.figures.panels import round_ticks
from lawn_tune.words import fixed

WIDTH = 440
"""Pixels of a figure, so few that its letters stay readable where a phone shrinks it to its screen."""

_RIGHT, _BOTTOM, _TITLED, _ROW = 16, 52, 62, 22
"""Pixels beside and below the panels, left of an axis with numbers and a title, and of a row of the legend."""

_LETTER, _LINE, _WIDE = 13, 16, 0.58
"""Pixels of a letter and of a line of text; width of a letter in parts of its size, on average and with some air."""

_DASHES = {"": "", "solid": "", "dot": "2 3", "6px,4px": "6 4"}
_SYMBOLS = {
    "circle": '<circle r="{r}"/>',
    "square": '<path d="M-{r}-{r}H{r}V{r}H-{r}Z"/>',
    "triangle-left": '<path d="M-{r} 0L{r}-{r}V{r}Z"/>',
    "triangle-right": '<path d="M{r} 0L-{r}-{r}V{r}Z"/>',
    "diamond": '<path d="M0-{r}L{r} 0 0 {r}-{r} 0Z"/>',
}
_TAGS = {
    "<b>": '<tspan font-weight="bold">',
    "</b>": "</tspan>",
    "<span style='font-size:11px'>": '<tspan font-size="11">',
    "</span>": "</tspan>",
}

_Values = Mapping[str, Any]
_TEMPLATE: _Values = style.template("light")["layout"]
_AXIS: _Values = _TEMPLATE["xaxis"]


class _Axis(NamedTuple):
    """An axis: where its ends are, in pixels and in values, of which those of a log axis are decades."""

    start: float
    end: float
    low: float
    high: float
    layout: _Values

    def at(self, value: float) -> float:
        """Returns the pixel of a value."""
        place = math.log10(value) if self.layout.get("type") == "log" else value
        return self.within((place - self.low) / (self.high - self.low))

    def within(self, share: float) -> float:
        """Returns the pixel of a share of the axis."""
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Values and texts along the axis."""
        if "tickvals" in self.layout:
            return list(zip(self.layout["tickvals"], self.layout["ticktext"], strict=True))
        most = max(3, int(abs(self.end - self.start) / 45))
        values = round_ticks(min(self.low, self.high), max(self.low, self.high), most)
        digits = max((len(f"{value:.10g}".partition(".")[2]) for value in values), default=0)
        return [(value, fixed(value, digits)) for value in values]


_Axes = Mapping[str, _Axis]
"""Plotly's name ("x", "y2") → axis."""


def svg(figure: go.Figure, alt: str) -> str:
    """Returns a figure on white, `WIDTH` wide, with its legend below it.

    Args:
        figure: scatter traces over one x axis, in one panel or in several.
        alt: what it shows, in words.

    Raises:
        KeyError, ValueError: it has a trace, symbol, dash or tag that this cannot draw.
    """
    found = plain(figure)
    layout, traces = found["layout"], found["data"]
    if odd := {trace["type"] for trace in traces} - {"scatter"}:
        raise ValueError(f"only scatter traces can be drawn as SVG, got {', '.join(sorted(odd))}")
    legend = _legend(traces) if layout.get("showlegend", True) else []
    height = layout["height"] + _ROW * len(legend)
    axes = _axes(layout, traces)
    parts = [
        *(part for name, axis in axes.items() if name != "x" for part in _panel(name, axis, axes["x"])),
        *_x_axis(axes["x"], layout["height"] - _BOTTOM),
        *(part for trace in traces for part in _trace(trace, axes)),
        *(part for shape in layout.get("shapes", ()) for part in _shape(shape, axes)),
        *(_note(note, axes) for note in layout.get("annotations", ())),
        *(part for i, row in enumerate(legend) for part in _legend_row(row, layout["height"] + _ROW * i)),
    ]
    if title := layout.get("title", {}).get("text"):
        parts.append(_text(title, axes["x"].start, 20))
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        f' role="img" font-family="{style.FONT}" font-size="{_LETTER}" fill="{_TEMPLATE["font"]["color"]}">'
    )
    return "\n".join((head, f"<title>{escape(alt)}</title>", ground, *parts, "</svg>")) + "\n"


# --- axes -------------------------------------------------------------------------------------------------------------


def _axes(layout: _Values, traces: Sequence[_Values]) -> dict[str, _Axis]:
    top, bottom = layout.get("margin", {}).get("t", 40 if "title" in layout else 16), layout["height"] - _BOTTOM
    found = {}
    for key in (key for key in layout if re.fullmatch(r"[xy]axis\d*", key)):
        name, own = key.replace("axis", ""), layout[key]
        low, high = own.get("range") or _range(name, own, traces)
        if name == "x":
            found[name] = _Axis(_left(layout), WIDTH - _RIGHT, low, high, own)
        else:
            first, last = own.get("domain", (0, 1))
            found[name] = _Axis(bottom - first * (bottom - top), bottom - last * (bottom - top), low, high, own)
    return found


def _left(layout: _Values) -> float:
    """Returns the pixels left of the panels: those that the longest label of an axis of texts needs."""
    labels = layout["yaxis"].get("ticktext")
    if labels is None:
        return _TITLED
    lines = [re.sub("<.*?>", "", line) for label in labels for line in label.split("<br>")]
    return 16 + _WIDE * _LETTER * max(len(unescape(line)) for line in lines)


def _range(name: str, axis: _Values, traces: Sequence[_Values]) -> tuple[float, float]:
    """Returns the ends of an axis around all that is drawn along it, with some air."""
    side = name[0]
    values = [
        value + sign * error
        for trace in traces
        if trace.get(f"{side}axis", side) == name
        for value, error in zip(trace[side], _errors(trace, side) or [0] * len(trace[side]), strict=True)
        for sign in (-1, 1)
        if value is not None
    ]
    low, high = min(values, default=0), max(values, default=1)
    air = 0.06 * (high - low) or 1
    return (0 if axis.get("rangemode") == "tozero" and low >= 0 else low - air), high + air


def _panel(name: str, axis: _Axis, x: _Axis) -> Iterator[str]:
    """Yields the clip of a panel, its grid, its y axis and that axis's texts."""
    box = f'x="{_px(x.start)}" y="{_px(axis.end)}" width="{_px(x.end - x.start)}" height="{_px(axis.start - axis.end)}"'
    yield f'<clipPath id="{name}"><rect {box}/></clipPath>'
    for value, text in axis.ticks:
        y, lines = axis.at(value), text.count("<br>")
        if axis.layout.get("showgrid", True):
            yield _path(f"M{_px(x.start)} {_px(y)}H{_px(x.end)}", _AXIS["gridcolor"])
        yield _text(text, x.start - 8, y + 4.5 - _LINE * lines / 2, "end")
    if title := axis.layout.get("title", {}).get("text"):
        place = f'transform="translate(15 {_px(axis.within(0.5))}) rotate(-90)"'
        yield f"<g {place}>{_text(title, 0, 0, 'middle')}</g>"
    yield _path(f"M{_px(x.start)} {_px(axis.end)}V{_px(axis.start)}H{_px(x.end)}", _AXIS["linecolor"])


def _x_axis(axis: _Axis, y: float) -> Iterator[str]:
    for value, text in axis.ticks:
        yield _path(f"M{_px(axis.at(value))} {_px(y)}v4", _AXIS["linecolor"])
        yield _text(text, axis.at(value), y + 18, "middle")
    yield _text(axis.layout["title"]["text"], axis.within(0.5), y + 38, "middle")


# --- what is drawn in a panel -----------------------------------------------------------------------------------------


def _trace(trace: _Values, axes: _Axes) -> Iterator[str]:
    x, y = axes[trace.get("xaxis", "x")], axes[trace.get("yaxis", "y")]
    points = [
        None if one is None or other is None else (x.at(one), y.at(other))
        for one, other in zip(trace["x"], trace["y"], strict=True)
    ]
    yield f'<g clip-path="url(#{trace.get("yaxis", "y")})" opacity="{trace.get("opacity", 1)}">'
    if trace.get("fill") == "toself":
        yield f'<path d="{_joined(points)}Z" fill="{trace["fillcolor"]}"/>'
    elif "lines" in trace["mode"]:
        line = trace["line"]
        yield _path(_joined(points), line["color"], line["width"], line["dash"])
    for side, axis in (("x", x), ("y", y)):
        yield from _whiskers(trace, side, axis, points)
    if "markers" in trace.get("mode", ""):
        yield from _markers(trace["marker"], points)
    yield "</g>"


_Points = Sequence[tuple[float, float] | None]


def _joined(points: _Points) -> str:
    """Returns the path through points, interrupted where one is None."""
    words, pen = [], "M"
    for point in points:
        words.append("" if point is None else f"{pen}{_px(point[0])} {_px(point[1])}")
        pen = "M" if point is None else "L"
    return "".join(words)


def _markers(marker: _Values, points: _Points) -> Iterator[str]:
    for i, point in enumerate(points):
        if point is None:
            continue
        color, symbol = (_each(marker[name], i) for name in ("color", "symbol"))
        shape = symbol.removesuffix("-open")
        look = f'fill="{color if shape == symbol else "#fff"}" stroke="{color}"'
        width = marker.get("line", {}).get("width", 0)
        drawn = _SYMBOLS[shape].format(r=_px(marker["size"] / 2))
        yield f'<g transform="translate({_px(point[0])} {_px(point[1])})" {look} stroke-width="{width}">{drawn}</g>'


def _each(value: Any, i: int) -> Any:
    return value[i] if isinstance(value, list) else value


def _errors(trace: _Values, side: str) -> list[float] | None:
    found: list[float] | None = (trace.get(f"error_{side}") or {}).get("array")
    return found


def _whiskers(trace: _Values, side: str, axis: _Axis, points: _Points) -> Iterator[str]:
    errors = _errors(trace, side)
    bars = trace.get(f"error_{side}") or {}
    for i, point in enumerate(points if errors else ()):
        if point is None or not errors:
            continue
        value = trace[side][i]
        low, high = (_px(axis.at(end)) for end in (value - bars.get("arrayminus", errors)[i], value + errors[i]))
        half = bars["width"]
        at = point[1] if side == "x" else point[0]
        ends = f"{_px(at - half)}", f"{_px(at + half)}"
        line = (
            f"M{low} {ends[0]}V{ends[1]}M{high} {ends[0]}V{ends[1]}M{low} {_px(at)}H{high}"
            if side == "x"
            else f"M{ends[0]} {low}H{ends[1]}M{ends[0]} {high}H{ends[1]}M{_px(at)} {low}V{high}"
        )
        yield _path(line, bars.get("color") or trace["marker"]["color"], bars["thickness"])


def _shape(shape: _Values, axes: _Axes) -> Iterator[str]:
    """Yields a straight line between two points."""
    x0, x1, y0, y1 = (_px(_placed(shape, side, end, axes)) for side in "xy" for end in (f"{side}0", f"{side}1"))
    line = shape["line"]
    path = _path(f"M{x0} {y0}L{x1} {y1}", line["color"], line["width"], line.get("dash", ""))
    yield f'<g opacity="{shape.get("opacity", 1)}">{path}</g>'


def _placed(item: _Values, side: str, key: str, axes: _Axes) -> float:
    """Returns the pixel of a value of an axis, or of a share of one: "paper", "x domain"."""
    name, _, share = item.get(f"{side}ref", side).partition(" ")
    if name == "paper":
        return axes[side].within(item[key])
    return axes[name].within(item[key]) if share else axes[name].at(item[key])


def _note(note: _Values, axes: _Axes) -> str:
    x, y = (_placed(note, side, side, axes) for side in "xy")
    size = note.get("font", {}).get("size", _LETTER)
    anchor = {"left": "start", "right": "end"}.get(note.get("xanchor", ""), "middle")
    down = {"bottom": -5.0, "top": size}.get(note.get("yanchor", ""), size / 3)
    text = _text(note["text"], x + note.get("xshift", 0), y + down, anchor)
    return f'<g font-size="{size}" opacity="{note.get("opacity", 1)}">{text}</g>'


# --- legend and texts -------------------------------------------------------------------------------------------------


def _legend(traces: Sequence[_Values]) -> list[list[tuple[float, _Values]]]:
    """Returns the rows of the legend: where each entry starts, and its trace."""
    rows: list[list[tuple[float, _Values]]] = []
    x = float(WIDTH)
    for trace in (trace for trace in traces if trace.get("showlegend", True)):
        width = 50 + _WIDE * _LETTER * len(unescape(trace["name"]))
        if x + width > WIDTH - _RIGHT:
            rows.append([])
            x = 12.0
        rows[-1].append((x, trace))
        x += width
    return rows


def _legend_row(row: Sequence[tuple[float, _Values]], y: float) -> Iterator[str]:
    for x, trace in row:
        line = trace["line"]
        yield _path(f"M{_px(x)} {_px(y + 6)}h26", line["color"], line["width"], line["dash"])
        if "marker" in trace:
            yield from _markers(trace["marker"], [(x + 13, y + 6)])
        yield _text(trace["name"].replace("<br>", " "), x + 32, y + 10.5)


def _text(text: str, x: float, y: float, anchor: str = "start") -> str:
    """Returns a text of one or more lines; letters are escaped already, since Plotly reads tags in texts."""
    lines = [re.sub("<.*?>", lambda tag: _TAGS[tag[0]], line) for line in text.split("<br>")]
    head, *more = lines
    rest = "".join(f'<tspan x="{_px(x)}" dy="{_LINE}">{line}</tspan>' for line in more)
    return f'<text x="{_px(x)}" y="{_px(y)}" text-anchor="{anchor}">{head}{rest}</text>'


def _path(path: str, color: str, width: float = 1, dash: str = "") -> str:
    dashes = f' stroke-dasharray="{_DASHES[dash]}"' if _DASHES[dash] else ""
    return f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{width:g}"{dashes}/>'


def _px(value: float) -> str:
    """Returns a number of pixels with one decimal at most."""
    return f"{value:.1f}".removesuffix(".0")
