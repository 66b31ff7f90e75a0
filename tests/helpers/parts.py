"""Which of the long tests a run takes: all of them, or what is always run and one part of the rest."""

from __future__ import annotations

import re
from collections.abc import Collection

ALWAYS = (
    "tests/contracts/ledger/",
    "tests/end_to_end/test_launch_command.py",
    "tests/faults/test_database_outages.py",
    "tests/faults/test_fencing.py",
    "tests/faults/test_kills_within_an_epoch.py",
    "tests/faults/test_simultaneous_drivers.py",
    "tests/ledger/",
)
"""Files and folders that belong to every part: processes that are killed, exact continuation, and the ledger."""


def chosen(files: Collection[str], alone: Collection[str], part: str) -> set[str]:
    """Returns the files of tests that a part holds.

    The others are dealt out in turn, those that follow one another apart from those that run at the same time, so that
    each part gets its share of both. Every file is in `ALWAYS` or in exactly one part.

    Args:
        files: of long tests, relative to the root.
        alone: those of them that follow one another.
        part: "I/N", with I from 1 to N.

    Raises:
        ValueError: it has another form.
    """
    form = re.fullmatch(r"(\d+)/(\d+)", part)
    index, count = map(int, form.groups()) if form else (0, 0)
    if not 1 <= index <= count:
        raise ValueError(f"--part must be I/N with I from 1 to N, such as 1/3, got '{part}'")
    always = {file for file in files if file.startswith(ALWAYS)}
    dealt = sorted(set(files) - always, key=lambda file: (file not in alone, file))
    return always | set(dealt[index - 1 :: count])
