"""A real browser on a real server: fixtures for tests that look at the dashboard as people do.

`browse(source)` serves a ledger on a free loopback port and returns a `Site`. The test fails on any error in the
browser's console, any uncaught error of a script, and any request to another server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, ViewportSize, expect, sync_playwright

from benchmarks.browser import SETTLED, NoBrowser, Started, launched, remembering, required
from dashboards.web.app import create_app
from dashboards.web.page import Page as DashboardPage
from dashboards.web.pages import PAGES
from dashboards.web.security import Access
from dashboards.web.serve import address, guarded, listen, server
from dashboards.web.snapshot import Snapshots
from lawn_tune.results import ResultSource

WIDE: ViewportSize = {"width": 1280, "height": 900}
NARROW: ViewportSize = {"width": 390, "height": 844}
PATIENCE = 60.0
"""Seconds that a page may take on a busy machine, where 30 were measured; a hang takes forever."""

RESIZED = 5.0
"""Seconds within which every figure has the size of a new window, on a machine with other work too."""


_COLLISIONS = """() => [...document.querySelectorAll(".js-plotly-plot")].flatMap((plot) => {
    const frame = plot.getBoundingClientRect(), name = plot.closest(".card").id;
    const texts = plot.querySelectorAll("text[class$=title], .xtick text, .ytick text, .legendtext, .annotation-text");
    const lines = [...texts].flatMap((text) => {
        const parts = [...text.querySelectorAll("tspan.line")];
        return parts.length ? parts : [text];
    });
    const boxes = lines.map((line) => [line.textContent, line.getBoundingClientRect()]).filter(([, box]) => box.width);
    const cut = boxes.filter(([, box]) => box.left < frame.left - 2 || box.right > frame.right + 2);
    const pairs = boxes.flatMap((one, i) => boxes.slice(i + 1).map((other) => [one, other])).filter(([[, a], [, b]]) =>
        Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 &&
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3);
    return [...cut.map(([text]) => `${name}: ${text} is cut`), ...pairs.map(([[a], [b]]) => `${name}: ${a} over ${b}`)];
})"""


@dataclass
class Site:
    """A page of a browser on a running server.

    Args:
        address: of the server, "http://127.0.0.1:1234".
        page: playwright's page.
        problems: what must not happen; a test may `clear` what it provoked.
    """

    address: str
    page: Page
    problems: list[str] = field(default_factory=list)

    def open(self, path: str = "/") -> Page:
        """Goes to a path, waits until every card has its content, and returns the page."""
        self.page.goto(self.address + path)
        return self.settled()

    def settled(self) -> Page:
        """Waits until every card has its content and no callback is under way."""
        self.until(SETTLED)
        return self.page

    def until(self, condition: str, seconds: float = PATIENCE) -> None:
        """Waits for an expression to hold; playwright's own way makes a function of text, which our policy forbids."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never came true: {condition}"
            self.page.wait_for_timeout(50)

    def drawn(self, card: str) -> tuple[int, int]:
        """Returns how many pixels of a figure's height are seen, and how many traces are drawn in it."""
        look = f"document.querySelector('#{card} .js-plotly-plot')"
        self.until(f"document.querySelector('#{card} .scatterlayer .trace') && {look}.querySelector('.legendtoggle')")
        height = self.page.evaluate(f"{look}.getBoundingClientRect().height")
        traces = self.page.evaluate(f"{look}.querySelectorAll('.scatterlayer .trace').length")
        return round(height), traces

    def hide_first(self, card: str) -> None:
        """Clicks the first name of a figure's legend, and waits well beyond the time a second click may take."""
        self.page.locator(f"#{card} .legendtoggle").first.click(force=True)
        self.page.wait_for_timeout(2_000)

    def overflowing(self) -> list[tuple[int, str]]:
        """Returns the widths and themes in which the document is wider than the window."""
        found = []
        for viewport in (WIDE, NARROW):
            self.page.set_viewport_size(viewport)
            for theme in ("light", "dark"):
                self.page.emulate_media(color_scheme=theme)
                self.until(f"document.documentElement.dataset.theme === '{theme}'")
                self.settled()
                found += [(viewport["width"], theme)] if self.width() > viewport["width"] else []
        return found

    def swiped(self, selector: str, distance: int = 200) -> int:
        """Swipes up over the middle of an element as a finger does; returns how many pixels the page scrolled."""
        self.page.locator(selector).first.evaluate("element => element.scrollIntoView({ block: 'center' })")
        box = self.page.locator(selector).first.bounding_box()
        assert box is not None
        start: float = self.page.evaluate("scrollY")
        touch = self.page.context.new_cdp_session(self.page)
        touch.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for way in range(0, distance + 1, 20):
            kind = "touchMove" if way else "touchStart"
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y - way}]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        self.page.wait_for_timeout(200)
        end: float = self.page.evaluate("scrollY")
        return round(end - start)

    def collisions(self) -> list[str]:
        """Returns which titles, tick labels, names of a legend and notes of the figures overlap, or are cut off.

        A figure takes the size of a new window a moment after the page has settled: what is over soon does not count.
        """
        end = time.monotonic() + RESIZED
        while (found := self.page.evaluate(_COLLISIONS)) and time.monotonic() < end:
            self.page.wait_for_timeout(100)
        return [str(one) for one in found]

    def width(self) -> int:
        """Returns how wide the document is; wider than the window means that it scrolls sideways."""
        return int(self.page.evaluate("document.documentElement.scrollWidth"))


Browse = Callable[..., Site]


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """The library; a thread can run it once."""
    expect.set_options(timeout=1_000 * PATIENCE)
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """A browser whose contexts have nothing in common."""
    with started(launched(playwright)) as browser:
        yield browser


@contextmanager
def started(browser: AbstractContextManager[Started]) -> Iterator[Started]:
    """Runs a browser inside the context. Without one, tests are skipped with a line that says why; in CI they fail."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(browser)
        except NoBrowser as missing:
            if required():
                pytest.fail(str(missing), pytrace=False)
            pytest.skip(str(missing))
        yield found


class _Stage:
    """A server that outlives the tests and serves one application after the other, at one address.

    The browser then keeps the scripts of the pages, fetched and compiled, where a new address would cost it seconds.
    """

    def __init__(self, running: ExitStack) -> None:
        self.app: Callable[[Any, Any], Iterable[bytes]] = _nothing
        self.address = running.enter_context(_served(lambda environ, answer: self.app(environ, answer)))


def _nothing(environ: Any, answer: Any) -> Iterable[bytes]:
    answer("503 Between tests", [])
    return [b""]


class Stages:
    """The servers of the sites that a test has open at the same time, and the browser's context of all of them."""

    def __init__(self, context: BrowserContext, running: ExitStack) -> None:
        self.context, self._running = context, running
        self._stages: list[_Stage] = []

    def opened(self, number: int, app: Callable[[Any, Any], Iterable[bytes]]) -> tuple[str, Page]:
        """Serves `app` as the test's site of that number; returns its address and a page that remembers nothing."""
        if number == len(self._stages):
            self._stages.append(_Stage(self._running))
        stage = self._stages[number]
        stage.app = app
        page = self.context.new_page()
        storage = {"origin": stage.address, "storageTypes": "local_storage,indexeddb,cookies"}
        self.context.new_cdp_session(page).send("Storage.clearDataForOrigin", storage)
        return stage.address, page

    def clear(self) -> None:
        """Closes every page, and forgets cookies, permissions and applications."""
        for page in self.context.pages:
            page.close()
        self.context.clear_cookies()
        self.context.clear_permissions()
        for stage in self._stages:
            stage.app = _nothing


@pytest.fixture(scope="session")
def stages(playwright: Playwright) -> Iterator[Stages]:
    """What the tests of a process share."""
    with ExitStack() as running, started(remembering(playwright)) as context:
        yield Stages(context, running)


@pytest.fixture
def browse(stages: Stages) -> Iterator[Browse]:
    """Returns `browse(source, viewport=WIDE, dark=False, access=Access(), pages=PAGES)` → `Site`."""
    sites: list[Site] = []

    def start(
        source: ResultSource | Snapshots,
        *,
        viewport: ViewportSize = WIDE,
        dark: bool = False,
        access: Access | None = None,
        pages: Sequence[DashboardPage] = PAGES,
    ) -> Site:
        app = _app(source, access or Access(), pages)
        served, page = stages.opened(len(sites), app)
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme="dark" if dark else "light")
        sites.append(_watched(page, served))
        return sites[-1]

    yield start
    problems = [problem for site in sites for problem in site.problems]
    stages.clear()
    if problems:
        pytest.fail("\n".join(problems))


def _app(source: ResultSource | Snapshots, access: Access, pages: Sequence[DashboardPage]) -> Any:
    snapshots = source if isinstance(source, Snapshots) else Snapshots(source)
    return guarded(create_app(snapshots, pages), access)


@contextmanager
def serving(
    source: ResultSource | Snapshots,
    access: Access,
    pages: Sequence[DashboardPage] = PAGES,
    trusted_proxy: str | None = None,
) -> Iterator[str]:
    """Serves a ledger in a thread and yields the address."""
    with _served(_app(source, access, pages), trusted_proxy) as found:
        yield found


@contextmanager
def _served(app: Any, trusted_proxy: str | None = None) -> Iterator[str]:
    listening = listen("127.0.0.1", 0)
    served: Any = server(app, listening, trusted_proxy)
    closing = threading.Event()

    def run() -> None:
        try:
            served.run()
        except OSError:  # its sockets are closed under its loop, below
            if not closing.is_set():
                raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield address(listening).rstrip("/")
    finally:
        closing.set()
        served.task_dispatcher.shutdown()
        served.close()
        for channel in list(served.active_channels.values()):
            channel.handle_close()
        thread.join(timeout=10)
        listening.close()


def watched(context: BrowserContext, served: str) -> Site:
    """Returns a new page that notes every error and every request to elsewhere."""
    return _watched(context.new_page(), served)


def _watched(page: Page, served: str) -> Site:
    site = Site(served, page)
    page.on("console", lambda m: site.problems.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda error: site.problems.append(f"script: {error}"))
    page.on("request", lambda request: _inside(site, request.url))
    page.set_default_timeout(1_000 * PATIENCE)
    return site


def _inside(site: Site, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != urlsplit(site.address).hostname:
        site.problems.append(f"request leaves the machine: {url}")


def drag(page: Page, card: str) -> None:
    """Zooms into the middle of a figure."""
    page.locator(f"{card} .nsewdrag").first.scroll_into_view_if_needed()
    place = page.locator(f"{card} .nsewdrag").first.bounding_box()
    assert place is not None
    y = place["y"] + place["height"] / 2
    page.mouse.move(place["x"] + 0.25 * place["width"], y)
    page.mouse.down()
    page.mouse.move(place["x"] + 0.7 * place["width"], y, steps=8)
    page.mouse.up()
    page.wait_for_timeout(600)


def x_range(page: Page, card: str) -> list[float]:
    found: list[float] = page.evaluate(
        "card => document.querySelector(card + ' .js-plotly-plot')._fullLayout.xaxis.range.map(x => +x.toFixed(3))",
        card,
    )
    return found
