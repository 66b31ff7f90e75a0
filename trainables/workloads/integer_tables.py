"""Strict readers of text files that hold whole numbers; any other form is one error that names file and row."""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.data import DataError

AGAIN = "Fetch it again, or restore the original."


def read_table(path: Path, names: str, columns: Collection[int], separator: str = "\t") -> NDArray[np.int64]:
    """Reads rows of whole numbers; empty lines are skipped.

    Args:
        path: text in ASCII, with any line ends.
        names: of the columns, for error messages: "user, item, rating, timestamp".
        columns: how many there may be; all rows have the same.
        separator: between two columns.

    Returns:
        [rows, columns], at least one row.

    Raises:
        DataError: the file does not have that form.
    """
    allowed = " or ".join(map(str, columns))
    rule = f"must contain rows of {allowed} whole numbers ({names}) separated by {SEPARATORS.get(separator, separator)}"
    try:
        text = path.read_text(encoding="ascii")
        table = _numbers(text if separator == "\t" else _with_tabs(text, separator))
    except (ValueError, OSError) as error:
        raise DataError(f"{path} {rule}: {error}. {AGAIN}") from error
    if table.shape[1] not in columns or not len(table):
        raise DataError(f"{path} {rule}, got {table.shape[1]} columns and {len(table)} rows. {AGAIN}")
    return table


SEPARATORS = {"\t": "tabs", "::": "'::'"}


def _with_tabs(text: str, separator: str) -> str:
    if "\t" in text:
        raise ValueError(f"row {text[: text.index(chr(9))].count(chr(10)) + 1} contains a tab")
    return text.replace(separator, "\t")


def _numbers(text: str) -> NDArray[np.int64]:
    if not text.strip():
        return np.empty((0, 0), dtype=np.int64)
    return np.loadtxt(io.StringIO(text), dtype=np.int64, delimiter="\t", ndmin=2, comments=None)
