"""Writes what `docs/results` shows, and the README's headline: `python -m benchmarks.results_page`.

Of each bundle of `docs/results` a report with figures; of all of them `docs/results.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dashboards.report import illustrated
from dashboards.report.protocol import dates, protocol
from lawn_tune.cli.compare import as_given, comparison_of
from lawn_tune.comparison.comparison import Comparison, PairResult
from lawn_tune.comparison.flags import FEW
from lawn_tune.comparison.published import printed_difference
from lawn_tune.comparison.renderers.markdown import escaped, pipes, superscript
from lawn_tune.comparison.tables import DifferenceRow, Entry, Table, difference_cells, missing_text, table
from lawn_tune.comparison.verdicts import headline as statement
from lawn_tune.comparison.verdicts import sentence, sides
from lawn_tune.ledger import Ledger
from lawn_tune.ledger.bundle import open_bundle
from lawn_tune.results import TrialRow
from lawn_tune.words import every, listing, method, signed

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


@dataclass(frozen=True)
class Study:
    """A bundle: its file's name, what it shows, and its trials."""

    name: str
    comparison: Comparison
    trials: Sequence[TrialRow]

    @cached_property
    def rows(self) -> Table:
        """The comparison as rows and texts."""
        return table(self.comparison)

    @property
    def decides(self) -> bool:
        """False where no pair has enough seeds for a difference to say anything."""
        return any(pair.difference and pair.difference.n >= FEW for pair in self.comparison.pairs)

    @cached_property
    def confirmed(self) -> Mapping[str, frozenset[tuple[str, str]]]:
        """Cell, without its space → key and start of each confirm run."""
        found: dict[str, set[tuple[str, str]]] = {}
        for row in self.trials:
            if row.phase == "confirm":
                found.setdefault(row.cell.partition("/")[2], set()).add((row.key, str(row.provenance.get("started"))))
        return {cell: frozenset(runs) for cell, runs in found.items()}


def pages() -> Mapping[Path, str]:
    """Returns the text of each page and figure: path -> Markdown or SVG."""
    found, studies = dict[Path, str](), list[Study]()
    for path in sorted(RESULTS.glob("*.bundle"), key=lambda path: (path.stem != HEADLINE, path)):
        with open_bundle(path) as (database, bundle):
            ledger = Ledger(database)
            comparison = as_given(comparison_of(ledger, bundle.space), str(path), None)
            studies.append(Study(path.stem, comparison, ledger.trials(bundle.space)))
            found[path.with_suffix(".md")], figures = illustrated(ledger, comparison, path.stem)
        found |= {path.with_suffix("") / name: text for name, text in figures.items()}
    (main,) = (study for study in studies if study.name == HEADLINE)
    parts = {
        "contents": "\n".join(map(_entry, studies)),
        "results": "\n\n".join(_section(study, studies[:i]) for i, study in enumerate(studies)),
    }
    text = re.sub(r"{{(\w+)}}", lambda place: parts[place[1]], TEXT.read_text())
    return found | {PAGE: text, README: _PLACE.sub(lambda _: headline(main), README.read_text())}


def _entry(study: Study) -> str:
    verdict = f" **{escaped(statement(study.comparison))}**" if study.decides else ""
    return f"- [{study.name}](#{study.name}): {_about(study.comparison)}.{verdict}"


def _section(study: Study, earlier: Sequence[Study]) -> str:
    parts = (
        f"## {study.name}",
        f"{_about(study.comparison)}. [The whole study](results/{study.name}.md).",
        *(_verdicts(study) if study.decides else [_values(study)]),
        *_same_runs(study, earlier),
        _facts(study),
    )
    return "\n\n".join(parts)


def _verdicts(study: Study) -> list[str]:
    """Returns what holds of the pairs, each in a sentence or in a row of a table, with the figure."""
    comparison = study.comparison
    pairs = comparison.overall.pairs if comparison.overall else comparison.pairs
    return [
        *_overall(study),
        "\n".join(f"- {escaped(sentence(pair))}" for pair in pairs),
        *([_differences(study)] if len(comparison.pairs) > 1 else []),
        *_notes(study),
        f"![Differences with their intervals, and the paper's](results/{study.name}/differences.svg)",
    ]


def _values(study: Study) -> str:
    """Returns a table with the value of each cell."""
    entries = study.rows.entries.values()
    body = [[method(entry.optimizer), f"{entry.batch_size:,}", entry.text] for entry in entries]
    return pipes(["Method", "Batch", "Value"], [[escaped(value) for value in row] for row in body])


def _same_runs(study: Study, earlier: Sequence[Study]) -> Iterator[str]:
    """Yields for each earlier study which cells have the same confirm runs, so that no finding is counted twice."""
    named: set[str] = set()
    for other in earlier:
        same = [
            cell for cell, runs in study.confirmed.items() if runs == other.confirmed.get(cell) and cell not in named
        ]
        named.update(same)
        if same:
            cells = listing([f"`{cell}`" for cell in same])
            yield f"The runs of {cells} are those of [{other.name}](#{other.name}): one finding, shown again."


def _about(comparison: Comparison) -> str:
    return escaped(next(iter(comparison.about), comparison.space))


def _overall(study: Study) -> list[str]:
    text = study.rows.overall
    return [f"**{escaped(text)}**"] if text else []


def _facts(study: Study) -> str:
    """Returns what is missing, and what the numbers were measured with."""
    known = dict(protocol(study.comparison, dates(study.trials)))
    commits = known.get("commit", "not recorded")
    commit = f"commit {commits}" if commits.count(", ") < 2 else "several commits"
    facts = (
        f"{known['model']}, {known['epochs']} epochs, {known['metric']}, {known['device time']} on {known['device']}, "
        f"trained {known['trained']} by lawn_tune {known['lawn_tune']}, {commit}."
    )
    return escaped(f"{missing_text(study.comparison)} {facts}".strip())


def headline(study: Study) -> str:
    """Returns a row for each pair that is measured, the verdict on all of them, and what is known of the runs."""
    measured = [pair for pair in study.comparison.pairs if pair.difference]
    parts = (
        f"{_about(study.comparison)}: {study.rows.title.partition(': ')[2]}, mean ± standard error over seeds.",
        _differences(study),
        *_notes(study),
        *(_overall(study) if len(measured) > 1 else [escaped(sentence(pair)) for pair in measured]),
        f"{_facts(study)} [Study with figures](docs/results/{study.name}.md), [all results](docs/results.md).",
    )
    return "\n\n".join(parts) + "\n"


def _notes(study: Study) -> Iterator[str]:
    """Yields what the intervals of a table speak of, and what its marks mean."""
    measured = [pair for pair in study.comparison.pairs if pair.difference]
    family = max((pair.difference.family for pair in measured if pair.difference), default=1)
    together = [f"hold together for {every(family, 'pair')}, with 95 % confidence"] if family > 1 else []
    given = [f"take the winners as given, which {_chosen(study)} chose"] if any(p.conditional for p in measured) else []
    if together or given:
        yield f"The intervals {', and '.join((*together, *given))}. {_caveats(study)}".strip()
    elif caveats := _caveats(study):
        yield caveats


def _caveats(study: Study) -> str:
    """Returns the kinds of caveats, with their marks where there is a table."""
    marked = len(study.comparison.pairs) > 1
    kinds = [
        f"{superscript(note.mark)} {note.flag.value}" if marked else note.flag.value for note in study.rows.footnotes
    ]
    return f"Caveats: {', '.join(kinds)}." if kinds else ""


def _chosen(study: Study) -> str:
    seeds = {len(result.cell.protocol.search_seeds) for result in study.comparison.cells}
    return "one search seed" if seeds == {1} else "the search"


def _differences(study: Study) -> str:
    """Returns a table with a row for each pair that is measured."""
    rows, pairs = study.rows, study.comparison.pairs
    measured = [(pair, row) for pair, row in zip(pairs, rows.differences, strict=True) if pair.difference]
    challenger, baseline = sides(pairs)
    header = ["Pair", "Batch", "Epochs", baseline, challenger, "Difference", "95 % interval", "n", "Verdict", "Paper"]
    return pipes(header, [_row(pair, row, rows.entries) for pair, row in measured])


def _row(pair: PairResult, row: DifferenceRow, entries: Mapping[tuple[str, int], Entry]) -> list[str]:
    cells = [result.cell for result in pair.cells]
    values = [entries[cell.name.optimizer, cell.name.batch_size].text for cell in cells]
    printed = printed_difference(*cells)
    paper = "–" if printed is None else signed(printed, 2)
    texts = difference_cells(row, superscript(row.marks))[2:]
    return [row.methods, f"{pair.batch_size:,}", str(cells[0].task.epochs), *values, *texts, paper]


if __name__ == "__main__":
    main()
