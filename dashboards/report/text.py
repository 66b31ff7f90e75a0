"""A report as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from urllib.parse import quote

from dashboards.figures.main_figures import HELP
from dashboards.report.contents import (
    SENSITIVITY_HEADER,
    TUNING_HEADER,
    WIDER,
    WINNER_HEADER,
    Contents,
    tuning_definition,
)
from lawn_tune import __version__
from lawn_tune.comparison.renderers.exchange import to_dict
from lawn_tune.comparison.renderers.markdown import escaped, markdown, pipes
from lawn_tune.comparison.tables import DIFFERENCE_HEADER, difference_cells
from lawn_tune.words import method

SCHEMA = "lawn-tune/report/3"


def report_markdown(found: Contents, figures: Sequence[tuple[str, str, str]] = ()) -> str:
    """Returns the report in GitHub's Markdown.

    Args:
        found: its content.
        figures: kind, what it shows and path of each.
    """
    parts = [
        f"# {escaped(found.comparison.space)}: does LAWN beat weight decay?",
        *map(escaped, found.comparison.about),
        markdown(found.comparison).rstrip(),
        *_figures(figures),
        "## Winners and cost",
        _pipes(WINNER_HEADER, [tuple(row.values()) for row in found.winners]),
        *_wider(found),
        *_titled("## Each hyperparameter alone", SENSITIVITY_HEADER, found.sensitivity),
        *_titled(
            "## Expected best of k random points",
            TUNING_HEADER,
            found.tuning_rows,
            tuning_definition(found.tuning_curves),
        ),
        *_titled("## Protocol and versions", ("What", "Value"), found.protocol),
        "## Reproduce",
        "```sh\n" + "\n".join(found.commands) + "\n```",
        f"Written by lawn-tune {__version__}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(figures: Sequence[tuple[str, str, str]]) -> list[str]:
    parts = ["## Figures"] if figures else []
    for kind, group in groupby(figures, key=itemgetter(0)):
        parts += [*(f"![{escaped(alt)}]({quote(path)})" for _, alt, path in group), escaped(HELP[kind])]
    return parts


def _wider(found: Contents) -> list[str]:
    lines = [f"```toml\n{found.wider}\n```"] if found.wider else []
    stays = ["\n".join(f"- {escaped(text)}" for text in found.stays)] if found.stays else []
    return [f"### On the edge: {WIDER}", *lines, *stays] if lines or stays else []


def _titled(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> list[str]:
    return [title, escaped(note), _pipes(header, rows)] if rows else []


def _pipes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return pipes([escaped(name) for name in header], [[escaped(value) for value in row] for row in rows])


def report_json(found: Contents) -> str:
    """Returns the report as JSON: what the Markdown prints, under the same headers, and every number in full."""
    rows = found.table
    values = {
        "schema": SCHEMA,
        "lawn_tune": __version__,
        "space": found.comparison.space,
        "headline": rows.headline,
        "overall": rows.overall,
        "verdicts": [
            {"verdict": pair.verdict.value, "sentence": text}
            for pair, text in zip(found.comparison.pairs, rows.sentences, strict=True)
        ],
        "values": {
            "title": rows.title,
            "caption": rows.caption,
            "rows": [
                {"method": method(entry.optimizer), "batch_size": entry.batch_size, "text": entry.text}
                | {"best": entry.best, "paper": entry.published, "caveats": list(entry.marks)}
                for entry in rows.entries.values()
            ],
        },
        "differences": [
            dict(zip(DIFFERENCE_HEADER, difference_cells(row), strict=True)) | {"caveats": list(row.marks)}
            for row in rows.differences
        ],
        "caveats": [{"mark": note.mark, "flag": note.flag.value, "texts": list(note.texts)} for note in rows.footnotes],
        "remarks": list(rows.remarks),
        "winners": list(found.winners),
        "wider": {"toml": found.wider, "stays": list(found.stays)},
        "sensitivity": _named(SENSITIVITY_HEADER, found.sensitivity),
        "tuning_curve": {
            "definition": tuning_definition(found.tuning_curves),
            "rows": _named(TUNING_HEADER, found.tuning_rows),
        },
        "protocol": dict(found.protocol),
        "commands": list(found.commands),
        "comparison": to_dict(found.comparison),
    }
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _named(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    return [dict(zip(header, row, strict=True)) for row in rows]
