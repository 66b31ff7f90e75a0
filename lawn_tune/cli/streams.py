"""Standard streams that are closed, full, read by nobody, or lack a character.

What is asked for is printed to standard output, and an error there is an error of the command. Standard error shows how
it goes: if it cannot be written, the command goes on, and its exit code tells.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any, TextIO

from lawn_tune.errors import LawnTuneError


def open_streams() -> None:
    """Puts the null device in the place of standard streams that are closed.

    Otherwise the next file that is opened, as a checkpoint, gets the number of one of them, and what native code prints
    is written into it. Standard output stays without a writer, so that printing is an error. A character that its
    encoding lacks, as a byte of a path may be, is printed as its number.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # the lowest number that is free
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115 - as long as the process
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def cannot_write(error: OSError) -> LawnTuneError:
    """Returns the error of standard output."""
    return LawnTuneError(f"cannot write output: {error.strerror}")


class Output:
    """Standard output whose errors name it: a full disk may be that of the ledger, too."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes text, or raises what the command line explains."""
        with _output_errors():
            return self._stream.write(text)

    def flush(self) -> None:
        """Writes what is buffered, or raises what the command line explains."""
        with _output_errors():
            self._stream.flush()


@contextmanager
def _output_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_write(error) from None


class Shown:
    """Standard error that never fails: what cannot be written is dropped.

    A signal may come while something is written, and its handler write too, which Python refuses with a RuntimeError.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes text if it can be written."""
        with suppress(OSError, ValueError, RuntimeError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Writes what is buffered if it can be written."""
        with suppress(OSError, ValueError, RuntimeError):
            self._stream.flush()


def flush(stream: TextIO) -> OSError | None:
    """Returns the error of writing what is buffered; then the interpreter's own last flush goes nowhere."""
    try:
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None
