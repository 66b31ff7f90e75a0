"""Which browser the tests take, what installs one, and what happens without any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Error

from benchmarks import browser
from tests.helpers.browser import started


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine without a browser, outside of CI."""
    for name in (browser.VARIABLE, "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(browser, "PLACES", (str(tmp_path / "opt" / "chrome"),))
    browser.installed.cache_clear()
    yield
    browser.installed.cache_clear()


def program(path: Path, code: int = 0) -> str:
    """Writes an executable that does nothing but end."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\nexit {code}\n")
    path.chmod(0o755)
    return str(path)


def nothing() -> Any:
    """Playwright without a browser of its own."""

    def launch(**_: Any) -> None:
        raise Error("BrowserType.launch: Executable doesn't exist at /nowhere")

    return SimpleNamespace(chromium=SimpleNamespace(launch=launch))


@pytest.mark.parametrize("name", [*browser.NAMES, "opt/chrome"])
def test_a_browser_is_found_under_every_name(tmp_path: Path, name: str) -> None:
    assert browser.installed() is None
    browser.installed.cache_clear()
    assert program(tmp_path / name) == browser.installed()


def test_a_browser_that_does_not_start_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path / "chromium", code=1)
    assert browser.installed() is None
    browser.installed.cache_clear()
    assert program(tmp_path / "google-chrome") == browser.installed()


def test_the_variable_decides_and_is_named_if_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "chromium")
    monkeypatch.setenv(browser.VARIABLE, program(tmp_path / "mine" / "browser"))
    assert browser.installed() == str(tmp_path / "mine" / "browser")
    browser.installed.cache_clear()
    monkeypatch.setenv(browser.VARIABLE, "/nowhere/chrome")
    with pytest.raises(browser.NoBrowser, match="CHROME_BIN='/nowhere/chrome' does not start"):
        browser.installed()


def test_without_a_browser_tests_are_skipped_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(pytest.skip.Exception, match="playwright install chromium") as skipped,
        started(browser.launched(nothing())),
    ):
        pass
    assert "\n" not in str(skipped.value)
    monkeypatch.setenv("CI", "true")
    with (
        pytest.raises(pytest.fail.Exception, match="playwright install chromium"),
        started(browser.launched(nothing())),
    ):
        pass


@pytest.mark.parametrize(
    ("ci", "root", "works", "ran", "code"),
    [
        ("", True, "", ["playwright"], 0),
        ("true", True, "", ["playwright", "update", "install"], 1),
        ("true", False, "", ["playwright"], 1),
        ("true", True, "playwright", ["playwright"], 0),
        ("true", True, "install", ["playwright", "update", "install"], 0),
        ("false", True, "", ["playwright"], 0),
        ("true", True, "none is needed", [], 0),
    ],
)
def test_what_is_tried_and_in_which_order(
    ci: str, root: bool, works: str, ran: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Playwright's own browser first, the distribution's in CI as root only; CI ends with an error without any."""
    commands: list[str] = []
    program(tmp_path / "apt-get")

    def run(command: list[str], *_: object) -> None:
        commands.append("playwright" if "playwright" in command else command[1])

    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(browser, "_run", run)
    monkeypatch.setattr(browser, "available", lambda: works in (*commands, "none is needed"))
    assert browser.main() == code
    assert commands == ran


def test_a_failed_download_is_one_line_and_no_error_outside_of_ci(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(browser, "available", lambda: False)
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    assert browser.main() == 0
    _, failed, advice = ("\n" + capsys.readouterr().err).splitlines()
    assert "/nowhere/python" in failed
    assert browser.HOW in advice
    assert "skipped" in advice
