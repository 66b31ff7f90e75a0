"""Writes `docs/results.md` and a report of each bundle in `docs/results`: `python -m benchmarks.results_page`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dashboards.report import report
from lawn_tune.cli.compare import comparison_of
from lawn_tune.comparison.comparison import Comparison
from lawn_tune.comparison.verdicts import overall_sentence, sentence
from lawn_tune.ledger import Ledger
from lawn_tune.ledger.bundle import open_bundle

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
RESULTS = PAGE.with_suffix("")
TEXT = Path(__file__).with_name("results.md.in")


def main() -> None:
    """Writes the pages."""
    for path, text in pages().items():
        path.write_text(text)


def pages() -> Mapping[Path, str]:
    """Returns the text of each page: path -> Markdown."""
    found, rows = {}, []
    for path in sorted(RESULTS.glob("*.bundle")):
        with open_bundle(path) as (database, bundle):
            ledger = Ledger(database)
            comparison = comparison_of(ledger, bundle.space)
            found[path.with_suffix(".md")] = report(ledger, comparison, format="md")
        rows.append(_row(path, comparison))
    text = TEXT.read_text().replace("{{results}}", "\n".join(["| study | result |", "| --- | --- |", *rows]))
    return found | {PAGE: text}


def _row(path: Path, comparison: Comparison) -> str:
    pairs, overall = comparison.pairs, comparison.overall
    found = overall_sentence(overall) if overall and len(pairs) > 1 else " ".join(map(sentence, pairs))
    return f"| [{path.stem}](results/{path.stem}.md): {comparison.about[0]} | {found} |"


if __name__ == "__main__":
    main()
