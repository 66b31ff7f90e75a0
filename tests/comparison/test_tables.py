"""Laws of the tables and their formats: every number with its n, nothing read as markup or formula."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lawn_tune.cells import CellName
from lawn_tune.cli.source import reading_space
from lawn_tune.comparison.compare import compare, compare_space
from lawn_tune.comparison.comparison import Comparison, Verdict
from lawn_tune.comparison.renderers import RENDERERS
from lawn_tune.comparison.renderers.exchange import SCHEMA, to_dict
from lawn_tune.comparison.renderers.latex import tex
from lawn_tune.comparison.renderers.markdown import escaped
from lawn_tune.comparison.renderers.terminal import print_comparison
from lawn_tune.comparison.tables import DIFFERENCE_HEADER, table, value_text
from lawn_tune.comparison.verdicts import family_text, overall_sentence, sentence
from lawn_tune.words import fixed, signed
from tests.helpers.memory_source import demo_source, make_cell, search_rows, with_protocol

HOSTILE = "=<script>alert('x')</script>|$_{}\\&%#\"[bold]"


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare_space(demo_source(epochs=30), "movielens_100k")


def renamed(comparison: Comparison, space: str) -> Comparison:
    cells = tuple(
        replace(result, cell=replace(result.cell, name=replace(result.cell.name, space=space)))
        for result in comparison.cells
    )
    return replace(comparison, space=space, cells=cells)


def printed(comparison: Comparison, width: int = 160) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    print_comparison(comparison, console)
    return console.export_text()


def rendered(comparison: Comparison) -> dict[str, str]:
    return {name: render(comparison) for name, render in RENDERERS.items()} | {"rich": printed(comparison)}


# --- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "noted"), [((0.9, 0.8), True), ((0.9, 60.0), False), ((0.0, 0.0), False)], ids=str)
def test_percentages_that_look_like_fractions_are_pointed_out(values: tuple[float, float], noted: bool) -> None:
    """Of accuracies of 0.9 and 0.8, the margin of half a point would be five times as much as they differ."""
    cells = [make_cell(), make_cell("adam-lawn")]
    rows = [row for cell, value in zip(cells, values, strict=True) for row in search_rows(cell, [value] * 9)]
    remarks = table(compare(cells, rows, {})).remarks
    assert any("If these are fractions" in text for text in remarks) == noted


def test_each_value_is_shown_with_error_and_n(comparison: Comparison) -> None:
    entries = table(comparison).entries
    assert len(entries) == len(comparison.cells) == 12
    for result in comparison.cells:
        text = entries[result.cell.name.optimizer, result.cell.name.batch_size].text
        if result.confirmed is not None:
            assert re.fullmatch(r"\d\d\.\d\d ± \d\.\d\d \(10\)", text)
        else:
            assert re.fullmatch(r"\d\d\.\d\d \(search, 2\)", text)


def test_bold_is_the_cell_that_a_verdict_calls_better(comparison: Comparison) -> None:
    entries = table(comparison).entries
    for pair in comparison.pairs:
        base, lawn = (entries[r.cell.name.optimizer, pair.batch_size] for r in (pair.baseline, pair.challenger))
        assert (lawn.best, base.best) == (pair.verdict is Verdict.BETTER, pair.verdict is Verdict.WORSE)
    assert {pair.verdict for pair in comparison.pairs} >= {Verdict.BETTER, Verdict.WORSE, Verdict.UNDECIDED}


def test_every_mark_has_a_footnote_and_every_footnote_a_mark(comparison: Comparison) -> None:
    rows = table(comparison)
    used = {mark for entry in rows.entries.values() for mark in entry.marks}
    used |= {mark for row in rows.differences for mark in row.marks}
    assert used == {note.mark for note in rows.footnotes}
    flags = {note.flag for result in comparison.cells for note in result.notes}
    assert flags <= {note.flag for note in rows.footnotes}


def test_the_caveats_of_both_cells_stand_next_to_their_difference(comparison: Comparison) -> None:
    rows = table(comparison)
    for row, pair in zip(rows.differences, comparison.pairs, strict=True):
        for result in (pair.baseline, pair.challenger):
            entry = rows.entries[result.cell.name.optimizer, pair.batch_size]
            assert set(entry.marks) <= set(row.marks)


def test_a_caveat_of_a_pair_names_both_methods() -> None:
    """One baseline may have several challengers."""
    comparison = compare([make_cell(), make_cell("adam-lawn", frees=(0.0, 1.0))], [], {})
    (note,) = (note for note in table(comparison).footnotes if note.flag == "unequal budget")
    (text,) = note.texts
    assert text.endswith("weight decay 9 points, LAWN 6 points [Adam-LAWN − Adam 64]")


def test_a_cell_without_a_value_says_why() -> None:
    cell = make_cell()
    (untrained,) = compare([cell], [], {}).cells
    (diverged,) = compare([cell], search_rows(cell, ["diverged"] * 9), {}).cells
    assert (value_text(untrained), value_text(diverged)) == ("–", "diverged")


def test_it_is_said_for_how_many_pairs_the_intervals_hold_together(comparison: Comparison) -> None:
    assert "all 6 pairs of the space" in (family_text(comparison) or "")
    assert family_text(replace(comparison, pairs=())) is None
    for pair in comparison.pairs:
        assert pair.difference is None or "95 % interval for all 6 pairs" in sentence(pair)


def test_the_papers_values_stand_beside_where_it_printed_them(comparison: Comparison) -> None:
    entries = table(comparison).entries
    assert entries["adam", 1_000].published == "66.01"
    assert entries["lamb-lawn", 100_000].published == "66.52"
    assert any("not measured here" in text for text in table(comparison).remarks)
    published = comparison.cells[0].cell
    other = replace(published, name=replace(published.name, batch_size=7), task=replace(published.task, batch_size=7))
    alone, both = (table(compare(cells, [], {})) for cells in ([other], [other, published]))
    assert {entry.published for entry in alone.entries.values()} == {""}
    assert not any("not measured here" in text for text in alone.remarks)
    assert any("not measured here" in text for text in both.remarks)


def test_how_differences_are_counted_is_said_where_there_is_one(comparison: Comparison) -> None:
    pending = tuple(pair for pair in comparison.pairs if not pair.difference)
    assert 0 < len(pending) < len(comparison.pairs)
    for shown, said in ((comparison, True), (replace(comparison, pairs=pending), False)):
        assert any("Differences are paired" in text for text in table(shown).remarks) == said


@pytest.mark.parametrize(
    ("value", "plain", "with_sign"),
    [(0.424, "0.42", "+0.42"), (-0.426, "−0.43", "−0.43"), (-0.001, "0.00", "0.00"), (12.0, "12.00", "+12.00")],
)
def test_numbers_have_true_signs_and_no_negative_zero(value: float, plain: str, with_sign: str) -> None:
    assert (fixed(value, 2), signed(value, 2)) == (plain, with_sign)


@pytest.mark.parametrize(
    ("name", "changes"),
    [("device", {"device": "x"}), ("lawn_tune", {"lawn_tune": "x"}), ("libraries.torch", {"libraries.torch": "x"})],
)
def test_trials_of_several_devices_and_versions_are_remarked_on(name: str, changes: dict[str, Any]) -> None:
    cell = make_cell()
    rows = search_rows(cell, [50.0] * 9)
    moved = replace(rows[0], provenance={**rows[0].provenance, **changes})
    missing = f"Not finished: Adam at batch {cell.name.batch_size} (3 trials missing)."
    assert table(compare([cell], rows, {})).remarks == (missing,)
    _, remark = table(compare([cell], [moved, *rows[1:]], {})).remarks
    assert f"same {name}: " in remark
    assert "x" in remark.partition(": ")[2]


def test_trials_on_different_data_are_remarked_on() -> None:
    cell = make_cell()
    rows = [
        replace(row, provenance=dict(row.provenance) | {"data sha256": "a1b2"}) for row in search_rows(cell, [50.0] * 9)
    ]
    other = replace(rows[0], provenance=dict(rows[0].provenance) | {"data sha256": "c3d4"})
    older = replace(rows[0], provenance={k: v for k, v in rows[0].provenance.items() if k != "data sha256"})
    for first in (rows[0], older):
        assert not any("same data" in text for text in table(compare([cell], [first, *rows[1:]], {})).remarks)
    (remark,) = [text for text in table(compare([cell], [other, *rows[1:]], {})).remarks if "same data" in text]
    assert "a1b2 or c3d4" in remark


# --- formats ---------------------------------------------------------------------------------------------------------


def test_every_text_format_says_verdicts_numbers_and_caveats(comparison: Comparison) -> None:
    rows = table(comparison)
    for name in ("md", "latex", "rich"):
        text = " ".join(rendered(comparison)[name].split())
        for result in comparison.cells:
            assert result.estimate is not None
            assert f"{result.estimate.mean:.2f}" in text, name
        for note in rows.footnotes:
            assert note.flag.value in text, name
        assert rows.headline in text, name
        for header in DIFFERENCE_HEADER:
            assert header in text.replace("\\", ""), name


def test_every_sentence_of_a_caveat_has_a_line_of_its_own(comparison: Comparison) -> None:
    texts = [text for note in table(comparison).footnotes for text in note.texts]
    assert texts
    for name, start, escape, end in (("md", "  - ", escaped, ""), ("latex", r"\quad ", tex, r"\par")):
        lines = RENDERERS[name](comparison).splitlines()
        assert [line for line in lines if line.startswith(start)] == [f"{start}{escape(text)}{end}" for text in texts]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_width_cuts_a_value_or_breaks_a_number(comparison: Comparison, width: int) -> None:
    text, rows = printed(comparison, width), table(comparison)
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    for entry in rows.entries.values():
        assert entry.text in text
    for row in rows.differences:
        assert row.difference in text
        assert row.verdict in text


def test_without_a_pair_there_is_no_table_of_differences() -> None:
    lonely = compare([make_cell()], [], {})
    for name, text in rendered(lonely).items():
        if name in ("md", "latex", "rich"):
            assert "95 % interval" not in text
            assert "Paired differences" not in text


def test_latex_has_labels_short_captions_and_notes_below(comparison: Comparison) -> None:
    text = RENDERERS["latex"](comparison)
    assert text.endswith("\\end{table}\n")
    captions = re.findall(r"\\caption\{(.*)\}\n\\label\{(.*)\}", text)
    assert [label for _, label in captions] == ["tab:lawn-movielens-100k", "tab:lawn-movielens-100k-differences"]
    assert all(len(caption) < 100 for caption, _ in captions)
    first = text.split(r"\end{table}")[0]
    below = first.split(r"\end{tabular}")[1]
    assert all(note.flag.value in below for note in table(comparison).footnotes)


def test_markdown_tables_are_rectangles(comparison: Comparison) -> None:
    lines = [line for line in RENDERERS["md"](comparison).splitlines() if line.startswith("|")]
    widths = [len(re.split(r"(?<!\\)\|", line)) for line in lines]
    assert widths == [6] * 6 + [8] * 8


def test_latex_rows_match_their_columns_and_braces_balance(comparison: Comparison) -> None:
    text = RENDERERS["latex"](renamed(comparison, HOSTILE))
    bare = re.sub(r"\\[{}\\]", "", text)
    assert bare.count("{") == bare.count("}")
    for body in re.findall(r"\\begin\{tabular\}\{(l?r+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        rows = [line for line in body[1].splitlines() if line.endswith(r"\\")]
        assert len(rows) > 1
        assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(body[0])}
    assert re.search(r"\\mathbf\{\d\d\.\d\d\}_\{\d\.\d\d\}\$ \(10\)", text)


def test_csv_keeps_numbers_numbers(comparison: Comparison) -> None:
    records = list(csv.DictReader(io.StringIO(RENDERERS["csv"](comparison))))
    assert len(records) == len(comparison.cells)
    for record, result in zip(records, comparison.cells, strict=True):
        assert result.estimate is not None
        assert float(record["mean"]) == result.estimate.mean
        assert int(record["n"]) == result.estimate.n
    differences = {float(r["difference"]) for r in records if r["difference"]}
    assert differences == {pair.difference.mean for pair in comparison.pairs if pair.difference}
    assert any(value < 0 for value in differences)


def test_csv_has_every_pair_of_json_once_and_every_cell() -> None:
    path = Path(__file__).parents[2] / "docs/results/movielens_100k_controls.bundle"
    with reading_space(str(path), None) as (ledger, space):
        comparison = compare_space(ledger, space)
    values = json.loads(RENDERERS["json"](comparison))
    records = list(csv.DictReader(io.StringIO(RENDERERS["csv"](comparison))))
    cells = [f"{space}/{line['optimizer']}/bs{line['batch_size']}" for line in records]
    assert list(dict.fromkeys(cells)) == [cell["cell"] for cell in values["cells"]]
    means = {cell["cell"]: cell["estimate"]["mean"] for cell in values["cells"]}
    assert all(float(line["mean"]) == means[cell] for cell, line in zip(cells, records, strict=True))
    shown = [
        (cell, f"{space}/{line['baseline']}/bs{line['batch_size']}", float(line["difference"]), line["verdict"])
        for cell, line in zip(cells, records, strict=True)
        if line["baseline"]
    ]
    pairs = [(p["challenger"], p["baseline"], p["difference"]["mean"], p["verdict"]) for p in values["pairs"]]
    assert len({challenger for challenger, *_ in pairs}) < len(pairs), "a challenger has several baselines"
    assert sorted(shown) == sorted(pairs)


def test_the_terminal_shows_the_result_then_tables_then_a_sentence_a_pair(comparison: Comparison) -> None:
    rows, text = table(comparison), printed(comparison)
    parts = (
        rows.headline,
        rows.overall,
        rows.title,
        rows.differences_title,
        *rows.sentences,
        rows.footnotes[0].texts[0],
    )
    plain = "".join(text.split()).lower()
    places = [plain.rindex("".join(part.split()).lower()) for part in parts]
    assert places == sorted(places)


@pytest.mark.parametrize("space", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1", "\n=1", "|cmd", HOSTILE])
def test_csv_text_is_never_a_formula(comparison: Comparison, space: str) -> None:
    text = RENDERERS["csv"](renamed(comparison, space))
    records = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(records) == len(comparison.cells)
    for record in records:
        assert record["space"] == "'" + space.replace("\r", "\n")


def test_every_format_of_texts_makes_the_same_statement_over_all_cells(comparison: Comparison) -> None:
    assert comparison.overall is not None
    text = overall_sentence(comparison.overall)
    assert "on average over" in text
    assert "Each doubling of the batch size" in text
    assert to_dict(comparison)["overall"]["sentence"] == text
    for name, shown in rendered(comparison).items():
        if name not in ("csv", "json"):  # one has no texts, the other has it above
            letters = re.sub(r"\\times|[^A-Za-z0-9.]", "", shown)
            assert re.sub(r"[^A-Za-z0-9.]", "", text) in letters, name


def test_json_is_stable_and_complete(comparison: Comparison) -> None:
    values = json.loads(RENDERERS["json"](comparison))
    assert values == to_dict(comparison)
    assert values["schema"] == SCHEMA == "lawn-tune/comparison/2"
    assert list(values) == [
        "schema", "lawn_tune", "space", "about", "headline", "protocol", "cells", "overall", "pairs", "references",
        "provenance",
    ]  # fmt: skip
    assert list(values["cells"][0]) == [
        "cell", "task", "grid", "points", "winner", "estimate", "published", "seconds", "notes"
    ]  # fmt: skip
    assert list(values["cells"][0]["estimate"]) == [
        "phase", "value", "mean", "standard_error", "n", "seeds", "values"
    ]  # fmt: skip
    assert list(values["pairs"][0]) == [
        *("baseline", "challenger", "difference", "verdict", "interim", "seeds_added"),
        *("conditional_on_winners", "sentence", "to_decide", "notes"),
    ]  # fmt: skip
    assert list(values["pairs"][0]["difference"]) == [
        "mean", "n", "seeds", "examples", "interval", "pairs", "margin", "detectable", "seeds_needed"
    ]  # fmt: skip
    for name in ("metric", "selection", "reported", "search_seeds", "confirm_seeds", "full_epochs"):
        assert name in values["protocol"]


def test_a_comparison_that_has_nothing_yet_renders_in_every_format() -> None:
    for text in rendered(compare([make_cell(), make_cell("adam-lawn")], [], {})).values():
        assert "adam" in text.lower()


def test_hostile_names_are_inert_in_every_format(comparison: Comparison) -> None:
    texts = rendered(renamed(comparison, HOSTILE))
    assert "<script" not in texts["md"]
    assert HOSTILE in " ".join(texts["rich"].splitlines())
    assert json.loads(texts["json"])["space"] == HOSTILE
    title = next(line for line in texts["latex"].splitlines() if line.startswith(r"\caption"))
    assert r"\textbackslash{}\&\%\#" in title
    assert "<" not in title.replace("$<$", "")


@pytest.mark.parametrize("changes", [{"selection": "test"}, {"reported": "best"}])
def test_a_flagged_protocol_is_flagged_in_every_output(changes: dict[str, Any]) -> None:
    cells = [with_protocol(make_cell(name), **changes) for name in ("adam", "adam-lawn")]
    flag = {"selection": "selected on test", "reported": "best epoch"}[next(iter(changes))]
    for text in rendered(compare(cells, [], {})).values():
        assert flag in text


def test_names_of_cells_survive_the_exchange(comparison: Comparison) -> None:
    names = [CellName.parse(cell["cell"]) for cell in to_dict(comparison)["cells"]]
    assert names == [result.cell.name for result in comparison.cells]
