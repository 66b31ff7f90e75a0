"""The report: a whole comparison as one HTML file that loads nothing, from no one."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dashboards import style
from dashboards.figures import batch_size_figure, curve_figure, difference_figure, grid_figure, plain, plotly_js
from dashboards.numbers import (
    Curves,
    batch_size_info,
    curve_infos,
    curve_keys,
    difference_info,
    grid_infos,
)
from lawn_tune import __version__
from lawn_tune.cells import Cell
from lawn_tune.compare import Comparison, Verdict
from lawn_tune.results import ResultSource, TrialRow
from lawn_tune.secrets import masked
from lawn_tune.selection import Winner
from lawn_tune.spaces import builtin_spaces
from lawn_tune.tables import DIFFERENCE_HEADER, model_text, table
from lawn_tune.words import method, metric_name
from search_spaces.loader import SUFFIX

_CONSTRAINED = {
    "all": "every tensor with two or more dimensions, embeddings included; biases and 1-D tensors are free",
    "final": "the tensors of the last homogeneous sub-network; all others are free",
}
_TONES = {
    Verdict.BETTER: "better",
    Verdict.ONLY_LAWN: "better",
    Verdict.WORSE: "worse",
    Verdict.ONLY_BASE: "worse",
}


class Span(NamedTuple):
    """When the trials ran: first start and last end as the ledger states them, or empty."""

    first: str
    last: str


class Picture(NamedTuple):
    """One figure's place in the page."""

    id: str
    alt: str
    height: int


def report(source: ResultSource, comparison: Comparison, storage: str | None = None) -> str:
    """Returns the report of a comparison as HTML.

    Args:
        source: adds curves and dates.
        comparison: of one space.
        storage: URL of the ledger where it is not the default, for the commands to type; its password is masked.
    """
    curves = source.curves(curve_keys(comparison))
    return render(comparison, curves, span(source.trials(comparison.space)), storage)


def span(trials: Sequence[TrialRow]) -> Span:
    """Returns when the trials ran, by their provenance."""
    starts = sorted(str(row.provenance["started"]) for row in trials if row.provenance.get("started"))
    ends = sorted(str(row.provenance["ended"]) for row in trials if row.provenance.get("ended"))
    return Span(starts[0][:10] if starts else "", ends[-1][:10] if ends else "")


def render(comparison: Comparison, curves: Curves, when: Span, storage: str | None = None) -> str:
    """Returns the page; equal arguments give equal text.

    Every value is escaped by the template. Figures travel as JSON in which no tag can open, scripts are allowed by
    their hashes, and the page's policy forbids every request.
    """
    figures = _figures(comparison, curves)
    scripts = {"plotly": _inline(plotly_js()), "page": _inline(_resource("report.js"))}
    environment = Environment(
        loader=PackageLoader("dashboards"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        comparison=comparison,
        rows=table(comparison),
        header=DIFFERENCE_HEADER,
        methods=[_legend(name) for name in comparison.optimizers],
        name=method,
        tones=[_TONES.get(pair.verdict, "open") for pair in comparison.pairs],
        verdicts=[pair.verdict.value for pair in comparison.pairs],
        pictures={kind: [_picture(id_, alt, figure) for id_, alt, figure in group] for kind, group in figures.items()},
        data=_data({id_: figure for group in figures.values() for id_, _, figure in group}),
        cells=_cells(comparison),
        protocol=_protocol(comparison, when),
        commands=_commands(comparison, storage),
        css=Markup(_resource("report.css")),
        scripts=scripts,
        hashes=[_hash(text) for text in scripts.values()],
        version=__version__,
    )


# --- figures ---------------------------------------------------------------------------------------------------------

_Group = list[tuple[str, str, dict[str, Any]]]


def _figures(comparison: Comparison, curves: Curves) -> dict[str, _Group]:
    """Returns kind → (id, description, figure) of every figure there is something to draw in."""
    differences, sizes = difference_info(comparison), batch_size_info(comparison)
    groups: dict[str, _Group] = {"differences": [], "sizes": [], "curves": [], "grids": []}
    if differences.bars:
        alt = "Paired differences with 95 % intervals; the same numbers are in the table below"
        groups["differences"].append(("differences", alt, plain(difference_figure(differences))))
    if sizes.lines:
        alt = "Test metric against batch size; the same numbers are in the table above"
        groups["sizes"].append(("sizes", alt, _without_legend(plain(batch_size_figure(sizes)))))
    for curve in curve_infos(comparison, curves):
        alt = f"Learning curves and median margins of the winners at batch {curve.batch_size:,}"
        groups["curves"].append((f"curve-{curve.batch_size}", alt, _without_legend(plain(curve_figure(curve)))))
    for i, grid in enumerate(grid_infos(comparison)):
        alt = f"Grid of {method(grid.optimizer)} at batch {grid.batch_size:,}, values of {grid.value}"
        groups["grids"].append((f"grid-{i}", alt, plain(grid_figure(grid))))
    return groups


def _without_legend(figure: dict[str, Any]) -> dict[str, Any]:
    """The page has one legend for all figures."""
    figure["layout"]["showlegend"] = False
    figure["layout"].setdefault("margin", {})["t"] = 36
    return figure


def _picture(id_: str, alt: str, figure: Mapping[str, Any]) -> Picture:
    return Picture(id_, alt, figure["layout"]["height"])


def _legend(optimizer: str) -> dict[str, str]:
    line = "solid" if style.is_lawn(optimizer) else "dashed"
    return {"name": method(optimizer), "colour": style.colour(optimizer), "line": line}


def _data(figures: Mapping[str, Any]) -> Markup:
    templates = {theme: style.template(theme) for theme in ("light", "dark")}
    text = json.dumps({"figures": figures, "templates": templates, "config": style.CONFIG}, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


# --- texts -----------------------------------------------------------------------------------------------------------


def _cells(comparison: Comparison) -> list[dict[str, str]]:
    rows = []
    for result in comparison.cells:
        statuses = [point.status for point in result.points]
        done = sum(point.finished for point in result.points)
        rows.append(
            {
                "method": method(result.cell.name.optimizer),
                "batch": f"{result.cell.name.batch_size:,}",
                "winner": _winner(result.winner),
                "points": f"{done} of {len(statuses)}",
                "diverged": str(statuses.count("diverged")),
                "epochs": str(result.cell.task.epochs),
                "time": duration(result.seconds),
            }
        )
    return rows


def _winner(winner: Winner | None) -> str:
    if winner is None:
        return "none yet"
    values = winner.hyperparameters.items()
    return ", ".join(f"{name} {value:g}{' (edge)' if name in winner.edges else ''}" for name, value in values)


def duration(seconds: float) -> str:
    """Returns a time for people: "42 s", "13 min", "2.6 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _protocol(comparison: Comparison, when: Span) -> list[tuple[str, str]]:
    of: dict[str, Callable[[Cell], str]] = {
        "dataset": lambda cell: cell.task.dataset,
        "model": model_text,
        "loss": lambda cell: cell.task.loss,
        "metric": _metric,
        "selection": _selection,
        "search seeds": lambda cell: _listed(cell.protocol.search_seeds),
        "confirm seeds": lambda cell: f"{_listed(cell.protocol.confirm_seeds)}; trained on train + validation",
        "epochs": lambda cell: str(cell.task.epochs),
        "schedule": lambda cell: f"{cell.task.schedule}, one schedule across both phases",
        "constrained by LAWN": lambda cell: _CONSTRAINED.get(cell.task.constrain, cell.task.constrain),
        "precision": lambda cell: cell.task.precision,
    }
    rows = [(name, " | ".join(comparison.distinct(value))) for name, value in of.items()]
    rows += [
        ("intervals", "95 %, 10,000 resamples of seeds and test examples (two-way bootstrap), paired"),
        ("device time", duration(sum(result.seconds for result in comparison.cells))),
        ("trained", " to ".join(dict.fromkeys(day for day in when if day)) or "unknown"),
    ]
    return rows + [(name.replace("libraries.", ""), ", ".join(v)) for name, v in comparison.provenance.items()]


def _metric(cell: Cell) -> str:
    return f"{metric_name(cell.protocol.metric)}, {cell.protocol.reported} epoch, on the test split"


def _selection(cell: Cell) -> str:
    protocol = cell.protocol
    return f"mean {protocol.reported}-epoch {protocol.selection} {metric_name(protocol.metric)}"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds)) or "none"


def _commands(comparison: Comparison, storage: str | None) -> list[str]:
    """Returns what to type; a space of the user's own is known by name only, so its file is a placeholder."""
    name = shlex.quote(comparison.space)
    built_in = comparison.space in builtin_spaces()
    file = name if built_in else shlex.quote(f"path/to/{comparison.space}{SUFFIX}")
    where = f" --storage {shlex.quote(masked(storage))}" if storage else ""
    cells = [result.cell for result in comparison.cells]
    caps = sorted({cell.task.epochs for cell in cells if cell.task.epochs < cell.protocol.full_epochs})
    cap = f" --max-epochs {caps[-1]}" if caps else ""
    confirm = max(len(cell.protocol.confirm_seeds) for cell in cells)
    seeds = f" --seeds {confirm}" if confirm else ""
    return [
        f"lawn-tune launch {file}{seeds}{cap}{where}",
        f"lawn-tune compare {name}{where}",
        f"lawn-tune report {name}{where}",
    ]


# --- files -----------------------------------------------------------------------------------------------------------


def _resource(name: str) -> str:
    return (files("dashboards") / "templates" / name).read_text(encoding="utf-8")


def _inline(script: str) -> Markup:
    """Returns a script that no text inside it can end early; line ends as the browser will hash them."""
    return Markup(script.replace("\r\n", "\n").replace("</script", "<\\/script"))


def _hash(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def save(text: str, path: Path) -> None:
    """Writes the report whole or not at all."""
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
