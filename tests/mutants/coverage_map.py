"""Which tests run which lines: every test file is run once, alone, with a context for each test."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import coverage
import pytest

IMPORTED = ""
"""The context of lines that run while modules are imported and outside of any test."""


@dataclass(frozen=True)
class FileRun:
    """What one test file does to sound code.

    Args:
        seconds: each passed test's duration by node id, in the order of the file.
        lines: source file → line → node ids of the tests that run it.
        failed: why the file cannot serve: the first test that fails; empty if none.
        opening: the longest set-up of a test, s: fixtures of the whole file are paid by whichever test is first.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[str, list[str]]]
    failed: str
    opening: float = 0.0


class _Watch:
    """A pytest plugin that gives every test its coverage context and notes how long it took."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self._measured = measured
        self.seconds: dict[str, float] = {}
        self.failed = ""
        self.opening = 0.0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._measured.switch_context(item.nodeid)
        result = yield
        self._measured.switch_context(IMPORTED)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = f"{report.nodeid}: {report.longreprtext[-2000:]}"
        if report.when == "setup":
            self.opening = max(self.opening, report.duration)
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


def observed(test_file: str, packages: list[str], options: list[str]) -> FileRun:
    """Runs one test file in this process with coverage of our packages."""
    measured = coverage.Coverage(data_file=None, config_file=False, source=packages)
    watch = _Watch(measured)
    measured.start()
    try:
        code = pytest.main([*options, test_file], plugins=[watch])
    finally:
        measured.stop()
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and not watch.failed:
        watch.failed = f"{test_file}: pytest ends with {code!r}"
    return FileRun(watch.seconds, _lines(measured.get_data()), watch.failed, watch.opening)


def _lines(data: coverage.CoverageData) -> dict[str, dict[str, list[str]]]:
    root = Path.cwd()
    return {
        str(Path(file).relative_to(root)): {
            str(line): [context for context in contexts if context != IMPORTED]
            for line, contexts in data.contexts_by_lineno(file).items()
        }
        for file in sorted(data.measured_files())
    }


def digest(root: Path, test_file: str, packages: list[str]) -> str:
    """Returns a hash of all that an observation depends on: the test file, what tests share, and the product."""
    shared = [root / "pyproject.toml", root / "tests/conftest.py", root / test_file]
    files = sorted(f for package in packages for f in (root / package).rglob("*") if f.suffix in (".py", ".toml", ".c"))
    found = hashlib.sha256()
    for file in [*shared, *sorted((root / "tests/helpers").rglob("*.py")), *files]:
        found.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()[:20]


def saved(run: FileRun, path: Path) -> None:
    """Writes an observation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(run)))


def loaded(path: Path) -> FileRun | None:
    """Reads an observation, or returns None where there is none."""
    return FileRun(**json.loads(path.read_text())) if path.exists() else None
