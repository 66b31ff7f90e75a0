"""Writes what `docs/results` shows, and the README's headline: `python -m benchmarks.results_page`.

Of each bundle of `docs/results` a report with figures; of all of them `docs/results.md`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from dashboards.report import illustrated
from dashboards.report.protocol import dates, protocol
from lawn_tune.cli.compare import as_given, comparison_of
from lawn_tune.comparison.comparison import Comparison, PairResult
from lawn_tune.comparison.published import printed_difference
from lawn_tune.comparison.renderers.markdown import escaped, pipes
from lawn_tune.comparison.tables import DifferenceRow, Entry, difference_cells, missing_text, table
from lawn_tune.comparison.verdicts import headline as statement
from lawn_tune.comparison.verdicts import sentence, sides
from lawn_tune.ledger import Ledger
from lawn_tune.ledger.bundle import open_bundle
from lawn_tune.results import TrialRow
from lawn_tune.words import signed

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
RESULTS = PAGE.with_suffix("")
TEXT = Path(__file__).with_name("results.md.in")
README = ROOT / "README.md"
HEADLINE = "movielens_100k_adam"
"""The study that the README shows."""

_PLACE = re.compile(r"(?<=<!-- headline -->\n).*(?=<!-- /headline -->)", re.DOTALL)


def main() -> None:
    """Writes the pages, and removes figures that are no longer drawn."""
    found = pages()
    for path in set(RESULTS.glob("*/*.svg")) - found.keys():
        path.unlink()
    for path, text in found.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def pages() -> Mapping[Path, str]:
    """Returns the text of each page and figure: path -> Markdown or SVG."""
    found, sections, contents = {}, [], []
    for path in sorted(RESULTS.glob("*.bundle")):
        with open_bundle(path) as (database, bundle):
            ledger = Ledger(database)
            comparison = as_given(comparison_of(ledger, bundle.space), str(path), None)
            trials = ledger.trials(bundle.space)
            found[path.with_suffix(".md")], figures = illustrated(ledger, comparison, path.stem)
        found |= {path.with_suffix("") / name: text for name, text in figures.items()}
        sections.append(_section(path.stem, comparison, trials))
        contents.append(_entry(path.stem, comparison))
        if path.stem == HEADLINE:
            found[README] = _readme(headline(comparison, trials))
    text = TEXT.read_text().replace("{{contents}}", "\n".join(contents))
    return found | {PAGE: text.replace("{{results}}", "\n\n".join(sections))}


def _entry(name: str, comparison: Comparison) -> str:
    return f"- [{name}](#{name}): {_about(comparison)}. **{escaped(statement(comparison))}**"


def _readme(headline: str) -> str:
    return _PLACE.sub(lambda _: headline, README.read_text())


def _section(name: str, comparison: Comparison, trials: Sequence[TrialRow]) -> str:
    pairs = comparison.overall.pairs if comparison.overall else comparison.pairs
    return "\n\n".join(
        (
            f"## {name}",
            f"{_about(comparison)}. [The whole study](results/{name}.md).",
            *_overall(comparison),
            "\n".join(f"- {escaped(sentence(pair))}" for pair in pairs),
            *([_differences(comparison)] if len(comparison.pairs) > len(pairs) else []),
            f"![Differences with their intervals, and the paper's](results/{name}/differences.svg)",
            _facts(comparison, trials),
        )
    )


def _about(comparison: Comparison) -> str:
    return escaped(next(iter(comparison.about), comparison.space))


def _overall(comparison: Comparison) -> list[str]:
    text = table(comparison).overall
    return [f"**{escaped(text)}**"] if text else []


def _facts(comparison: Comparison, trials: Sequence[TrialRow]) -> str:
    """Returns what is missing, and what the numbers were measured with."""
    known = dict(protocol(comparison, dates(trials)))
    commits = known.get("commit", "not recorded")
    commit = f"commit {commits}" if commits.count(", ") < 2 else "several commits"
    facts = (
        f"{known['model']}, {known['epochs']} epochs, {known['metric']}, {known['device time']} on {known['device']}, "
        f"trained {known['trained']} by lawn_tune {known['lawn_tune']}, {commit}."
    )
    return escaped(f"{missing_text(comparison)} {facts}".strip())


def headline(comparison: Comparison, trials: Sequence[TrialRow]) -> str:
    """Returns a row for each pair that is measured, the verdict on all of them, and what is known of the runs."""
    rows, measured = table(comparison), [pair for pair in comparison.pairs if pair.difference]
    caveats = ", ".join(note.flag.value for note in rows.footnotes)
    parts = (
        f"{_about(comparison)}: {rows.title.partition(': ')[2]}, mean ± standard error over seeds."
        f"{_together(measured)}",
        _differences(comparison),
        *(_overall(comparison) if len(measured) > 1 else [escaped(sentence(pair)) for pair in measured]),
        f"{_facts(comparison, trials)} Caveats: {caveats}. "
        f"[Study with figures](docs/results/{HEADLINE}.md), [all results](docs/results.md).",
    )
    return "\n\n".join(parts) + "\n"


def _together(measured: Sequence[PairResult]) -> str:
    """Returns for how many pairs the intervals hold together; "" for one."""
    family = max((pair.difference.family for pair in measured if pair.difference), default=1)
    return f" The intervals of all {family} pairs hold together." if family > 1 else ""


def _differences(comparison: Comparison) -> str:
    """Returns a table with a row for each pair that is measured."""
    rows = table(comparison)
    measured = [(pair, row) for pair, row in zip(comparison.pairs, rows.differences, strict=True) if pair.difference]
    challenger, baseline = sides(comparison.pairs)
    header = ["Pair", "Batch", "Epochs", baseline, challenger, "Difference", "95 % interval", "n", "Verdict", "Paper"]
    return pipes(header, [_row(pair, row, rows.entries) for pair, row in measured])


def _row(pair: PairResult, row: DifferenceRow, entries: Mapping[tuple[str, int], Entry]) -> list[str]:
    cells = [result.cell for result in pair.cells]
    values = [entries[cell.name.optimizer, cell.name.batch_size].text for cell in cells]
    printed = printed_difference(*cells)
    paper = "–" if printed is None else signed(printed, 2)
    return [row.methods, f"{pair.batch_size:,}", str(cells[0].task.epochs), *values, *difference_cells(row)[2:], paper]


if __name__ == "__main__":
    main()
