"""The arguments of this process, kept from others: every user of a machine may read a process list."""

from __future__ import annotations

import json
import os
import sys

from lawn_tune.storage import masked

_HANDED = "_LAWN_TUNE_ARGUMENTS"
"""Variable that names the open file from which a process that was started anew reads its arguments."""

_PIPE = 60_000
"""Bytes that a pipe surely takes before anybody reads."""


def arguments() -> list[str]:
    """Returns what was typed after the command's name.

    A process whose arguments carry a password starts itself anew, with `***` in its place, and reads the true arguments
    from a pipe. So neither a process list shows it nor Ray, which records the command line of its driver.
    """
    handed = os.environ.pop(_HANDED, None)
    if handed is not None:
        with open(int(handed), encoding="ascii") as pipe:
            return [str(argument) for argument in json.load(pipe)]
    given = sys.argv[1:]
    shown = [hidden(argument) for argument in given]
    if shown != given and os.name == "posix" and sys.orig_argv[-len(given) :] == given:
        _start_anew(given, shown)
    return given


def hidden(argument: str) -> str:
    """Returns an argument as others may see it: `***` in place of the password of a URL, also in `--flag=URL`."""
    flag, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    return f"{flag}{equals}{masked(value)}" if "://" in value else argument


def _start_anew(given: list[str], shown: list[str]) -> None:
    data = json.dumps(given).encode()
    if len(data) > _PIPE:
        return
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    os.set_inheritable(reading, True)
    os.execve(
        sys.executable, [*sys.orig_argv[: -len(given)], *shown], {**os.environ, _HANDED: str(reading)}
    )  # does not return
