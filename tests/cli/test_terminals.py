"""Tables fit a terminal of 80 columns and lose nothing."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lawn_tune.ledger import open_ledger
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import builtin_spaces, find_space
from tests.helpers.commands import run

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.mark.parametrize(
    "args",
    [
        ["plan", "movielens_100k", "--max-epochs", "40"],
        ["plan", "--all", "--detect", "1"],
        ["status"],
        ["data", "list"],
    ],
)
def test_tables_fit_a_terminal_of_80_columns_and_lose_nothing(args: list[str]) -> None:
    with open_ledger("sqlite:///lawn-tune.db") as real:
        real.register([cell for name in builtin_spaces() for cell in plan(find_space(name))])
    primary, secondary = pty.openpty()
    command = [sys.executable, "-m", "lawn_tune.cli.main", *args]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "TERM": "dumb"}
    with subprocess.Popen(command, stdout=secondary, env=env) as process:
        os.close(secondary)
        shown = _all_of(primary).replace("\r", "")
    assert process.returncode == 0
    assert "…" not in shown
    tables, _, rest = shown.rpartition("\n\n")
    notes = ("never reach", "count once", "is trained first")  # sentences, which wrap by themselves
    rows = [line for line in (tables or rest).splitlines() if not any(words in line for words in notes)]
    assert max(map(len, rows)) <= 80
    text = run(*args).stdout
    assert sorted("".join(text.split())) == sorted("".join(shown.split()))
    if args[0] != "data":
        names = [f"{cell.name.optimizer}/bs{cell.name.batch_size}" for cell in plan(find_space("movielens_100k"))]
        assert [name for name in names if not re.search(rf"^ *{name} ", shown, re.MULTILINE)] == []


def _all_of(descriptor: int) -> str:
    """Reads what a terminal shows until its other end is closed."""
    parts = []
    with contextlib.suppress(OSError):
        while part := os.read(descriptor, 65536):
            parts.append(part)
    os.close(descriptor)
    return b"".join(parts).decode()
