"""Which tests run which lines: every test file is run once, alone, with a context for each test."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import coverage
import pytest

from tests.mutants.processes import PACKAGES

IMPORTED = ""
"""The context of lines that run while modules are imported and outside of any test."""


@dataclass(frozen=True)
class FileRun:
    """What one test file does to sound code.

    Args:
        seconds: each passed test's duration by node id, in the order of the file.
        lines: source file → line → node ids of the tests that run it.
        failed: why the file cannot serve: the first test that fails; empty if none.
        loaded: Python files of the tree that it imports, itself included.
        opening: the longest set-up of a test, s: fixtures of the whole file are paid by whichever test is first.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[str, list[str]]]
    failed: str
    loaded: list[str] = field(default_factory=list)
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


def observed(test_file: str, options: list[str]) -> FileRun:
    """Runs one test file in this process with coverage of our packages."""
    measured = coverage.Coverage(data_file=None, config_file=False, source=PACKAGES)
    watch = _Watch(measured)
    measured.start()
    try:
        code = pytest.main([*options, test_file], plugins=[watch])
    finally:
        measured.stop()
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and not watch.failed:
        watch.failed = f"{test_file}: pytest ends with {code!r}"
    return FileRun(watch.seconds, _lines(measured.get_data()), watch.failed, _loaded(), watch.opening)


def _loaded() -> list[str]:
    root = Path.cwd()
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] in (*PACKAGES, "tests")]
    return sorted(str(Path(file).relative_to(root)) for m in modules if (file := getattr(m, "__file__", None)))


def _lines(data: coverage.CoverageData) -> dict[str, dict[str, list[str]]]:
    root = Path.cwd()
    return {
        str(Path(file).relative_to(root)): {
            str(line): [context for context in contexts if context != IMPORTED]
            for line, contexts in data.contexts_by_lineno(file).items()
        }
        for file in sorted(data.measured_files())
    }


class Kept:
    """Observations of test files in a folder, each of use until something that it depends on has changed.

    Args:
        root: the tree that was observed.
        folder: where they are; made when the first is written.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._root, self._folder = root, folder

    def _path(self, test_file: str) -> Path:
        return self._folder / f"{test_file.replace('/', '.')}.json"

    def read(self, test_file: str) -> FileRun | None:
        """Returns an observation; None where there is none of the tree as it is."""
        if not (path := self._path(test_file)).exists():
            return None
        kept = json.loads(path.read_text())
        run = FileRun(**kept["run"])
        return run if kept["made of"] == self._hashes(test_file, run) else None

    def write(self, test_file: str, run: FileRun) -> None:
        """Keeps an observation."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path(test_file).write_text(json.dumps({"made of": self._hashes(test_file, run), "run": asdict(run)}))

    def _hashes(self, test_file: str, run: FileRun) -> dict[str, str]:
        """Hashes all Python files that it loads, and all files of the product of other kinds."""
        others = {f for name in PACKAGES for kind in ("*.toml", "*.c") for f in (self._root / name).rglob(kind)}
        loaded = {self._root / file for file in (test_file, "pyproject.toml", *run.loaded)}
        files = sorted(file for file in others | loaded if file.exists())
        return {str(f.relative_to(self._root)): hashlib.sha256(f.read_bytes()).hexdigest()[:20] for f in files}
