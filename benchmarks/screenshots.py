"""Takes the README's screenshots from the committed results: `python -m benchmarks.screenshots`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlencode

from playwright.sync_api import Browser, sync_playwright

from benchmarks.browser import SETTLED, launched
from benchmarks.dashboard import ADDRESS, serving, until
from benchmarks.results_page import HEADLINE, RESULTS
from lawn_tune.ledger import Ledger
from lawn_tune.ledger.bundle import open_bundle

IMAGES = Path(__file__).parents[1] / "docs" / "images"
PAGES = {
    "verdict": "/",
    "compare": "/compare",
    "cell": "/cell",
    "dynamics": "/dynamics",
    "tuning": "/tuning-curve",
    "progress": "/progress",
    "trial": "/trial",
}
WIDE, TALL, PHONE = (1280, 900), (1280, 1400), (390, 844)


class Shot(NamedTuple):
    """A picture: its file's name, the page with its query, size in pixels and theme."""

    name: str
    address: str
    size: tuple[int, int]
    theme: Literal["light", "dark"]


def main() -> None:
    """Imports every bundle into a ledger of its own, and takes all pictures of one study there."""
    with tempfile.TemporaryDirectory(prefix="lawn-tune-screenshots-") as folder:
        url = f"sqlite:///{folder}/ledger.db"
        for path in sorted(RESULTS.glob("*.bundle")):
            command = [sys.executable, "-m", "lawn_tune", "ledger", "import", str(path), "--storage", url]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with serving(url), sync_playwright() as playwright, launched(playwright) as browser:
            for shot in shots(_trial()):
                _take(browser, shot)


def shots(trial: str) -> Iterator[Shot]:
    """Yields all pictures; `trial` is the key of the trial that is shown."""
    for name, path in PAGES.items():
        query = urlencode({"space": HEADLINE} | ({"trial": trial} if name == "trial" else {}))
        size = WIDE if name == "verdict" else TALL
        yield Shot(f"dashboard-{name}", f"{path}?{query}", size, "light")
        yield Shot(f"dashboard-{name}-dark", f"{path}?{query}", size, "dark")
        if name == "verdict":
            yield Shot(f"dashboard-{name}-390", f"{path}?{query}", PHONE, "light")


def _trial() -> str:
    """Returns the key of a confirm run of LAWN."""
    with open_bundle(RESULTS / f"{HEADLINE}.bundle") as (database, _):
        rows = Ledger(database).trials(HEADLINE)
    return next(row.key for row in rows if row.phase == "confirm" and "lawn" in row.cell)


def _take(browser: Browser, shot: Shot) -> None:
    width, height = shot.size
    with browser.new_context(viewport={"width": width, "height": height}, color_scheme=shot.theme) as context:
        page = context.new_page()
        page.goto(ADDRESS + shot.address)
        until(page, SETTLED, time.perf_counter())
        page.screenshot(path=IMAGES / f"{shot.name}.png")


if __name__ == "__main__":
    main()
