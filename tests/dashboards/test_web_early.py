"""The page in the server's first answer: it says what the page will say, asks the ledger for nothing, and gives way."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import dash_mantine_components as dmc
import pytest
from dash import html
from hypothesis import given
from hypothesis import strategies as st

from dashboards.web import components
from dashboards.web.cards import Block, page
from dashboards.web.early import early, html_of
from dashboards.web.markup import Markup, tree
from dashboards.web.page import Page
from dashboards.web.pages import PAGES
from dashboards.web.security import Access
from dashboards.web.snapshot import Snapshots
from lawn_tune.errors import LedgerError
from tests.dashboards.test_web_markup import described, elements
from tests.helpers.browser import Browse, serving
from tests.helpers.memory_source import MemorySource, confirm_rows, demo_source, make_cell, search_rows

EVIL = "<img src=x onerror=alert(1)>"
SPACE = "movielens_100k"
LISTED = [page.path for page in PAGES if page.listed]


@pytest.fixture(scope="module")
def demo() -> MemorySource:
    return demo_source(epochs=10)


@pytest.fixture
def warm(demo: MemorySource) -> Snapshots:
    """Snapshots that have compared the first space, as those of `lawn-tune dashboard` have when it starts."""
    snapshots = Snapshots(demo, lambda: {})
    snapshots.warm()
    return snapshots


def shown(snapshots: Snapshots, path: str = "/", pages: Sequence[Page] = PAGES, **query: str) -> str:
    return early(snapshots, pages, path, {name: [value] for name, value in query.items()})


# --- HTML -------------------------------------------------------------------------------------------------------------


class Read(HTMLParser):
    """Reads HTML as `described` describes components."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[Any] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self._text(data)

    def _text(self, data: str) -> None:
        if self.found and isinstance(self.found[-1], str):
            data = self.found.pop() + data
        self.found.append(data)


def joined(parts: list[Any]) -> list[Any]:
    """Neighboring texts are one in HTML."""
    found: list[Any] = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            part = found.pop() + part
        found.append(part if isinstance(part, str) else (part[0], {_name(k): v for k, v in part[1].items()}))
    return [part for part in found if part != ""]


def _name(prop: str) -> str:
    return {"className": "class"}.get(prop, prop)


@given(st.recursive(st.builds(html.Span), elements, max_leaves=12))
def test_every_text_element_and_attribute_is_there(component: Any) -> None:
    expected = joined(list(described(component)))
    for content in (component, Markup(tree(component))):
        assert Read(html_of(content)).found == expected


def test_attributes_are_those_of_html() -> None:
    content = html.Label(
        [html.A("x", href="#main"), html.Img(alt="", width=20), html.Details(open=True), dmc.Select(className="space")],
        htmlFor="space",
        id="label",
        style={"minHeight": "3px", "color": "red"},
        **components.data(nav="/"),
        **components.aria(labelledby="one two"),
    )
    assert html_of(content) == (
        '<label id="early-label" for="early-space" style="min-height:3px;color:red"'
        ' aria-labelledby="early-one early-two"><a href="#early-main">x</a><img alt="" width="20">'
        '<details open></details><div class="space"></div></label>'
    )


def test_names_are_only_text() -> None:
    source = MemorySource()
    cells = [make_cell("adam", space=EVIL), make_cell("adam-lawn", space=EVIL)]
    source.planned.extend(cells)
    for cell in cells:
        rows = search_rows(cell, [90.0 + i for i in range(9)])
        source.rows.extend([*rows, *confirm_rows(cell, rows[8].hyperparameters, (95.0, 96.0, 97.0))])
    snapshots = Snapshots(source, shown=EVIL)
    snapshots.warm()
    for path in LISTED:
        tags = [part for part in Read(shown(snapshots, path, space=EVIL, batch=EVIL)).found if part[0] == "img"]
        assert [attributes["src"] for _, attributes in tags] == ["/assets/icon.svg"]


def test_every_link_leads_to_the_same_dashboard(demo: MemorySource) -> None:
    snapshots = Snapshots(demo, lambda: {}, base_path="/lawn")
    snapshots.warm()
    parts = [part for path in LISTED for part in Read(shown(snapshots, path)).found]
    links = [part[1]["href"] for part in parts if isinstance(part, tuple) and "href" in part[1]]
    assert len(links) > 8 * len(LISTED)
    assert {link.split("?")[0].rsplit("/", 1)[0] for link in links if link != "#early-main"} == {"/lawn"}


# --- no waiting -------------------------------------------------------------------------------------------------------


def test_the_ledger_is_not_asked(warm: Snapshots, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("the ledger was asked")

    for name in ("spaces", "latest", "cells", "trials", "curves", "examples", "version"):
        monkeypatch.setattr(MemorySource, name, asked)
    for path in LISTED:
        text = shown(warm, path)
        assert f'<h1 id="early-title" tabindex="-1">{next(p.title for p in PAGES if p.path == path)}</h1>' in text
        assert "This cannot be shown" not in text


def test_what_was_never_read_is_not_waited_for(demo: MemorySource) -> None:
    snapshots = Snapshots(demo)
    assert shown(snapshots) == ""
    reads, go = threading.Event(), threading.Event()
    trials = demo.trials

    class Slow(MemorySource):
        def trials(self, space: str) -> Any:
            reads.set()
            assert go.wait(60)
            return trials(space)

    slow = Snapshots(Slow(demo.planned, demo.rows, demo.outcomes, demo.series))
    reader = threading.Thread(target=slow.warm)
    reader.start()
    assert reads.wait(60)
    assert shown(slow) == ""
    go.set()
    reader.join()
    assert "better than" in shown(slow)


def test_an_unknown_space_or_page_is_no_error(warm: Snapshots) -> None:
    assert shown(warm, space="no such space") == ""
    assert "There is no page at this address." in shown(warm, "/nowhere")
    spaces = ["no such space", SPACE]  # the last one counts, as in the browser
    assert early(warm, PAGES, "/", {"space": spaces}) == shown(warm) != ""


def test_a_card_that_fails_waits_for_its_own_report(warm: Snapshots) -> None:
    def broken(view: Any) -> Any:
        raise RuntimeError("no such thing")

    lab = page(path="/lab", title="Lab", order=9, cards=[Block(name="lab-x", title="X", render=broken, early=True)])
    text = shown(warm, "/lab", pages=[lab])
    assert '<div id="early-lab-x-body" class="body waiting"></div>' in text


def test_a_ledger_that_fails_later_leaves_the_page_as_it_was(demo: MemorySource) -> None:
    broken = False

    class Failing(MemorySource):
        def version(self, space: str) -> str:
            if broken:
                raise LedgerError("the database is gone")
            return super().version(space)

    snapshots = Snapshots(Failing(demo.planned, demo.rows, demo.outcomes, demo.series), clock=lambda: clock)
    clock = 0.0
    snapshots.warm()
    before = shown(snapshots)
    broken, clock = True, 1e6
    assert shown(snapshots) == before != ""


def test_it_is_for_those_who_may_look(warm: Snapshots) -> None:
    with serving(warm, Access(token="secret")) as address, pytest.raises(HTTPError) as refused:
        urlopen(address, timeout=60)
    assert refused.value.code == 401
    assert b"better than" not in refused.value.read()


# --- in the browser ---------------------------------------------------------------------------------------------------

SAME = """async () => {
    const text = await (await fetch(location.href)).text();
    const first = new DOMParser().parseFromString(text, "text/html").getElementById("early");
    const plain = (node) => {
        const copy = node.cloneNode(true);
        for (const element of [copy, ...copy.querySelectorAll("*")]) {
            const style = element.style.cssText;
            for (const name of ["id", "data-nav", "style", "data-dash-is-loading"]) element.removeAttribute(name);
            if (style) element.setAttribute("data-style", style);
        }
        return copy.outerHTML;
    };
    const bodies = [...first.querySelectorAll(".body:not(.waiting)")];
    return bodies.map((body) => {
        const live = document.getElementById(body.id.replace("early-", ""));
        return [body.id, plain(body), plain(live)];
    });
}"""


@pytest.mark.parametrize("path", LISTED)
def test_it_says_what_the_page_says(browse: Browse, warm: Snapshots, path: str) -> None:
    site = browse(warm)
    page = site.open(path)
    assert page.locator("#early").count() == 0
    compared = page.evaluate(SAME)
    flagged = {"/": 4, "/compare": 1, "/cell": 2, "/dynamics": 0, "/tuning-curve": 2, "/progress": 4}
    assert len(compared) == flagged[path] + 1  # and what is damaged
    for name, first, live in compared:
        assert first == live, name


def test_it_leaves_even_if_the_page_never_comes(browse: Browse, warm: Snapshots) -> None:
    site = browse(warm)
    site.page.route("**/_dash-update-component", lambda route: route.abort())
    site.page.goto(site.address)
    site.until("!document.getElementById('early') && document.getElementById('live')?.textContent")
    assert site.page.locator("header.top").count() == 1
    site.problems.clear()


def test_without_scripts_the_verdict_is_read(browse: Browse, warm: Snapshots, chromium: Any) -> None:
    address = browse(warm).address
    with chromium.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(address)
        assert "better than" in page.locator(".statement").inner_text()
        assert "JavaScript" in page.locator("noscript").inner_text()
        page.get_by_role("link", name="Compare").click()
        assert page.locator("#early .compare-answer .body").is_visible()
