"""The dashboard over a ledger of 10,000 trials x 300 epochs, in Chromium: waiting times of a user.

First paint is the browser's first contentful paint; "first card" is when one has its content, in the server's first
answer or by a callback, and "every card" when all have. Interactions run on a loaded page and are timed by its own
clock: from the click to the last change of its main part.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import urlopen

from playwright.sync_api import Page, ViewportSize, sync_playwright

from benchmarks import big_ledger
from benchmarks.browser import SETTLED, available, launched
from benchmarks.measure import summary

PAGES = ("/", "/compare", "/cell", "/dynamics", "/tuning-curve", "/progress")
VIEWPORT: ViewportSize = {"width": 1280, "height": 900}
PORT = 8991
ADDRESS = f"http://127.0.0.1:{PORT}"
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime / 1000"
FIRST = "document.querySelector('h1')?.textContent && document.querySelector('.card:not(.brief) .body:not(.waiting)')"
CALM = 0.4
"""Seconds without a change after which an interaction is over, ignoring marks for loading and resizing."""
WATCH = """() => {
    const seen = (window.seen = { click: null, change: 0 });
    const unseen = (m) => m.attributeName === "data-dash-is-loading" || m.target.matches?.(".js-plotly-plot");
    const note = (found) => found.every(unseen) || (seen.change = performance.now());
    const options = { subtree: true, childList: true, attributes: true, characterData: true };
    new MutationObserver(note).observe(document.getElementById("main"), options);
    addEventListener("click", (event) => (seen.click ??= event.timeStamp), { capture: true });
}"""
TOOK = "(window.seen.change - window.seen.click) / 1000"
OVER = f"window.seen.click && {TOOK} > 0 && performance.now() - window.seen.change > {1000 * CALM} && ({SETTLED})"


def run(trials: int = 10_000, epochs: int = 300, repeats: int = 5) -> dict[str, Any]:
    """Measures every page in a new browser context, then single clicks; returns nothing without a browser."""
    if not available():
        return {}
    with tempfile.TemporaryDirectory(prefix="lawn-tune-dashboard-") as folder:
        url = f"sqlite:///{folder}/big.db"
        big_ledger.write(url, trials=trials, epochs=epochs)
        found: dict[str, list[float]] = {}
        with serving(url), sync_playwright() as playwright, launched(playwright) as browser:
            for _ in range(repeats):
                for path in PAGES:
                    with browser.new_context(viewport=VIEWPORT) as context:
                        for name, seconds in opened(context.new_page(), path).items():
                            found.setdefault(f"{path} {name}", []).append(seconds)
                with browser.new_context(viewport=VIEWPORT) as context:
                    for name, seconds in clicked(context.new_page()).items():
                        found.setdefault(name, []).append(seconds)
    return {name: summary(values) for name, values in found.items()}


@contextmanager
def serving(url: str) -> Iterator[None]:
    """Runs `lawn-tune dashboard` in a process and waits until it answers."""
    command = [sys.executable, "-m", "lawn_tune.cli.main", "dashboard", "--storage", url, "--port", str(PORT)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            time.sleep(0.1)
            try:
                urlopen(ADDRESS, timeout=5).close()
                break
            except OSError:
                continue
        time.sleep(3)  # it reads the first space before the first request
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def opened(page: Page, path: str) -> dict[str, float]:
    """Returns seconds from navigation to the first paint, the first card and every card."""
    start = time.perf_counter()
    page.goto(ADDRESS + path, wait_until="commit")
    first = until(page, FIRST, start)
    every = until(page, SETTLED, start)
    paint = float(page.evaluate(PAINT))
    first = max(first, paint)  # what is there may not be painted yet
    return {"first paint": paint, "first card": first, "every card": every}


def clicked(page: Page) -> dict[str, float]:
    """Returns seconds of single interactions, each on a completely loaded page."""
    opened(page, "/compare")
    found = {"compare: another page": timed(page, lambda: page.get_by_role("link", name="Tuning").click())}
    opened(page, "/compare")
    found["compare: search values"] = timed(
        page, lambda: page.locator("label", has_text="search, validation").first.click()
    )
    opened(page, "/cell")
    found["cell: against device time"] = timed(
        page, lambda: page.locator("label", has_text="device time").first.click()
    )
    return found


def timed(page: Page, act: Callable[[], object]) -> float:
    """Returns seconds from the click that an action makes to the last change of the page's main part."""
    page.evaluate(WATCH)
    act()
    until(page, OVER, time.perf_counter())
    return float(page.evaluate(TOOK))


def until(page: Page, condition: str, start: float, limit: float = 30.0) -> float:
    """Waits until an expression is true and returns the seconds since `start`."""
    while not page.evaluate(f"Boolean({condition})"):
        if time.perf_counter() - start > limit:
            raise TimeoutError(f"still false after {limit:g} s: {condition}")
        page.wait_for_timeout(20)
    return time.perf_counter() - start


if __name__ == "__main__":
    print(run(repeats=2))
