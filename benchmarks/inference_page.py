"""Writes `docs/inference.md`, with its figure, from the committed results: `python -m benchmarks.inference_page`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import table

RESULTS = Path(__file__).parent / "results" / "coverage.json"
PAGE = Path(__file__).parents[1] / "docs" / "inference.md"
TEXT = Path(__file__).with_name("inference.md.in")


def main() -> None:
    """Writes the page and draws its figure."""
    from benchmarks import plots  # imports matplotlib, which the page does not need

    PAGE.write_text(page())
    plots.power(json.loads(RESULTS.read_text())["results"])


def page() -> str:
    """Returns the page for the committed results."""
    results = json.loads(RESULTS.read_text())["results"]
    parts = {
        "repeats": f"{results['repeats']:,}",
        "error": f"{100 * (0.05 * 0.95 / results['repeats']) ** 0.5:.2f}",
        "drawn_repeats": f"{results['repeats_drawn']:,}",
        "searched_repeats": f"{results['repeats_searched']:,}",
        "coverage": _ranges(results["coverage"]),
        "drawn": _ranges(results["drawn"]),
        "searches": _searches(results["searches"]),
        "families": _families(results["families"]),
        "power": _power(results["power"], results["effects"]),
    }
    text = TEXT.read_text()
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part)
    return text


def _ranges(found: Sequence[Mapping[str, Any]]) -> str:
    cells = {(one["seeds"], one["examples"]): _range(one) for one in found}
    seeds, examples = ({key[i]: None for key in cells} for i in (0, 1))
    rows = [(f"{s} seeds", *(cells[s, e] for e in examples)) for s in seeds]
    return table(("", *(f"{e:,} examples" for e in examples)), rows)


def _searches(found: Sequence[Mapping[str, Any]]) -> str:
    cells = {(one["searches"], one["seeds"]): f"{_range(one)} ({_range(one['conditional'])})" for one in found}
    searches, seeds = ({key[i]: None for key in cells} for i in (0, 1))
    rows = [(f"{n} search seeds", *(cells[n, s] for s in seeds)) for n in searches]
    return table(("", *(f"{s} confirm seeds" for s in seeds)), rows)


def _range(found: Mapping[str, float]) -> str:
    return f"{found['least']:.1f} to {found['most']:.1f}"


def _families(found: Sequence[Mapping[str, Any]]) -> str:
    cells = {(one["seeds"], one["pairs"]): f"{one['error']:.1f} ({one['worst']:.1f})" for one in found}
    seeds, pairs = ({key[i]: None for key in cells} for i in (0, 1))
    return table(("", *(f"{m} pairs" for m in pairs)), [(f"{s} seeds", *(cells[s, m] for m in pairs)) for s in seeds])


def _power(found: Mapping[str, Sequence[float]], effects: Sequence[float]) -> str:
    rows = [(f"{seeds} seeds", *(f"{share:.0f}" for share in shares)) for seeds, shares in found.items()]
    return table(("", *(f"{effect:g} points" for effect in effects)), rows)


if __name__ == "__main__":
    main()
