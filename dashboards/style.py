"""How figures look: one color per pair of methods everywhere, solid for LAWN, dashed for its base; light and dark."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import Any, Literal, get_args

from lawn_tune.words import method
from trainables.catalogue import shown_method
from trainables.catalogue.rows import COLOR

Theme = Literal["light", "dark"]

HUES = (0.0, 0.07, -0.07, 0.13, -0.13, 0.2, -0.2, 0.27)
"""How far the hues of trials of one method lie from the method's own, in turns."""

SCALE: Mapping[Theme, tuple[tuple[float, str], ...]] = {
    "light": ((0.0, "#f1f3f6"), (0.5, "#bcd7ea"), (1.0, "#58a6d6")),
    "dark": ((0.0, "#232a33"), (0.5, "#264b67"), (1.0, "#2a74a8")),
}
"""For heat maps, worst to best: close enough to the page's color for one text color on it."""

ON_SCALE: Mapping[Theme, str] = {"light": "#12181f", "dark": "#f4f7fa"}
FRAME = "#d6245c"
"""Around a winner."""

RANKS = (FRAME, "#c17a00", "#6b76c8")
"""For groups of trials by rank, the best first; not shades of one color, which dark pages make equal."""

BACKED = "backed"
"""Name of the annotations with the page's color behind them, so that lines do not cross their letters."""

ZERO = "#8b939d"
"""The line of no difference."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

CONFIG: Mapping[str, Any] = {
    "displaylogo": False,
    "showSendToCloud": False,  # plotly.js 4 shows an upload button by default
    "displayModeBar": "hover",
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
}

_INK: Mapping[Theme, str] = {"light": "#1f2328", "dark": "#e6e8eb"}
_RULE: Mapping[Theme, str] = {"light": "#e3e6ea", "dark": "#30363f"}
_AXIS: Mapping[Theme, str] = {"light": "#8b939d", "dark": "#79828e"}
_PAGE: Mapping[Theme, str] = {"light": "#ffffff", "dark": "#15181d"}


def base_of(optimizer: str) -> str:
    """Returns the method that a method is compared with by default; one that is compared with none is its own."""
    row = shown_method(optimizer)
    return (row.baseline if row else "") or optimizer


def is_challenger(optimizer: str) -> bool:
    """True for a method that is compared with another by default: LAWN variants and rivals of weight decay."""
    return base_of(optimizer) != optimizer


def color(optimizer: str) -> str:
    """Returns a method's color; a LAWN variant shares it with its base."""
    row = shown_method(optimizer)
    return row.shown_color if row else COLOR


def shade(color: str, n: int) -> str:
    """Returns shade `n` of a color: another hue of equal luminance, to be seen on both pages; 0 is the color."""
    if n == 0:
        return color
    hue, _, saturation = colorsys.rgb_to_hls(*_channels(color))
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        turned = colorsys.hls_to_rgb((hue + HUES[n % len(HUES)]) % 1, middle, saturation)
        low, high = (middle, high) if _luminance(turned) < _luminance(_channels(color)) else (low, middle)
    return "#" + "".join(f"{round(255 * part):02x}" for part in turned)


RGB = tuple[float, float, float]


def _channels(color: str) -> RGB:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _luminance(color: RGB) -> float:
    """Returns the relative luminance of WCAG 2, from 0 to 1."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color)
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue)


def faint(optimizer: str) -> str:
    """Returns a method's color at a tenth of its strength, for bands."""
    red, green, blue = (int(color(optimizer)[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.12)"


def border(optimizer: str) -> str:
    """Returns the line's style as CSS names it, as in `dash`."""
    return "solid" if is_challenger(optimizer) else "dashed"


def look(optimizer: str) -> dict[str, str]:
    """Returns a method's name, its color and its line as CSS names it, for a legend."""
    return {"name": method(optimizer), "color": color(optimizer), "line": border(optimizer)}


def templates() -> dict[Theme, dict[str, Any]]:
    """Returns the template of each theme."""
    return {theme: template(theme) for theme in get_args(Theme)}


def dash(optimizer: str) -> str:
    """Returns the line's style: solid for a challenger, dashed for a base optimizer."""
    return "solid" if is_challenger(optimizer) else "6px,4px"


def symbol(optimizer: str, *, confirmed: bool) -> str:
    """Returns the marker: a challenger a circle, base optimizer a square; open where the value is unconfirmed."""
    return ("circle" if is_challenger(optimizer) else "square") + ("" if confirmed else "-open")


def template(theme: Theme) -> dict[str, Any]:
    """Returns a Plotly template: transparent, quiet axes, readable fonts."""
    axis = {
        "gridcolor": _RULE[theme],
        "linecolor": _AXIS[theme],
        "tickcolor": _AXIS[theme],
        "zerolinecolor": _AXIS[theme],
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "title": {"font": {"size": 13}, "standoff": 8},
    }
    heat = {"type": "heatmap", "colorscale": SCALE[theme], "textfont": {"color": ON_SCALE[theme]}}
    return {
        "data": {"heatmap": [heat]},
        "layout": {
            "font": {"family": FONT, "size": 13, "color": _INK[theme]},
            "title": {"font": {"size": 15}, "x": 0, "xanchor": "left"},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": axis,
            "yaxis": axis,
            "annotations": [{"name": BACKED, "visible": False, "bgcolor": _PAGE[theme]}],
            "hoverlabel": {
                "font": {"family": FONT, "size": 13, "color": _INK[theme]},
                "bgcolor": _PAGE[theme],
                "bordercolor": _AXIS[theme],
                "align": "left",
            },
            "margin": {"l": 68, "r": 16, "t": 40, "b": 52},  # fixed: an axis that fits its margin draws twice
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": _AXIS[theme], "activecolor": _INK[theme]},
        },
    }
