"""The shell in a real browser: navigation, filters, theme, narrow screens, live refresh, hostile names."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

import pytest
from dash import html
from playwright.sync_api import Page as BrowserPage
from playwright.sync_api import expect

from dashboards.web.cards import Block, Card, Drawing, FigureCard, page
from dashboards.web.columns import link, number, outcome, text
from dashboards.web.components import choice
from dashboards.web.page import Empty, Page, View
from dashboards.web.pages import PAGES
from dashboards.web.security import Access
from dashboards.web.table_card import TableCard
from lawn_tune.results import Outcome
from tests.helpers.browser import Browse
from tests.helpers.memory_source import MemorySource, demo_source, make_cell, search_rows

EVIL = "<img src=x onerror=alert(1)>"


def make_source(space: str = "digits", values: Sequence[float | Outcome] = (90.0, 91.0, 92.0, 80.0)) -> MemorySource:
    """A space of two cells, Adam's trained in part."""
    source = MemorySource()
    cells = [make_cell("adam", space=space), make_cell("adam-lawn", space=space)]
    source.planned.extend(cells)
    known = list(values) + ["running"] * (9 - len(values))
    source.rows.extend(search_rows(cells[0], known)[: len(values)])
    return source


def drawn(view: View) -> Drawing:
    """A line through the values that the ledger holds now."""
    values = [row.summary.get("last/validation/accuracy") for row in view.snapshot.trials]
    trace = {"type": "scatter", "x": list(range(len(values))), "y": values, "mode": "lines+markers"}
    return Drawing({"data": [trace], "layout": {"height": 300}}, f"{len(values)} values")


def broken(view: View) -> html.Div:
    raise RuntimeError(f"no such thing as {view.space}")


def chosen(view: View) -> html.P:
    return html.P(f"batch {view.filters.one('batch', 'any')}, methods {'+'.join(view.filters['optimizer']) or 'all'}")


def rows_of(view: View) -> list[dict[str, object]]:
    return [
        {
            "key": row.key,
            "name": f"=HYPERLINK({row.key})",
            "value": -1.5,
            "outcome": row.outcome,
            "to": view.href("/"),
        }
        for row in view.snapshot.trials
    ]


COLUMNS = (
    text("name", "Name"),
    number("value", "Value", digits=2),
    outcome(),
    link("key", "Key", "to"),
)

CARDS: tuple[Card, ...] = (
    FigureCard(name="lab-line", title="Line", draw=drawn, height=300),
    Block(name="lab-chosen", title="Chosen", render=chosen),
    Block(name="lab-broken", title="Broken", render=broken),
    Block(
        name="lab-empty", title="Nothing", render=lambda view: Empty("Nothing yet.", "Launch it.", "lawn-tune launch")
    ),
    TableCard(name="lab-rows", title="Rows", columns=lambda view: COLUMNS, rows=rows_of),
)

LAB = page(
    path="/lab",
    title="Lab",
    order=99,
    cards=CARDS,
    lead=lambda view: f"A page of every card, of {view.space}.",
    controls=lambda view: [
        choice(view, "batch", "Batch", ["64", "128"], "64"),
        choice(view, "optimizer", "Methods", [("adam", "Adam"), ("adam-lawn", "Adam-LAWN")], multiple=True),
    ],
)

LABORATORY: tuple[Page, ...] = (*PAGES, LAB)


@pytest.fixture(scope="module")
def demo() -> MemorySource:
    return demo_source(epochs=40)


# --- navigation ------------------------------------------------------------------------------------------------------


def test_pages_change_by_click_without_a_reload(browse: Browse) -> None:
    site = browse(make_source(), pages=LABORATORY)
    page = site.open()
    page.evaluate("window.unreloaded = true")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Lab").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Lab")
    assert page.evaluate("window.unreloaded") is True
    assert page.url == f"{site.address}/lab?space=digits"
    expect(page).to_have_title("Lab · digits")
    expect(page.locator("nav [aria-current=page]")).to_have_text("Lab")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Verdict")


@pytest.mark.long
def test_a_page_that_is_left_asks_for_nothing_more(browse: Browse, demo: MemorySource) -> None:
    site = browse(demo, pages=LABORATORY)
    page = site.open("/compare")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(json.loads(request.post_data or "{}").get("output", "")))
    page.get_by_role("link", name="Tuning").click()
    expect(page.locator("#tuning-table table")).to_be_visible()
    site.settled()
    assert any(output.startswith("..tuning-table") for output in asked)
    assert not [output for output in asked if "compare-" in output]
    page.go_back()
    expect(page.locator("#compare-pairs table")).to_be_visible()


@pytest.mark.long
def test_the_last_of_several_clicks_decides(browse: Browse, demo: MemorySource) -> None:
    page = browse(demo).open("/compare")
    for name in ("Cell", "Tuning", "Compare"):
        page.evaluate("name => [...document.links].find((link) => link.text === name).click()", name)
        page.wait_for_timeout(20)  # faster than any page is laid out
    page.wait_for_timeout(1000)
    expect(page.locator("#title")).to_have_text("Compare")
    expect(page.locator("#compare-pairs table")).to_be_visible()
    assert urlsplit(page.url).path == "/compare"


def test_everything_is_reached_by_keyboard(browse: Browse) -> None:
    page = browse(make_source(), pages=LABORATORY).open()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    for _ in range(30):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.textContent") == "Lab":
            break
    ring = page.evaluate("getComputedStyle(document.activeElement).outline")
    assert "solid 2px" in ring
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Lab")
    page.get_by_label("Search Rows").focus()
    assert page.locator("div.search").evaluate("box => getComputedStyle(box).outline") == ring


def test_a_page_has_landmarks_and_every_control_a_name(browse: Browse) -> None:
    page = browse(make_source(), pages=LABORATORY).open("/lab")
    for landmark in ("header.top", "nav[aria-label=Pages]", "main", "body footer", "[role=search]"):
        expect(page.locator(landmark)).to_have_count(1)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input:not([type=hidden]), select, a[href]')].filter(e =>
            e.checkVisibility() && !e.closest('.ag-root') && !e.closest('.modebar') && !e.getAttribute('aria-label')
            && !e.textContent.trim() && !(e.labels && e.labels.length)).map(e => e.outerHTML)"""
    )
    assert nameless == []
    figure = page.get_by_role("figure", name="Line")
    assert page.locator(f"#{figure.get_attribute('aria-describedby')}").text_content() == "4 values"


def test_unknown_pages_and_spaces_are_shown(browse: Browse) -> None:
    site = browse(make_source(), pages=LABORATORY)
    expect(site.open("/nowhere").get_by_text("There is no page at this address.")).to_be_visible()
    site.problems.clear()  # the browser notes the answer 404
    expect(site.open(f"/lab?space={EVIL}").get_by_text(f"there is no space '{EVIL}'")).to_be_visible()


# --- filters ---------------------------------------------------------------------------------------------------------


def test_filters_live_in_the_address(browse: Browse) -> None:
    site = browse(make_source(), pages=LABORATORY)
    page = site.open("/lab?space=digits&optimizer=adam-lawn&batch=128")
    expect(page.get_by_text("batch 128, methods adam-lawn")).to_be_visible()
    page.locator("label", has_text="64").click()  # the default leaves the address
    expect(page.get_by_text("batch any, methods adam-lawn")).to_be_visible()
    assert page.url == f"{site.address}/lab?space=digits&optimizer=adam-lawn"
    page.get_by_label("Methods").first.click()
    page.get_by_role("option", name="Adam", exact=True).click()
    expect(page.get_by_text("batch any, methods adam-lawn+adam")).to_be_visible()
    page.go_back()
    page.go_back()
    expect(page.get_by_text("batch 128, methods adam-lawn")).to_be_visible()
    expect(page.get_by_role("radio", name="128")).to_be_checked()


def test_another_space_is_chosen_in_the_header(browse: Browse) -> None:
    source, other = make_source("alpha"), make_source("beta")
    source.planned += other.planned
    source.rows += other.rows
    site = browse(source, pages=LABORATORY)
    page = site.open("/lab?space=beta&batch=128")
    page.get_by_label("Space", exact=True).first.click()
    page.get_by_role("option", name="alpha").click()
    expect(page.get_by_text("A page of every card, of alpha.")).to_be_visible()
    assert page.url == f"{site.address}/lab?space=alpha"
    page.go_back()
    expect(page.get_by_text("A page of every card, of beta.")).to_be_visible()
    expect(page.get_by_text("batch 128")).to_be_visible()
    space = page.get_by_label("Space", exact=True).first
    assert space.input_value() == "beta"
    space.click()
    page.keyboard.type("alp")
    assert space.input_value() == "alp", "typing begins a new search"


# --- themes and widths -----------------------------------------------------------------------------------------------

INK = "getComputedStyle(document.querySelector('#lab-line .xtick text')).fill"
PAPER = "getComputedStyle(document.body).backgroundColor"


def test_the_theme_follows_the_system_until_one_is_chosen(browse: Browse) -> None:
    site = browse(make_source(), pages=LABORATORY, dark=True)
    page = site.open("/lab")
    page.wait_for_selector("#lab-line .xtick text")
    dark = page.evaluate(PAPER), page.evaluate(INK)
    page.emulate_media(color_scheme="light")
    expect(page.get_by_role("button", name="Switch to dark colors")).to_be_visible()
    site.until(f"{INK} !== '{dark[1]}'")
    light = page.evaluate(PAPER), page.evaluate(INK)
    assert light[0] != dark[0]
    page.get_by_role("button", name="Switch to dark colors").click()
    site.until(f"{INK} === '{dark[1]}'")
    page.reload()
    page.wait_for_selector("#lab-line .xtick text")
    assert (page.evaluate(PAPER), page.evaluate(INK)) == dark
    page.emulate_media(color_scheme="dark")
    page.emulate_media(color_scheme="light")  # a choice is kept whatever the system does
    assert page.evaluate(PAPER) == dark[0]


@pytest.mark.long
@pytest.mark.parametrize("path", [page.path for page in LABORATORY])
def test_no_page_scrolls_sideways(browse: Browse, demo: MemorySource, path: str) -> None:
    site = browse(demo, pages=LABORATORY)
    site.open(path)
    assert not site.overflowing()


# --- cards -----------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("width", [390, 320])
def test_the_tab_of_the_page_is_in_view_on_a_phone(browse: Browse, demo: MemorySource, width: int) -> None:
    site = browse(demo, viewport={"width": width, "height": 700})
    page = site.open("/tuning-curve?space=movielens_100k")
    nav, tab = (page.locator(place).bounding_box() for place in (".top nav", ".top nav [aria-current=page]"))
    assert nav is not None
    assert tab is not None
    assert nav["x"] <= tab["x"]
    assert tab["x"] + tab["width"] <= min(nav["x"] + nav["width"], width) + 1
    hidden = page.evaluate(
        "(() => { const n = document.querySelector('.top nav'); return n.scrollWidth - n.clientWidth; })()"
    )
    assert hidden == 0 or width < 390


def test_an_error_breaks_one_card_only(browse: Browse, caplog: pytest.LogCaptureFixture) -> None:
    page = browse(make_source(), pages=LABORATORY).open("/lab")
    expect(page.locator("#lab-broken").get_by_role("alert")).to_contain_text("RuntimeError in 'lab-broken'")
    assert "Traceback" not in page.content()
    assert "no such thing as digits" not in page.content()
    assert "no such thing as digits" in caplog.text
    expect(page.get_by_text("batch any")).to_be_visible()
    expect(page.locator("#lab-empty")).to_contain_text("Launch it.")


@pytest.mark.long
def test_figures_are_saved_from_the_browser(browse: Browse) -> None:
    page = browse(make_source(), pages=LABORATORY, dark=True).open("/lab?space=digits")
    page.wait_for_selector("#lab-line .xtick text")
    for kind, start in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Save Line as {kind}").click()
        assert download.value.suggested_filename == f"digits-lab-line.{kind.lower()}"
        content = download.value.path().read_bytes()
        assert content.startswith(start)
        if kind == "SVG":
            assert b"rgb(255, 255, 255)" in content  # on white, though the screen is dark


def test_tables_are_searched_and_saved_without_formulas(browse: Browse) -> None:
    source = make_source()
    page = browse(source, pages=LABORATORY).open("/lab")
    cells = page.locator("#lab-rows .ag-center-cols-container .ag-row")
    expect(cells).to_have_count(4)
    expect(page.locator("#lab-rows")).to_contain_text("−1.50")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save Rows as CSV").click()
    header, first, *_ = download.value.path().read_text("utf-8-sig").splitlines()
    key = source.rows[0].key
    assert header == '"name","value","outcome","key"'
    assert first == f'"\'=HYPERLINK({key})","-1.5","complete","{key}"'
    page.get_by_label("Search Rows").fill(key)
    expect(cells).to_have_count(1)


# --- live ------------------------------------------------------------------------------------------------------------


def test_a_running_study_shows_itself_and_keeps_zoom_and_filters(browse: Browse) -> None:
    source = make_source()
    page = browse(source, pages=LABORATORY).open("/lab?space=digits&batch=128")
    zoomed = zoom(page)
    source.rows.extend(search_rows(source.planned[1], [95.0] * 9)[:2])
    expect(page.locator("#lab-line-summary")).to_have_text("6 values")
    expect(page.locator("#lab-rows .ag-center-cols-container .ag-row")).to_have_count(6)
    assert page.evaluate(RANGE) == zoomed
    asked = parse_qs(urlsplit(page.url).query)
    assert (asked["space"], asked["batch"]) == (["digits"], ["128"])
    assert asked["zoom"][0].startswith("lab-line xaxis=")
    expect(page.get_by_text("batch 128")).to_be_visible()


@pytest.mark.long
def test_a_filter_that_a_figure_does_not_follow_leaves_it_as_it_is(browse: Browse) -> None:
    source = make_source()
    site = browse(source, pages=LABORATORY)
    page = site.open("/lab?space=digits")
    zoomed = zoom(page)
    page.evaluate(
        "document.querySelector('#lab-line .js-plotly-plot').on('plotly_afterplot', () => (window.again = 1))"
    )
    page.locator("label", has_text="128").click()
    expect(page.get_by_text("batch 128")).to_be_visible()
    site.settled()
    assert page.evaluate("window.again === undefined"), "it was drawn again"
    source.rows.extend(search_rows(source.planned[1], [95.0] * 9)[:1])
    expect(page.locator("#lab-line-summary")).to_have_text("5 values")
    assert page.evaluate(RANGE) == zoomed


RANGE = "document.querySelector('#lab-line .js-plotly-plot').layout.xaxis.range"


def zoom(page: BrowserPage) -> list[float]:
    """Zooms into the line and returns what is seen of it."""
    box = page.locator("#lab-line .nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"], steps=5)
    page.mouse.up()
    zoomed: list[float] = page.evaluate(RANGE)
    assert zoomed[1] - zoomed[0] < 2
    return zoomed


def test_an_empty_ledger_shows_how_to_launch_and_fills_by_itself(browse: Browse) -> None:
    source = MemorySource()
    page = browse(source, pages=LABORATORY).open("/progress")
    expect(page.get_by_text("Nothing has been launched into this ledger yet.")).to_be_visible()
    expect(page.get_by_text("lawn-tune launch quickstart")).to_be_visible()
    other = make_source()
    source.rows += other.rows
    source.planned += other.planned
    expect(page.get_by_role("heading", name="Cells")).to_be_visible()
    assert page.get_by_label("Space", exact=True).first.input_value() == "digits"


@pytest.mark.long
def test_a_slow_ledger_is_waited_for(browse: Browse) -> None:
    class Slow(MemorySource):
        """Takes longer to answer what has changed than a page waits before it asks again."""

        def version(self, space: str) -> str:
            time.sleep(3.0)
            return super().version(space)

    source = make_source()
    slow = Slow(planned=source.planned, rows=source.rows)
    page = browse(slow, pages=LABORATORY).open("/lab?space=digits")
    expect(page.locator("#lab-line-summary")).to_have_text("4 values")
    expect(page.locator("#live")).to_have_text("Live")
    slow.rows.extend(search_rows(slow.planned[1], [95.0] * 9)[:2])
    expect(page.locator("#lab-line-summary")).to_have_text("6 values")


@pytest.mark.long
def test_a_lost_server_is_shown_and_found_again(browse: Browse) -> None:
    site = browse(make_source(), pages=LABORATORY)
    page = site.open()
    page.route("**/_version*", lambda route: route.abort())
    expect(page.locator("#live")).to_contain_text("Not live: no connection to the server")
    page.unroute("**/_version*")
    expect(page.locator("#live")).to_have_text("Live")
    site.problems.clear()  # the browser's own note of the request that was cut


@pytest.mark.long
def test_names_of_what_every_object_has_do_not_blank_the_page(browse: Browse) -> None:
    names = ("constructor", "__proto__", "toString", "hasOwnProperty", "__defineGetter__", "valueOf")
    site = browse(make_source(), pages=LABORATORY)
    page = site.open("/lab?space=digits&" + "&".join(f"{name}=x" for name in names) + "&batch=128")
    expect(page.get_by_text("batch 128, methods all")).to_be_visible()
    page.locator("label", has_text="64").click()
    expect(page.get_by_text("batch any, methods all")).to_be_visible()
    site.settled()


@pytest.mark.long
def test_without_its_files_the_page_shows_why(browse: Browse) -> None:
    """A proxy that serves it below a path, without --base-path, finds no file of it."""
    site = browse(make_source())
    site.page.route("**/assets/**", lambda route: route.fulfill(status=404))
    site.page.route("**/_dash-component-suites/**", lambda route: route.fulfill(status=404))
    site.page.goto(site.address)
    expect(site.page.get_by_text("--base-path")).to_be_visible()
    site.problems.clear()
    site.page.unroute_all()
    expect(site.open().get_by_text("--base-path")).to_be_hidden()


# --- token -----------------------------------------------------------------------------------------------------------


def test_a_viewer_logs_in_once_and_is_asked_again_when_the_cookie_is_gone(browse: Browse) -> None:
    token = "correct-horse-battery-staple"
    site = browse(make_source(), access=Access(token=token))
    page = site.page
    page.goto(site.address)
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type("a wrong one")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Wrong token.")
    site.problems.clear()  # the browser notes the answer 401
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
    site.settled()
    expect(page.get_by_role("heading", level=1)).to_have_text("Verdict")
    assert token not in page.url
    assert page.evaluate("document.cookie") == ""  # scripts do not see it
    page.reload()
    site.settled()
    page.context.clear_cookies()
    expect(page.get_by_label("Token")).to_be_visible()
    site.problems.clear()


# --- hostile names ---------------------------------------------------------------------------------------------------


def test_hostile_names_are_only_text(browse: Browse) -> None:
    source = make_source(EVIL, (90.0, 91.0, "failed", 80.0))
    source.rows[2] = source.rows[2].__class__(**{**vars(source.rows[2]), "error": f"{EVIL}\n{EVIL}"})
    site = browse(source, pages=LABORATORY)
    page = site.open("/progress")
    page.on("dialog", lambda dialog: site.problems.append("a script of a name ran"))
    expect(page.locator("#progress-failures")).to_contain_text(EVIL)
    assert page.get_by_label("Space", exact=True).first.input_value() == EVIL
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Lab").click()
    expect(page.get_by_text(f"A page of every card, of {EVIL}.")).to_be_visible()
    expect(page).to_have_title(f"Lab · {EVIL}")
    assert page.locator("img[src=x]").count() == 0
