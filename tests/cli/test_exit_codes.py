"""The exit codes of the page for programs are those of the help and of the errors."""

from __future__ import annotations

import re
from pathlib import Path

from lawn_tune import errors
from lawn_tune.cli.main import EPILOG

PAGE = (Path(__file__).parents[2] / "docs/automation.md").read_text()


def test_the_exit_codes_are_those_of_the_help() -> None:
    rows = {int(code) for line in re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE) for code in line.split(",")}
    shown = {int(code) for code in re.findall(r"\b(\d+)\b", EPILOG.partition("Exit codes:")[2])}
    assert rows == shown
    assert rows >= {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}
