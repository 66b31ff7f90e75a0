"""The folder for a static host: every space is listed with the words of its report, and leads to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest

from dashboards import cli as command
from dashboards.report import report
from dashboards.report.static_site import Entry, doubled, missing, page_path, render_index
from lawn_tune.comparison.compare import compare_space
from lawn_tune.comparison.tables import table
from lawn_tune.errors import UsageError
from tests.helpers.memory_source import make_cell
from tests.helpers.studied import Damaged, studied

EVIL = '"><script>alert(1)</script>'


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Damaged:
    """The ledger that the command opens: two compared spaces and one without a result."""
    both, other = studied(), studied("digits_2")
    both.planned += [replace(cell, about=("A second study",)) for cell in other.planned]
    both.rows += other.rows
    both.series |= other.series
    both.planned += [make_cell("adam", space="empty"), make_cell("adam-lawn", space="empty")]

    @contextmanager
    def reading(storage: str | None) -> Iterator[Damaged]:
        yield both

    monkeypatch.setattr(command, "reading", reading)
    return both


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_the_list_says_what_each_report_says_and_leads_to_it(source: Damaged, tmp_path: Path) -> None:
    site = tmp_path / "a" / "site"
    command.report(site=site)
    index = (site / "index.html").read_text()
    links = [unquote(link) for link in re.findall(r'href="([^"]+)"', index)]
    assert sorted(site.rglob("*.html")) == sorted([site / "index.html", *(site / link for link in links)])
    for space in ("digits", "digits_2"):
        comparison = compare_space(source, space)
        text = (site / page_path(space)).read_text()
        assert text == report(source, comparison)
        rows = table(comparison)
        for sentence in (rows.headline, rows.overall):
            assert sentence in words(index)
            assert sentence in words(text)
    assert words(index).count("A second study") == 1
    assert "space 'empty' has no results yet" in words(index)


def test_one_space_can_be_written_alone_and_again(source: Damaged, tmp_path: Path) -> None:
    for _ in range(2):
        command.report("digits", site=tmp_path)
        found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
        assert found == ["index.html", "spaces/digits.html"]


def test_what_cannot_be_written_is_refused(source: Damaged, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="--site: cannot write"):
        command.report(site=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(UsageError, match="exclude each other"):
        command.report("digits", site=tmp_path, bundle=tmp_path / "x")
    with pytest.raises(UsageError, match="no SPACE was given"):
        command.report()


def test_hostile_names_stay_text_and_in_the_folder() -> None:
    html = render_index([Entry(EVIL, EVIL, "spaces/x.html", EVIL, "none", (EVIL,)), missing(EVIL, EVIL)])
    assert "<script" not in html
    assert html.count(unescape(EVIL).replace('"', "&#34;").replace("<", "&lt;").replace(">", "&gt;")) == 6
    for space in ("..", "../../x", "/etc/x", "index", EVIL):
        path = page_path(space)
        assert (path.parts[0], len(path.parts), path.suffix) == ("spaces", 2, ".html")
    assert list(doubled(["a", "b", "A"])) == [("A", "a")]
