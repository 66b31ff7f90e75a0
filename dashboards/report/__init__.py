"""The report: a whole comparison as one self-contained file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from dashboards.figures.learning_curves import curve_keys
from dashboards.figures.main_figures import main_figures
from dashboards.figures.series import readable
from dashboards.figures.svg import svg
from dashboards.report.contents import contents
from dashboards.report.html_page import render
from dashboards.report.text import report_json, report_markdown
from lawn_tune.comparison.comparison import Comparison
from lawn_tune.results import ResultSource

Format = Literal["html", "md", "json"]


FIGURE_EPOCHS = 75
"""Points of a learning curve in an SVG figure: more than its width can show apart."""


def report(source: ResultSource, comparison: Comparison, storage: str | None = None, format: Format = "html") -> str:
    """Returns the report of a comparison.

    Args:
        source: adds curves, costs and dates.
        comparison: of one space.
        storage: URL of the ledger where it is not the default, for the commands to type; its password is masked.
        format: a page with figures, or the same contents as Markdown or JSON.
    """
    found = contents(comparison, source.trials(comparison.space), storage)
    texts: Mapping[Format, Callable[[], str]] = {
        "html": lambda: render(found, *readable(source.curves, curve_keys(comparison))),
        "md": lambda: report_markdown(found),
        "json": lambda: report_json(found),
    }
    return texts[format]()


def illustrated(
    source: ResultSource, comparison: Comparison, folder: str, storage: str | None = None
) -> tuple[str, dict[str, str]]:
    """Returns the report as Markdown that shows its figures, and file name → SVG of these.

    Args:
        source, comparison, storage: as for `report`.
        folder: of the figures, as the Markdown's file finds it.
    """
    curves, _ = readable(source.curves, curve_keys(comparison))
    drawn = [
        found
        for found in main_figures(comparison, curves, FIGURE_EPOCHS)
        if found.kind != "sizes" or len(comparison.batch_sizes) > 1  # one size has no more than its table
    ]
    shown = [(found.kind, found.alt, f"{folder}/{found.name}.svg") for found in drawn]
    text = report_markdown(contents(comparison, source.trials(comparison.space), storage), shown)
    return text, {f"{found.name}.svg": svg(found.figure, found.alt) for found in drawn}


def save(text: str, path: Path) -> None:
    """Writes the report whole or not at all."""
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
