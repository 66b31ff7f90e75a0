"""Invariants of the report: complete in itself, inert to hostile names, every number with its n."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dashboards import cli as command
from dashboards.report import Format, report, save
from dashboards.report.contents import NO_VALUE, contents
from dashboards.report.html_page import unpacked
from dashboards.report.text import SCHEMA
from lawn_tune.cli.source import elsewhere, option
from lawn_tune.comparison.compare import compare, compare_space
from lawn_tune.comparison.comparison import Comparison
from lawn_tune.comparison.renderers.exchange import to_dict
from lawn_tune.comparison.tables import table
from lawn_tune.errors import UsageError
from lawn_tune.planning.plan import plan, select
from lawn_tune.planning.spaces import find_space
from lawn_tune.results import Outcome
from lawn_tune.words import duration
from tests.helpers.browser import NARROW, Stages, watched
from tests.helpers.memory_source import MemorySource, demo_source, make_cell, search_rows, with_protocol
from trainables.tasks import model_config

EVIL = "</script><script>alert('1')</script><img src=x onerror=\"alert(2)\">&"


class Page(HTMLParser):
    """Reads a page into its tags, its visible text and its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.visible: list[str] = []
        self._within: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style", "title"):
            self._within.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if self._within and self._within[-1] == tag:
            self._within.pop()

    def handle_data(self, data: str) -> None:
        if self._within and self._within[-1] == "script":
            self.scripts[-1] += data
        elif not self._within:
            self.visible.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.visible).split())


@pytest.fixture(scope="module")
def source() -> MemorySource:
    return demo_source(epochs=300)


@pytest.fixture(scope="module")
def comparison(source: MemorySource) -> Comparison:
    return compare_space(source, "movielens_100k")


@pytest.fixture(scope="module")
def html(source: MemorySource, comparison: Comparison) -> str:
    return report(source, comparison)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def hostile() -> tuple[MemorySource, Comparison]:
    """A comparison in which every text that comes from outside tries to break out."""
    cells = [make_cell(name, space=EVIL) for name in ("adam", "adam-lawn")]
    source = MemorySource(cells)
    for cell in cells:
        rows = search_rows(cell, [80.0 if i == 4 else 50.0 for i in range(9)])
        source.rows += [replace(row, provenance={"device": EVIL, EVIL: EVIL, "started": EVIL}) for row in rows]
    return source, compare(cells, source.rows, {})


def test_the_page_loads_nothing(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "img", "base", "form"), tag
        for name in ("src", "srcset", "action", "poster", "background", "data"):
            assert name not in attributes, (tag, name)
        assert (attributes.get("href") or "#").startswith("#"), attributes


def test_every_section_has_content_of_its_own_and_none_is_inside_another(html: str) -> None:
    sections = re.findall(r"<section.*?(?=<section|</main>)", html, re.DOTALL)
    for section in sections:
        assert section.count("</section>") == 1
        content, after = section.split("</section>")
        assert not after.strip()
        assert content.count("<h2>") == ("aria-label" not in content.splitlines()[0])
        assert re.sub(r"<[^>]+>", "", content.partition("</h2>")[2] or content).strip()


def test_no_style_reaches_out(html: str) -> None:
    (css,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert not re.search(r"url\(|@import|http", css)


def test_its_policy_forbids_every_request_and_admits_its_own_scripts_only(page: Page) -> None:
    (policy,) = [a["content"] or "" for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    scripts = re.findall(r"script-src ([^;]*);", policy)[0]
    assert "unsafe" not in scripts
    kinds = [attributes.get("type") for tag, attributes in page.tags if tag == "script"]
    library, script = unpacked(page.scripts[1]), page.scripts[2]
    assert kinds == ["text/plain", "text/plain", None]
    run = [library, script]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run]
    assert set(scripts.split()) == {f"'sha256-{digest}'" for digest in hashes}


def test_it_is_small_enough_to_mail(html: str) -> None:
    assert len(html.encode()) < 2_000_000


def test_equal_ledgers_give_equal_pages(source: MemorySource, comparison: Comparison, html: str) -> None:
    assert report(source, comparison) == html


def test_it_shows_every_number_of_the_tables_with_its_n(page: Page, comparison: Comparison) -> None:
    rows = table(comparison)
    for entry in rows.entries.values():
        assert entry.text in page.text
        assert re.search(r"\((\d+|search, \d)\)$", entry.text)
    for row in rows.differences:
        for value in (row.methods, row.difference, row.interval, row.n, row.verdict):
            assert value in page.text


def test_it_shows_verdicts_caveats_protocol_and_what_to_type(page: Page, comparison: Comparison) -> None:
    rows = table(comparison)
    for text in (rows.headline, *rows.sentences, rows.caption, *rows.remarks):
        assert text in page.text
    for note in rows.footnotes:
        assert note.flag.value in page.text
        assert all(text in page.text for text in note.texts)
    for text in (
        "movielens-100k", "search seeds 0, 1", "101, 102, 103", "2.14.1", "cpu: x86_64", "embeddings included",
        "2026-11-24", "lawn-tune launch movielens_100k --cells", "--seeds 10", "crossed random effects",
    ):  # fmt: skip
        assert text in page.text, text


def test_every_mark_leads_to_its_caveat(page: Page) -> None:
    ids = [attributes.get("id") for _, attributes in page.tags if attributes.get("id")]
    targets = {(a.get("href") or "")[1:] for tag, a in page.tags if tag == "a"}
    assert targets <= set(ids)
    assert len(ids) == len(set(ids))
    assert any(target.startswith("note-") for target in targets)


def test_every_figure_has_a_place_a_height_and_words(page: Page) -> None:
    data = json.loads(unpacked(page.scripts[0]))
    places = {a["id"]: a for tag, a in page.tags if tag == "figure"}
    assert set(data["figures"]) == set(places)
    assert len(places) == 2 + 3 + 12 + 12 + 6 + 6  # two; curves; grids; levels; free phases; tuning curves
    assert all(a["aria-label"] and "height:" in (a["style"] or "") for a in places.values())
    assert "<" not in page.scripts[0] + page.scripts[1]
    assert set(data["templates"]) == {"light", "dark"}
    assert data["config"]["showSendToCloud"] is False


def test_a_browser_draws_every_figure_and_complains_of_nothing(stages: Stages, html: str, tmp_path: Path) -> None:
    """The library unpacks to the text whose hash the policy allows; a finger on a figure scrolls the page."""
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    site = watched(stages.context, "file://")
    site.page.goto((tmp_path / "report.html").as_uri())
    site.until("document.querySelectorAll('figure.plot .main-svg').length")
    site.until("[...document.querySelectorAll('figure.plot')].every((plot) => plot.querySelector('.main-svg'))")
    site.page.set_viewport_size(NARROW)
    assert site.swiped("figure.plot") > 150
    site.page.emulate_media(media="print")
    for grid in site.page.locator(".grid").all():
        tops = grid.locator("figure").evaluate_all("all => all.map((one) => one.offsetTop)")
        assert tops[::2][: len(tops) // 2] == tops[1::2], "two in a line, which no page breaks"
    assert site.problems == []
    stages.clear()


def test_hostile_names_stay_text() -> None:
    text = report(*hostile())
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert "img" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert " ".join(EVIL.split()) in page.text
    json.loads(unpacked(page.scripts[0]))


def test_it_admits_what_is_missing() -> None:
    cell = make_cell()
    source = MemorySource([cell], search_rows(cell, ["diverged"] * 9))
    text = Page(report(source, compare([cell], source.rows, {}))).text
    for words in ("No pair is confirmed", "No cell has a value", "no winner", "every point of the grid diverged"):
        assert words in text, words


def test_a_clean_comparison_has_no_caveat() -> None:
    cells = [make_cell(name, lrs=(0.1,), frees=(1.0,), decays=(0.1,)) for name in ("adam", "adam-lawn")]
    cells = [with_protocol(cell, confirm_seeds=()) for cell in cells]
    source = MemorySource(cells, [row for cell in cells for row in search_rows(cell, [80.0])])
    comparison = compare(cells, source.rows, {})
    clean = replace(comparison, cells=tuple(replace(result, notes=()) for result in comparison.cells), pairs=())
    assert "None: every grid is complete" in Page(report(source, clean)).text


def typed(comparison: Comparison, storage: str | None = None) -> str:
    return Page(report(MemorySource(), comparison, storage)).text


def test_it_types_a_placeholder_for_a_file_it_does_not_know() -> None:
    text = typed(compare([with_protocol(make_cell(space="mine"), full_epochs=99)], [], {}))
    assert "lawn-tune launch path/to/mine.toml --cells adam/bs64 --seeds 3 --max-epochs 20" in text
    assert "lawn-tune compare mine" in text
    assert "--storage" not in text


def test_it_fetches_a_data_set_that_is_not_bundled() -> None:
    cells = [make_cell(dataset=name) for name in ("movielens-100k", "digits")]
    for some, fetched in ((cells[:1], ["lawn-tune data fetch movielens-100k"]), (cells[1:], [])):
        listed = contents(compare(some, [], {}), [], "sqlite:///a.db").commands
        assert [text for text in listed if "fetch" in text] == fetched == [*listed[:-3]]


def test_it_names_the_ledger_without_its_password() -> None:
    text = typed(compare([make_cell()], [], {}), "postgresql://me:hush@host/name")
    for name in ("launch digits --cells adam/bs64 --seeds 3", "compare digits", "report digits"):
        assert f"lawn-tune {name} --storage 'postgresql://me:***@host/name'" in text
    assert "hush" not in text


def test_it_says_where_draws_of_the_tuning_curve_hold_no_value() -> None:
    lost: list[float | Outcome] = ["diverged"] * 3
    for values, added in (([60.0] * 9, False), ([*lost, *[60.0] * 6], True)):
        cells = [make_cell(name) for name in ("adam", "adam-lawn")]
        rows = [row for cell in cells for row in search_rows(cell, values)]
        text = report(MemorySource(cells, rows), compare(cells, rows, {}), None, "md")
        assert (NO_VALUE in text) == added


def test_its_protocol_lists_every_distinct_value() -> None:
    cells = [make_cell("adam"), make_cell("adam-lawn")]
    cells[1] = replace(
        cells[1], task=replace(cells[1].task, model=model_config("small-vgg", width=4), dataset="synthetic")
    )
    text = typed(compare(cells, [], {}))
    assert "digits | synthetic" in text
    assert "small-vgg (width 16) | small-vgg (width 4)" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119.4, "119 s"), (150, "2 min"), (7200, "2.0 h"), (359_000, "99.7 h"), (3.6e7, "10,000 h")],
)
def test_times_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, source: MemorySource) -> MemorySource:
    """The ledger that the command opens."""

    @contextmanager
    def reading(storage: str | None) -> Iterator[MemorySource]:
        yield source

    @contextmanager
    def reading_space(space: str, storage: str | None) -> Iterator[tuple[MemorySource, str]]:
        yield source, space

    monkeypatch.setattr(command, "reading", reading)
    monkeypatch.setattr(command, "reading_space", reading_space)
    return source


def test_the_command_writes_the_page_under_the_spaces_name(
    opened: MemorySource, html: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command.report("movielens_100k")
    assert (tmp_path / "lawn-report-movielens_100k.html").read_text(encoding="utf-8") == html
    assert "lawn-report-movielens_100k.html" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["lawn-report-movielens_100k.html"]


@pytest.mark.parametrize(
    ("space", "name"),
    [("digits", "lawn-report-digits.html"), ("../x/<y>", "lawn-report-..-x-y-.html")],
)
def test_the_default_name_stays_in_the_folder(space: str, name: str) -> None:
    assert str(command.default_path(space)) == name


def test_the_command_shows_the_page_which_ledger_it_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAWN_TUNE_STORAGE", raising=False)
    assert (elsewhere(None), option(None)) == (None, "")
    assert elsewhere("sqlite:///study.db") == "sqlite:///study.db"
    assert option("sqlite:///my study.db") == "--storage 'sqlite:///my study.db'"


def test_a_path_that_cannot_be_written_is_named(opened: MemorySource, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        command.report("movielens_100k", output=tmp_path / "nowhere" / "page.html")


def test_a_failed_write_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    save("old", path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        save("new", path)
    assert path.read_text() == "old"


def test_unescaping_the_title_gives_the_name_back() -> None:
    source, comparison = hostile()
    title = re.search(r"<title>(.*?)</title>", report(source, comparison), re.DOTALL)
    assert title is not None
    assert unescape(title[1]).startswith(EVIL)


# --- Markdown and JSON -----------------------------------------------------------------------------------------------

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def test_every_number_of_the_markdown_is_in_the_json(source: MemorySource, comparison: Comparison) -> None:
    text = report(source, comparison, format="md")
    held = set(NUMBER.findall(report(source, comparison, format="json")))
    missing = [number for number in NUMBER.findall(text) if number not in held]
    assert len(NUMBER.findall(text)) > 500
    assert missing == []


def test_the_json_is_whole_and_finite(source: MemorySource, comparison: Comparison) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = json.loads(report(source, comparison, format="json"), parse_constant=refuse)
    assert found["schema"] == SCHEMA
    assert found["comparison"] == json.loads(json.dumps(to_dict(comparison)))
    assert found["headline"] == table(comparison).headline
    assert len(found["winners"]) == len(comparison.cells)
    assert {row["Method"] for row in found["sensitivity"]} == {"Adam", "Adam-LAWN", "LAMB", "LAMB-LAWN"}


def test_what_the_space_says_of_itself_is_in_every_format(source: MemorySource) -> None:
    about = ("Digits <b>here</b>", "A second paragraph.")
    source = replace(source, planned=[replace(cell, about=about) for cell in source.planned])
    comparison = compare_space(source, source.spaces()[0])
    assert json.loads(report(source, comparison, format="json"))["comparison"]["about"] == list(about)
    for format in ("md", "html"):
        text = report(source, comparison, format=format).replace("\\", "")
        assert "&lt;b&gt;here" in text
        assert about[1] in text


def test_the_page_and_the_markdown_show_the_same(source: MemorySource, comparison: Comparison, page: Page) -> None:
    found = contents(comparison, source.rows)
    text = report(source, comparison, format="md").replace("\\", "")
    for row in (*found.tuning_rows, *found.protocol, *(tuple(row.values()) for row in found.winners)):
        assert f"| {' | '.join(row)} |" in text
        assert " ".join(" ".join(row).split()) in page.text
    for line in found.commands:
        assert line in text
        assert line in page.text


def test_the_tables_of_the_markdown_are_rectangular(source: MemorySource, comparison: Comparison) -> None:
    text = report(source, comparison, format="md")
    for block in text.split("\n\n"):
        rows = [re.split(r"(?<!\\)\|", line) for line in block.splitlines() if line.startswith("|")]
        assert len({len(row) for row in rows}) <= 1, block


def test_hostile_names_stay_text_in_the_markdown() -> None:
    outside = "".join(report(*hostile(), format="md").split("```")[::2])  # in a fence, text is text
    assert "<script" not in outside
    assert "<img" not in outside


def launched(comparison: Comparison) -> tuple[str, ...]:
    """The patterns of --cells in the report's commands."""
    (launch,) = [text for text in contents(comparison, []).commands if text.startswith("lawn-tune launch ")]
    words = shlex.split(launch)
    return tuple(word for before, word in pairwise(words) if before == "--cells")


def test_the_command_launches_exactly_the_cells_that_are_compared() -> None:
    cells = plan(find_space("quickstart"))
    for some in (cells, cells[:1], cells[1:], cells[:2], cells[::3]):
        patterns = launched(compare(some, [], {}))
        assert select(cells, patterns) == some
    assert launched(compare(cells, [], {})) == ()
    assert launched(compare(cells[:2], [], {})) == ("adam/*",)
    own = [make_cell(name, space="mine") for name in ("adam", "adam-lawn")]
    assert launched(compare(own, [], {})) == ("adam/bs64", "adam-lawn/bs64")


@pytest.mark.parametrize("format", ["md", "json"])
def test_the_command_writes_other_formats(
    opened: MemorySource, comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: Format
) -> None:
    monkeypatch.chdir(tmp_path)
    command.report("movielens_100k", format=format)
    written = (tmp_path / f"lawn-report-movielens_100k.{format}").read_text(encoding="utf-8")
    assert written == report(opened, comparison, format=format)
