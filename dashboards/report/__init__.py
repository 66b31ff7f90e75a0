"""The report: a whole comparison as one self-contained file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from dashboards.figures.learning_curves import curve_keys
from dashboards.figures.series import readable
from dashboards.report.contents import contents
from dashboards.report.html_page import render
from dashboards.report.text import report_json, report_markdown
from lawn_tune.comparison.comparison import Comparison
from lawn_tune.results import ResultSource

Format = Literal["html", "md", "json"]


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


def save(text: str, path: Path) -> None:
    """Writes the report whole or not at all."""
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
