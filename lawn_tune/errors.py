"""Errors that people can act on: a message, a hint for the next step, and the exit code of the command line."""

from __future__ import annotations

ABANDONED = "abandoned"
"""Name of a thread that hangs in a library's native code. The process ends without waiting for it, and without the
interpreter's own cleanup, which would."""


AT_LIMIT = 6
"""Exit code of a launch that stopped at a limit and left trials to the next one."""

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""


class LawnTuneError(Exception):
    """The base of every error of the service.

    Args:
        message: what is wrong, with the value got and the values allowed.
        hint: the next step, if there is one.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LawnTuneError, ValueError):
    """Something asked for that cannot be: a flag, a setting, a name."""

    exit_code = 2


class LedgerError(LawnTuneError):
    """The ledger cannot be opened, read or written."""

    exit_code = 3


class DataError(LawnTuneError):
    """A data set is missing or damaged."""

    exit_code = 4


class ExecutionError(LawnTuneError):
    """Training could not be run or went wrong."""

    exit_code = 5
