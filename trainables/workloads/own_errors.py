"""What is wrong with a user's workload, in one line that names the place in its source."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.out_of_memory import memory_ended

FOLDER = "lawn-tune-workload-"
"""Beginning of the name of the folder that the sources of a workload are imported from."""


class WorkloadError(ValueError):
    """A workload that cannot be trained: one line, then its traceback where there is one."""


@contextmanager
def users(name: str, given: str = "") -> Iterator[None]:
    """Around a call of a user's function: what it raises becomes a `WorkloadError`, except that memory ran out.

    Args:
        name: of the function.
        given: what it was called with, for the error; "" to leave that out.
    """
    try:
        yield
    except WorkloadError:
        raise
    except (Exception, SystemExit) as error:
        if memory_ended(error):
            raise
        trace = traceback.format_exc()
        text = f"{name} raised {type(error).__name__}: {reason(error)}" + (f"; it was given {given}" if given else "")
        raise WorkloadError(f"{text}\n{trace}") from None


def reason(error: BaseException) -> str:
    """Returns the first line of an error and the place in the user's source that it comes from."""
    lines = str(error).strip().splitlines()
    place = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if FOLDER in frame.filename
    ]
    return (lines[0] if lines else type(error).__name__) + (f" ({place[-1]})" if place else "")
