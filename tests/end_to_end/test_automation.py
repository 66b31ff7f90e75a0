"""The page for programs: its blocks run in their order, and its exit codes are those of the help and of the errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from lawn_tune import errors
from lawn_tune.cli.main import EPILOG

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/automation.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", PAGE, re.DOTALL)


def test_the_exit_codes_are_those_of_the_help() -> None:
    rows = {int(code) for line in re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE) for code in line.split(",")}
    shown = {int(code) for code in re.findall(r"\b(\d+)\b", EPILOG.partition("Exit codes:")[2])}
    assert rows == shown
    assert rows >= {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}


def test_the_blocks_run_in_their_order(tmp_path: Path) -> None:
    program = tmp_path / "lawn-tune"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lawn_tune.cli.main "$@"\n')
    program.chmod(0o755)
    paths = {"PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    output = ""
    for kind, block in BLOCKS:
        text = block.replace("launch quickstart", "launch quickstart --max-epochs 3")  # seconds, not minutes
        command = [sys.executable, "-c", text] if kind == "python" else ["sh", "-ec", text]
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | paths, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, text + done.stderr
        output += done.stdout
    assert "finished" in output
    for name in ("public/index.html", "quickstart.bundle", "restored.db", "trials.csv"):
        assert (tmp_path / name).exists()
