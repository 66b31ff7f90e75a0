"""The browser for tests and benchmarks of the dashboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Playwright

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
"""The system's browser; otherwise playwright uses its own (`playwright install chromium`)."""

ARGUMENTS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

TITLE = "document.querySelector('#title')?.textContent"
SETTLED = (
    f"{TITLE} && !document.querySelector('.body.waiting:not(.brief *)')"
    " && !document.querySelector('[data-dash-is-loading], .dash-graph--pending')"
)
"""True when every card has its content and no callback or drawing is in progress."""


@contextmanager
def launched(playwright: Playwright) -> Iterator[Browser]:
    """Runs the browser inside the context."""
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
    try:
        yield browser
    finally:
        browser.close()
