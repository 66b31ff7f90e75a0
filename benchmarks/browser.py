"""The browser for tests and benchmarks of the dashboard; `python -m benchmarks.browser` installs one if necessary."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from playwright.sync_api import Browser, BrowserContext, Error, Playwright, sync_playwright

Started = TypeVar("Started", Browser, BrowserContext)

VARIABLE = "CHROME_BIN"
"""Environment variable with the path of the browser to use."""

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = (
    "/opt/google/chrome/chrome",
    "/snap/bin/chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
"""Where to look for a browser: on PATH, then here."""

HOW = f"install Chromium or Google Chrome, run 'playwright install chromium', or set {VARIABLE} to the path of one"

ARGUMENTS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--no-first-run",
    "--host-resolver-rules=MAP lawn.example.org 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

TITLE = "document.querySelector('#title')?.textContent"
SETTLED = (
    f"{TITLE} && !document.querySelector('.body.waiting:not(.brief *)')"
    " && !document.querySelector('[data-dash-is-loading], .dash-graph--pending')"
)
"""True when every card has its content and no callback or drawing is in progress."""

DOWNLOAD_SECONDS, CONNECT_MILLISECONDS = 300, 5_000


class NoBrowser(Exception):
    """No browser can be started; the text says why and how to get one."""


@cache
def installed() -> str | None:
    """Returns the path of the system's browser, or None.

    Raises:
        NoBrowser: the variable names a file that is not a browser.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not _starts(named):
            raise NoBrowser(f"{VARIABLE}='{named}' does not start; set it to the path of Chromium or Google Chrome")
        return named
    found = [path for name in NAMES if (path := shutil.which(name))]
    return next((path for path in (*found, *PLACES) if _starts(path)), None)


def _starts(path: str) -> bool:
    """True if a browser answers; Ubuntu's `chromium-browser` is a script that only refers to a snap."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@contextmanager
def launched(playwright: Playwright) -> Iterator[Browser]:
    """Runs the browser inside the context: the system's, otherwise the one that playwright downloaded.

    Raises:
        NoBrowser: there is neither.
    """
    with _open(playwright.chromium.launch) as browser:
        yield browser


@contextmanager
def remembering(playwright: Playwright) -> Iterator[BrowserContext]:
    """Runs a browser with a profile on disk inside the context: it keeps scripts compiled from page to page.

    Raises:
        NoBrowser: there is none.
    """
    with (
        tempfile.TemporaryDirectory(prefix="lawn-tune-browser-", ignore_cleanup_errors=True) as profile,
        _open(playwright.chromium.launch_persistent_context, user_data_dir=profile) as context,
    ):
        yield context


@contextmanager
def _open(start: Callable[..., Started], **options: Any) -> Iterator[Started]:
    path = installed()
    try:
        found = start(executable_path=path, args=list(ARGUMENTS), **options)
    except Error as error:
        if path is not None:
            raise
        raise NoBrowser(f"no Chrome or Chromium on this machine: {HOW}") from error
    try:
        yield found
    finally:
        found.close()


def required() -> bool:
    """True in CI, where a missing browser is a failure."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


# --- installation ----------------------------------------------------------------------------------------------------


def available() -> bool:
    """True if a browser can be started now."""
    installed.cache_clear()
    if installed() is not None:
        return True
    try:
        with sync_playwright() as playwright, launched(playwright):
            return True
    except NoBrowser:
        return False


def download() -> None:
    """Lets playwright download its own browser."""
    fast = {**os.environ, "PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT": str(CONNECT_MILLISECONDS)}
    _run([sys.executable, "-m", "playwright", "install", "chromium"], fast)


def install_package() -> None:
    """Installs the distribution's package; in CI as root only, since it changes the machine."""
    if required() and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        _run(["apt-get", "update", "--quiet"], environment)
        _run(["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "chromium"], environment)


def _run(command: Sequence[str], environment: dict[str, str]) -> None:
    print(f"browser: {' '.join(command[-3:])}", flush=True)
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS)
        failed = done.returncode and (done.stderr.strip() or done.stdout.strip() or "failed")
    except (OSError, subprocess.TimeoutExpired) as error:
        failed = str(error)
    if failed:
        reasons = [line for line in failed.splitlines() if line.startswith(("Error", "E:"))]
        print(f"browser: {(reasons or failed.splitlines())[0]}", file=sys.stderr)


ATTEMPTS: tuple[Callable[[], None], ...] = (download, install_package)


def main() -> int:
    """Finds a browser or installs one; returns the exit code, which is 1 only in CI."""
    try:
        found = available()
        for attempt in ATTEMPTS:
            if not found:
                attempt()
                found = available()
        missing = "" if found else f"no Chrome or Chromium on this machine: {HOW}"
    except NoBrowser as error:
        missing = str(error)
    if not missing:
        return 0
    what = "CI requires one" if required() else "tests of the dashboard's pages will be skipped"
    print(f"browser: {missing}; {what}", file=sys.stderr)
    return int(required())


if __name__ == "__main__":
    sys.exit(main())
