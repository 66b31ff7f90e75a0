"""Over random ledgers, no two statements or numbers of any format contradict each other."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from dashboards.figures.caveats import pair_flags
from dashboards.figures.forest import forest_info
from dashboards.report.contents import contents
from dashboards.report.html_page import render
from dashboards.report.text import report_json, report_markdown
from dashboards.web.markup import tree
from dashboards.web.page import Empty, View
from dashboards.web.pages import comparison as comparison_page
from dashboards.web.pages import verdict
from dashboards.web.snapshot import Snapshots
from dashboards.web.verdict_cards import OF_CLAIM
from lawn_tune.comparison.compare import compare_space
from lawn_tune.comparison.comparison import Comparison, PairResult, Verdict
from lawn_tune.comparison.renderers import RENDERERS
from lawn_tune.comparison.renderers.terminal import print_comparison
from lawn_tune.comparison.tables import n_text
from lawn_tune.comparison.verdicts import ADDED, overall_sentences, sentence, verdict_text
from lawn_tune.results import Outcome
from lawn_tune.words import method
from tests.helpers.memory_source import MemorySource, make_cell, search_rows, with_protocol
from tests.helpers.pair_source import MIDDLE, confirmed, joined

HITS: st.SearchStrategy[int | Outcome | None] = st.one_of(
    st.integers(60, 190), st.sampled_from(["diverged", "failed", None])
)
NEAR: st.SearchStrategy[int] = st.integers(0, 2)


@st.composite
def cell_source(draw: st.DrawFn, name: str, size: int, changes: Mapping[str, Any]) -> MemorySource:
    """One searched cell in any state: with confirm runs, without, diverged, never constrained, on an edge."""
    frees = draw(st.sampled_from([(0.0, 1.0, 3.0), (1.0, 3.0, 20.0)]))
    cell = with_protocol(make_cell(name, size, frees=frees), **changes)
    if draw(st.integers(0, 11)) == 0:
        return MemorySource([cell], search_rows(cell, ["diverged"] * len(cell.search_trials)))
    runs = len(cell.protocol.confirm_seeds)
    level = draw(st.sampled_from([40, 150, 150, 190]))  # far apart or close, so that every verdict is common
    near = NEAR.map(lambda more: level + more)
    hits = draw(st.lists(draw(st.sampled_from([HITS, near, near, near])), min_size=runs, max_size=runs))
    source = confirmed(cell, hits, draw(st.sampled_from([MIDDLE, MIDDLE, 0, 5, 8])))
    if draw(st.integers(0, 3)) == 0:
        source.outcomes.clear()  # as in a ledger of a metric that has none
    first = draw(st.sampled_from([None, cell.protocol.confirm_seeds[:2], (*cell.protocol.confirm_seeds, 999)]))
    return replace(source, planned=[replace(cell, first_seeds=first)])


@st.composite
def ledgers(draw: st.DrawFn) -> MemorySource:
    changes = {
        "margin": draw(st.sampled_from([0.5, 3.0, None])),
        "search_seeds": draw(st.sampled_from([(0,), (0, 1)])),
        "confirm_seeds": tuple(range(101, 101 + draw(st.integers(1, 6)))),
        "reported": draw(st.sampled_from(["last", "best"])),
    }
    rules = draw(st.lists(st.sampled_from(["adam", "sgd"]), min_size=1, max_size=2, unique=True))
    sizes = draw(st.lists(st.sampled_from([32, 64, 1024]), min_size=1, max_size=3, unique=True))
    names = [f"{rule}{end}" for rule in rules for end in ("", "-lawn")]
    return joined(*(draw(cell_source(name, size, changes)) for name in names for size in sorted(sizes)))


NUMBER = r"[+−]?[\d.]+"
INTERVAL = re.compile(rf"95 % interval(?: for (?:both|all \d+) pairs)? ({NUMBER}) to ({NUMBER}), n = ([\d,]+) seed")
CLAIM = re.compile(r"is ([\d.]+) points (better|worse) than")


def same(text: str, number: float) -> bool:
    """True if a printed number is this one, to its digits."""
    digits = len(text.partition(".")[2])
    return bool(abs(float(text.replace("−", "-")) - number) <= 0.5001 * 10**-digits)


def check_sentence(text: str, difference: Mapping[str, Any] | None, verdict: str) -> None:
    """The words, the numbers and the verdict of one sentence agree."""
    for low, high, n in INTERVAL.findall(text)[:1]:
        assert difference is not None
        assert difference["interval"] is not None
        assert same(low, difference["interval"][0])
        assert same(high, difference["interval"][1])
        assert int(n) == difference["n"]
        decided = not float(low.replace("−", "-")) <= 0 <= float(high.replace("−", "-"))
        assert decided == (difference["interval"][0] > 0 or difference["interval"][1] < 0), "as printed, too"
        if verdict not in ("never constrained",):
            assert decided == (verdict in ("better", "worse"))
    for points, word in CLAIM.findall(text)[:1]:
        assert difference is not None
        assert same(points, abs(difference["mean"]))
        assert (word == "better") == (difference["mean"] > 0)
        assert verdict not in ("better", "worse") or verdict == word
    assert ("undecided" in text.lower()) == (verdict == "undecided"), text


def md_rows(text: str, first: str) -> Iterator[list[str]]:
    """The rows of the Markdown table whose first column has this name."""
    header = next((line for line in text.splitlines() if line.startswith(f"| {first} |")), None)
    if header is not None:
        for line in text.partition(header)[2].strip().splitlines()[1:]:
            if not line.startswith("|"):
                return
            plain = re.sub(r"<sup>.*?</sup>|\\|\*\*", "", line)
            yield [cell.strip() for cell in plain.strip("|").split("|")]


def check_formats(comparison: Comparison) -> None:
    values = json.loads(RENDERERS["json"](comparison))
    md, latex = RENDERERS["md"](comparison), RENDERERS["latex"](comparison)
    plain_md = md.replace("\\", "")
    lines = {
        (line["optimizer"], line["baseline"], int(line["batch_size"])): line
        for line in csv.DictReader(io.StringIO(RENDERERS["csv"](comparison)))
    }
    console = Console(width=2_000, record=True, file=io.StringIO())
    print_comparison(comparison, console)
    printed = console.export_text()
    table = list(md_rows(md, "Pair"))
    assert len(table) == len(values["pairs"])
    for pair, row, forest in zip(values["pairs"], table, _forest(comparison), strict=True):
        difference, verdict, sentence = pair["difference"], pair["verdict"], pair["sentence"]
        _, challenger, size = pair["challenger"].split("/")
        batch = int(size.removeprefix("bs"))
        line = lines[challenger, pair["baseline"].split("/")[1], batch]
        check_sentence(sentence, difference, verdict)
        for text in (plain_md, printed):
            assert sentence in text
        assert "".join(re.findall(r"\w", sentence)) in "".join(re.findall(r"\w", latex.replace(r"\times", "")))
        assert row[0].startswith(method(challenger))
        assert row[1] == f"{batch:,}"
        assert line["verdict"] == verdict
        assert (difference is None) == (row[2] == "–") == (line["difference"] == "")
        assert ("Interim:" in sentence) == pair["interim"]
        assert (ADDED in sentence) == pair["seeds_added"]
        assert (forest.verdict.value, forest.sentence) == (verdict, sentence)
        if difference is not None:
            assert same(row[2], difference["mean"])
            assert float(line["difference"]) == forest.mean == difference["mean"]
            check_values(values, pair, difference)
        if difference is not None and difference["interval"]:
            assert all(map(same, row[3].split(" to "), difference["interval"]))
            assert [float(line["low"]), float(line["high"])] == [forest.low, forest.high] == difference["interval"]
            margin = difference["margin"]
            small = margin is not None and max(map(abs, difference["interval"])) <= margin
            assert verdict not in ("equivalent", "undecided") or small == (verdict == "equivalent")
        if verdict in ("better", "worse", "equivalent"):
            assert not [step for step in pair["to_decide"] if step["action"] != "continue"]
    check_counts(values, plain_md)


def _forest(comparison: Comparison) -> list[Any]:
    """The forest's rows in the order of the pairs."""
    rows = {(row.lawn, row.batch_size): row for row in forest_info(comparison.pairs).rows}
    return [rows[pair.challenger.cell.name.optimizer, pair.batch_size] for pair in comparison.pairs]


def check_values(values: Mapping[str, Any], pair: Mapping[str, Any], difference: Mapping[str, Any]) -> None:
    """The difference is that of the two values, where both are over the same seeds."""
    cells = {cell["cell"]: cell["estimate"] for cell in values["cells"]}
    base, ours = cells[pair["baseline"]], cells[pair["challenger"]]
    assert base["phase"] == ours["phase"] == "confirm"
    if base["seeds"] == ours["seeds"]:
        assert difference["mean"] == pytest.approx(ours["mean"] - base["mean"], abs=1e-6)
        assert difference["seeds"] == base["seeds"]


def check_counts(values: Mapping[str, Any], md: str) -> None:
    """Headline, statement over all cells and pairs count the same verdicts; the mean is that of the pairs shown."""
    found = [pair["verdict"] for pair in values["pairs"]]
    overall = values["overall"]
    assert {name: n for name, n in overall["verdicts"].items() if n} == {name: found.count(name) for name in found}
    assert overall["pairs"] == len(found)
    for n, total in re.findall(r"in (\d+) of (\d+)", values["headline"]):
        assert int(total) == len(found)
        assert int(n) in {found.count(name) for name in found}
    for text in (values["headline"], overall["sentence"]):
        assert text in md
    kinds = {name: n for name, n in overall["verdicts"].items() if n}
    for name, n in kinds.items():
        all_of = f"{'Both' if n == 2 else f'All {n}'} comparisons are undecided."
        counted = all_of if [*kinds] == ["undecided"] else f"{n} {name}"
        assert counted in overall["sentence"] or len(found) == 1
    shown = ("better", "worse", "equivalent", "undecided")
    used = [p["difference"]["mean"] for p in values["pairs"] if p["verdict"] in shown and p["difference"]["interval"]]
    assert overall["measured"] == len(used)
    if used:
        assert overall["difference"]["mean"] == pytest.approx(sum(used) / len(used), abs=1e-6)
        first = re.split(" (?:Of|All|Both) ", overall["sentence"])[0] if len(used) > 1 else ""
        assert not first or overall["verdict"] != "better" or "better than" in first
        if first:
            check_sentence(first, overall["difference"], overall["verdict"])
    if used and all(verdict == found[0] for verdict in found) and found[0] in ("better", "worse"):
        assert overall["verdict"] in (found[0], "undecided")


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of a large ledger, by Hypothesis, now and then
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ledgers())
def test_no_format_of_a_comparison_contradicts_another(source: MemorySource) -> None:
    check_formats(compare_space(source, "digits"))


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ledgers())
def test_the_report_says_what_the_comparison_says(source: MemorySource) -> None:
    comparison = compare_space(source, "digits")
    found = contents(comparison, source.rows)
    values = json.loads(RENDERERS["json"](comparison))
    page = unescape(re.sub(r"<[^>]+>", " ", render(found, {})))
    assert json.loads(report_json(found))["comparison"] == values
    for text in (page, report_markdown(found).replace("\\", "")):
        for said in (
            values["headline"],
            values["overall"]["sentence"],
            *(pair["sentence"] for pair in values["pairs"]),
        ):
            assert said in text


# --- pages -----------------------------------------------------------------------------------------------------------

ON_ROW = re.compile(rf"95 % interval(?: for (?:both|all \d+) pairs)?: ({NUMBER}) to ({NUMBER})")


def text_of(node: Any) -> str:
    """The text of components or markup, its elements apart."""
    if isinstance(node, dict):
        return text_of(node["children"])
    return " ".join(map(text_of, node)) if isinstance(node, list) else str(node)


def check_row(text: str, pair: PairResult) -> None:
    """A row of the page that compares says what the pair's sentence says, in words and in printed numbers."""
    assert sentence(pair) in text
    assert verdict_text(pair) in text
    flags = pair_flags(pair)
    shown = text.partition(sentence(pair))[0]
    assert ([flag in flags for flag in OF_CLAIM]) == [flag.value in shown for flag in OF_CLAIM]
    difference = pair.difference
    for low, high in ON_ROW.findall(text):
        assert difference is not None
        assert difference.interval is not None
        assert same(low, difference.interval.low)
        assert same(high, difference.interval.high)
        decided = not float(low.replace("−", "-")) <= 0 <= float(high.replace("−", "-"))
        if pair.verdict is not Verdict.NEVER_CONSTRAINED:
            assert decided == (pair.verdict in (Verdict.BETTER, Verdict.WORSE))
    if difference is not None:
        assert bool(ON_ROW.search(text)) == (difference.interval is not None)
        assert f", n = {n_text(difference)}" in shown


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ledgers())
def test_the_pages_say_what_the_comparison_says(source: MemorySource) -> None:
    view = View.of(Snapshots(source), {"space": "digits"})
    comparison = view.snapshot.comparison
    if comparison_page.nothing(view, comparison) is not None:
        return
    values = json.loads(RENDERERS["json"](comparison))
    said, counted = comparison_page.answer(view), comparison_page.differences(view)
    assert not isinstance(said, Empty)
    assert not isinstance(counted, Empty)
    landing, answer, numbers = tree(verdict.answer(view)), tree(said), tree(counted)
    assert comparison.overall is not None
    for text in overall_sentences(comparison.overall):
        assert text in text_of(landing)
    assert (
        (difference := values["overall"]["difference"]) is None
        or difference["interval"] is None
        or all(
            map(same, verdict.effect(comparison).partition(" (")[2].rstrip(")").split(" to "), difference["interval"])
        )
    )
    (rows,) = (part for part in answer if part["tag"] == "ol")
    for row, pair in zip(rows["children"], comparison.pairs, strict=True):
        check_row(text_of(row), pair)
    for pair, line in zip(values["pairs"], md_rows(RENDERERS["md"](comparison), "Pair"), strict=True):
        assert " ".join(line[2:4]) in text_of(numbers)
        assert pair["sentence"] in text_of(answer)
    assert {todo.text for todo in verdict.todos(comparison)} >= {
        step["text"] for pair in values["pairs"] for step in pair["to_decide"] if step["action"] != "continue"
    }
