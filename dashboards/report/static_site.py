"""A folder for any static host: a list of spaces with their verdicts, and the report of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dashboards.figures.pair_outcome import TONES
from lawn_tune import __version__
from lawn_tune.comparison.comparison import Comparison
from lawn_tune.comparison.verdicts import headline, overall_sentence

PAGES = "spaces"
"""Folder of the reports, so that no space can have the name of the list."""


class Entry(NamedTuple):
    """A space in the list.

    Args:
        space: its name.
        description: what it compares, in the words of its file; "" where they are not known.
        page: address of its report from the list, "" where it has none.
        verdict, tone: over all cells in a word, and how it is colored.
        sentences: the same statement as in its report; or why there is no report.
    """

    space: str
    description: str
    page: str
    verdict: str
    tone: str
    sentences: tuple[str, ...]


def file_name(space: str) -> str:
    """Returns a space's name with nothing in it that a file's name cannot hold."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", space)


def page_path(space: str) -> Path:
    """Returns where in the site a space's report is."""
    return Path(PAGES) / f"{file_name(space)}.html"


def entry(comparison: Comparison) -> Entry:
    """Returns a compared space as the list shows it."""
    overall = comparison.overall
    return Entry(
        space=comparison.space,
        description=next(iter(comparison.about), ""),
        page=quote(page_path(comparison.space).as_posix()),
        verdict=overall.verdict.value if overall else "no pair",
        tone=TONES.get(overall.verdict, "none") if overall else "none",
        sentences=(headline(comparison), *([overall_sentence(overall)] if overall else [])),
    )


def missing(space: str, why: str) -> Entry:
    """Returns a space without a report as the list shows it."""
    return Entry(space=space, description="", page="", verdict="no result", tone="none", sentences=(why,))


def render_index(entries: Sequence[Entry]) -> str:
    """Returns the list as a page that loads nothing; equal arguments give equal text."""
    environment = Environment(
        loader=PackageLoader("dashboards"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    css = (files("dashboards") / "templates" / "report.css").read_text(encoding="utf-8")
    return environment.get_template("index.html").render(entries=entries, css=Markup(css), version=__version__)


def doubled(spaces: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields spaces whose reports would have the name of another's, with that one."""
    taken: dict[str, str] = {}
    for space in spaces:
        name = page_path(space).name.lower()  # some hosts do not tell cases apart
        if name in taken:
            yield space, taken[name]
        taken.setdefault(name, space)
