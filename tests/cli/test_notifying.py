"""Notices of a launch: one for each way to end, one of divergence, and no harm from a command that misbehaves."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from lawn_tune.cells import Cell
from lawn_tune.cli import notifying
from lawn_tune.cli.main import app
from lawn_tune.cli.notifying import Notices
from lawn_tune.errors import ExecutionError
from lawn_tune.launching.listener import Tally
from tests.helpers.tiny import TWO_CELLS, tiny_cells


def sent(folder: Path, error: BaseException | None, *diverged: Cell) -> list[dict[str, Any]]:
    """The notices of a launch that ends with an error or without one."""
    file, warnings = folder / "it's $(a) file", list[str]()
    with suppress(BaseException), Notices(("tee", "-a", str(file)), ["a b"], "sqlite:///x", warnings.append) as notices:
        notices.tallies.append(Tally(trained=3, diverged=2))
        for cell in diverged:
            notices.diverged(cell, "search", 2, 3)
        if error:
            raise error
    assert not warnings
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    ("error", "event", "code", "text"),
    [
        (None, "finished", 0, None),
        (ExecutionError("3 trials failed"), "failed", 5, "3 trials failed"),
        (ZeroDivisionError("x"), "failed", 1, "x"),
        (typer.Exit(6), "limit", 6, None),
        (typer.Exit(143), "stopped", 143, None),
        (KeyboardInterrupt(), "stopped", 130, None),
    ],
)
def test_every_end_is_one_notice(
    error: BaseException | None, event: str, code: int, text: str | None, tmp_path: Path
) -> None:
    (notice,) = sent(tmp_path, error)
    assert (notice["event"], notice["exit_code"], notice["error"]) == (event, code, text)
    assert notice["spaces"] == ["a b"]
    assert notice["trials"] == {"trained": 3, "found": 0, "diverged": 2, "failed": 0}


def test_divergence_is_one_notice_a_launch(tmp_path: Path) -> None:
    cells = tiny_cells(tmp_path, TWO_CELLS)
    first, last = sorted(sent(tmp_path, None, *cells), key=lambda notice: str(notice["event"]))
    assert (first["event"], last["event"]) == ("diverging", "finished")
    assert first["diverging"] == last["diverging"]
    assert first["diverging"] == {"cell": str(cells[0].name), "phase": "search", "diverged": 2, "trials": 3}


@pytest.mark.parametrize(
    ("script", "warning"),
    [
        ("echo first >&2; echo last >&2; exit 3", "'sh' failed with exit code 3: last"),
        ("exec sleep 60", "'sh' ran longer than 0.5 s and was killed"),
        ("trap '' TERM; while :; do echo 0123456789 >&2; done", "'sh' ran longer than 0.5 s and was killed"),
        ("sleep 60 & exit 0", "'sh' ran longer than 0.5 s and was killed"),
        ("setsid sleep 3 & exit 0", "a process that the command started is still running"),
    ],
)
def test_a_command_that_misbehaves_is_a_warning_in_time(
    script: str, warning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifying, "SECONDS", 0.5)
    warnings: list[str] = []
    began = time.monotonic()
    with Notices(("sh", "-c", script), [], "", warnings.append):
        pass
    assert warnings == [f"--notify: {warning}"]
    assert time.monotonic() - began < 5


def test_a_program_that_is_not_there_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unclosed = CliRunner().invoke(app, ["launch", "quickstart", "--notify", "mail 'me"])
    assert unclosed.exit_code == 2
    assert "every quote closed" in unclosed.output
    result = CliRunner().invoke(app, ["launch", "quickstart", "--notify", "no-such-program --token x"])
    assert result.exit_code == 2
    assert "--notify: there is no program 'no-such-program'" in result.output
    assert "token" not in result.output
    assert not list(tmp_path.glob("*.db"))
