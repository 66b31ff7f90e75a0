"""What every figure starts from, and the texts in it, escaped: Plotly reads tags in texts."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import plotly.graph_objects as go

from dashboards import style
from lawn_tune.cells import Cell
from lawn_tune.words import method, metric_name

LEGEND = {"orientation": "h", "yanchor": "top", "y": -0.22, "xanchor": "left", "x": 0, "title": {"text": ""}}

UNDER = {"yref": "container", "yanchor": "bottom", "y": 0}
"""A legend at the bottom edge, growing upwards: it meets no axis title when a narrow screen breaks it into rows."""


def under(names: int) -> dict[str, Any]:
    """Returns the layout of a figure with `names` in a legend below its axis title, two in a row as on a phone."""
    return {"legend": UNDER, "margin": {"t": 12, "b": 58 + 21 * -(-names // 2)}}


def plain(figure: go.Figure) -> dict[str, Any]:
    """Returns a figure as JSON values, without its template."""
    values: dict[str, Any] = json.loads(figure.to_json())
    values["layout"].pop("template", None)
    return values


def plotly_file() -> Traversable:
    """Returns the file of plotly.js with its Cartesian traces, a third of the whole, which also draws maps and solids.

    It is the npm package plotly.js-cartesian-dist-min of the version in its name, that of the installed Plotly.
    """
    (found,) = (
        path for path in (files("dashboards") / "assets").iterdir() if path.name.startswith("plotly-cartesian-")
    )
    return found


def plotly_js() -> str:
    """Returns the text of `plotly_file`."""
    return plotly_file().read_text(encoding="utf-8")


def blank(*, height: int, legend: bool = True) -> go.Figure:
    """Returns a figure in the style of the house, without traces; `height` in pixels."""
    return go.Figure(layout={"template": style.template("light"), "height": height, "showlegend": legend} | {
        "legend": LEGEND
    })  # fmt: skip


def named(optimizer: str) -> str:
    """Returns a method's name, escaped, in lines that a legend has room for on a phone."""
    return wrapped(method(optimizer), 36)


def wrapped(text: str, width: int = 56) -> str:
    """Returns the text in lines of at most `width` letters where words allow it, escaped."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{word} "
    return "<br>".join(escape(line.strip()) for line in lines if line.strip())


def cut(text: str, most: int = 20) -> str:
    """Returns a text, or its beginning where it is longer than `most` letters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def selecting(cell: Cell) -> str:
    """Returns the value by which a cell's winner is selected: "validation accuracy"."""
    return f"{cell.protocol.selection} {metric_name(cell.protocol.metric)}"


def capital(text: str) -> str:
    """Returns the text with a capital first letter."""
    return text[:1].upper() + text[1:]


def with_unit(name: str, unit: str) -> str:
    """Returns an axis title "HR@10 (%)", escaped."""
    return escape(f"{name} ({unit})" if unit else name)
