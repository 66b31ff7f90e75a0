"""A report as one self-contained HTML page."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dashboards import style
from dashboards.figures.base import plain, plotly_js
from dashboards.figures.free_phase import FreePhaseInfo, free_phase_figure
from dashboards.figures.heat_map import heat_map_figure, heat_map_infos
from dashboards.figures.heat_map_part import fewer
from dashboards.figures.main_figures import HELP, main_figures
from dashboards.figures.pair_outcome import TONES
from dashboards.figures.sensitivity import sensitivity_figure, sensitivity_info
from dashboards.figures.series import Curves
from dashboards.figures.tuning_curve import tuning_curve_figure
from dashboards.report.contents import (
    TUNING_HEADER,
    WIDER,
    WINNER_HEADER,
    Contents,
    tuning_definition,
)
from lawn_tune import __version__
from lawn_tune.comparison.comparison import CellResult
from lawn_tune.comparison.tables import DIFFERENCE_HEADER
from lawn_tune.words import method


class Limits(NamedTuple):
    """How much the figures of one cell may hold, so that the file stays small however large the study is.

    Args:
        grid: points of a heat map.
        marks: points drawn of one level of a hyperparameter.
        epochs: of a learning curve.
    """

    grid: int
    marks: int
    epochs: int


def limits_of(cells: int) -> Limits:
    """Returns the limits of one cell: its share of 12,000 points, 360 marks per level and 4,000 epochs."""
    shares = max(1, cells)
    return Limits(
        grid=max(64, 12_000 // shares),
        marks=max(6, min(12, 360 // shares)),
        epochs=max(30, min(150, 4_000 // shares)),
    )


class Picture(NamedTuple):
    """One figure's place in the page."""

    id: str
    alt: str
    height: int


def render(found: Contents, curves: Curves, broken: Mapping[str, str] | None = None) -> str:
    """Returns the page; equal arguments give equal text.

    Args:
        found: its content.
        curves: of the winners' trials.
        broken: trial → why its curve cannot be read.

    Every value is escaped by the template. Figures and the drawing library are packed, scripts are allowed by their
    hashes, and the page's policy forbids every request.
    """
    comparison = found.comparison
    figures = _figures(found, curves)
    script = _inline(_resource("report.js"))
    environment = Environment(
        loader=PackageLoader("dashboards"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        contents=found,
        comparison=comparison,
        rows=found.table,
        headers={
            "differences": DIFFERENCE_HEADER, "winners": WINNER_HEADER, "tuning": TUNING_HEADER
        },
        definition=tuning_definition(found.tuning_curves),
        help=HELP,
        wider=WIDER,
        broken=broken or {},
        methods=[style.look(name) for name in comparison.optimizers],
        name=method,
        tones=[TONES.get(pair.verdict, "none") for pair in comparison.pairs],
        verdicts=[pair.verdict.value for pair in comparison.pairs],
        pictures={kind: [_picture(id_, alt, figure) for id_, alt, figure in group] for kind, group in figures.items()},
        data=_data({id_: figure for group in figures.values() for id_, _, figure in group}),
        css=Markup(_resource("report.css")),
        script=script,
        library=_library(),
        hashes=[_hash(text) for text in (plotly_js(), script)],
        version=__version__,
    )  # fmt: skip


_Group = list[tuple[str, str, dict[str, Any]]]


def _figures(found: Contents, curves: Curves) -> dict[str, _Group]:
    """Returns kind → (id, description, figure) of every figure there is something to draw in."""
    comparison = found.comparison
    kinds = ("differences", "sizes", "curves", "grids", "levels", "free", "tuning")
    groups: dict[str, _Group] = {kind: [] for kind in kinds}
    limits = limits_of(len(comparison.cells))
    for kind, name, alt, figure in main_figures(comparison, curves, limits.epochs):
        values = plain(figure)
        groups[kind].append((name, alt, _without_legend(values) if values["layout"]["showlegend"] else values))
    for i, grid in enumerate(heat_map_infos(comparison)):
        alt = f"Grid of {method(grid.optimizer)} at batch {grid.batch_size:,}, values of {grid.value}"
        groups["grids"].append((f"grid-{i}", alt, _still(plain(heat_map_figure(fewer(grid, limits.grid))), "skip")))
    groups["levels"] += [_levels(i, result, limits.marks) for i, result in enumerate(comparison.cells) if result.winner]
    groups["free"] += [_free_phase(i, info) for i, info in enumerate(found.free_phases) if info.numbers or info.rules]
    for i, info in enumerate(found.tuning_curves):
        alt = f"Expected best of k random points at batch {info.batch_size:,}; numbers are in the table below"
        groups["tuning"].append((f"tuning-{i}", alt, _still(plain(tuning_curve_figure(info)), "x+y+name")))
    return groups


def _levels(i: int, result: CellResult, marks: int) -> tuple[str, str, dict[str, Any]]:
    name = f"{method(result.cell.name.optimizer)}, batch {result.cell.name.batch_size:,}"
    figure = _still(plain(sensitivity_figure(sensitivity_info(result), most=marks)), "skip")
    return f"levels-{i}", f"Each hyperparameter of {name} alone", _titled(figure, name)


def _free_phase(i: int, info: FreePhaseInfo) -> tuple[str, str, dict[str, Any]]:
    name = f"{method(info.optimizer)}, batch {info.batch_size:,}"
    figure = _still(plain(free_phase_figure(info)), "x+y")
    return f"free-{i}", f"Best value of {name} at each length of the free phase", _titled(figure, name)


def _titled(figure: dict[str, Any], name: str) -> dict[str, Any]:
    figure["layout"] |= {"title": {"text": f"<b>{name}</b>", "y": 1, "yanchor": "top", "pad": {"t": 6}}}
    figure["layout"]["margin"]["t"] += 24
    figure["layout"]["height"] += 24
    return figure


def _still(figure: dict[str, Any], hoverinfo: str) -> dict[str, Any]:
    """Returns the figure without the texts and keys of single points: tables have the numbers, and files stay small."""
    for trace in figure["data"]:
        trace.pop("customdata", None)
        if trace.pop("hovertext", None) is not None:
            trace["hoverinfo"] = hoverinfo
    return figure


def _without_legend(figure: dict[str, Any]) -> dict[str, Any]:
    """The page has one legend for all figures."""
    figure["layout"]["showlegend"] = False
    figure["layout"].setdefault("margin", {})["t"] = 36
    return figure


def _picture(id_: str, alt: str, figure: Mapping[str, Any]) -> Picture:
    return Picture(id_, alt, figure["layout"]["height"])


def _rounded(value: Any) -> Any:
    """Returns JSON values with five digits a number: more than a figure can show, and half of the file."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def _data(figures: Mapping[str, Any]) -> Markup:
    values = {"figures": _rounded(figures), "templates": style.templates(), "config": style.CONFIG}
    return Markup(packed(json.dumps(values, separators=(",", ":"))))


def _resource(name: str) -> str:
    return (files("dashboards") / "templates" / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _library() -> Markup:
    return Markup(packed(plotly_js()))


def packed(text: str) -> str:
    """Returns a text as `report.js` unpacks it, at two fifths of its size or less; no tag can open or close in it."""
    digits = base64.b85encode(zlib.compress(text.encode(), 9)).decode()
    return digits.replace("<", '"')  # no digit is a quotation mark


def unpacked(text: str) -> str:
    """The inverse of `packed`."""
    return zlib.decompress(base64.b85decode(text.replace('"', "<"))).decode()


def _inline(script: str) -> Markup:
    """Returns a script that no text inside it can end early; line ends as the browser will hash them."""
    return Markup(script.replace("\r\n", "\n").replace("</script", "<\\/script"))


def _hash(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
