"""A CSV file of finished runs: one line a run, some columns with a meaning, all others hyperparameters."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, Literal, cast

from lawn_tune.cells import Phase
from lawn_tune.errors import UsageError
from lawn_tune.planning.imported import Run

COLUMNS: Mapping[str, str] = {
    "method": "a name of letters, digits, '.', '_' and '-', starting with a letter or digit",
    "batch_size": "a whole number from 1",
    "seed": "a whole number from 0",
    "phase": "search or confirm",
    "outcome": "complete or diverged",
    "validation": "a number, or empty",
    "test": "a number, or empty",
    "epochs": "a whole number from 1",
    "seconds": "a number from 0, or empty",
}
"""Column → what it holds."""

REQUIRED = ("method", "validation|test")
NAME = r"[A-Za-z0-9][\w.-]*"
DOCS = "docs/importing.md lists the columns."


def read_runs(path: Path) -> list[Run]:
    """Returns the runs of a file.

    Raises:
        UsageError: it cannot be read, has no run, or a value breaks the form; the text names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header)
            runs = list(_runs(path, header, reader))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", "Give the path of a CSV file.") from None
    except UnicodeError:
        raise UsageError(f"{path}: must be UTF-8 text", "Save it as CSV in UTF-8, with commas.") from None
    except csv.Error as error:
        raise UsageError(f"{path}: not a CSV file: {error}", "Save it as CSV in UTF-8, with commas.") from None
    if not runs:
        raise UsageError(f"{path}: it has no run", "Write one line a run below the header.")
    return runs


def _check_header(path: Path, header: list[str]) -> None:
    for names in REQUIRED:
        if not set(names.split("|")) & set(header):
            shown = ", ".join(header) or "nothing"
            todo = "Separate its columns by commas." if re.search(r"[;\t]", shown) else DOCS
            raise UsageError(f"{path}: the header needs {names.replace('|', ' or ')}, got {shown}", todo)
    for name in header:
        if not name or header.count(name) > 1:
            raise UsageError(f"{path}: every column needs a name of its own, got '{name}' in the header", DOCS)


def _runs(path: Path, header: list[str], reader: Any) -> Iterator[Run]:
    for values in reader:
        where = f"{path}, line {reader.line_num}"
        if not any(value.strip() for value in values):
            continue
        if len(values) != len(header):
            raise UsageError(f"{where}: {len(values)} values for the header's {len(header)} columns", "Correct it.")
        yield _run(_Line(where, dict(zip(header, (value.strip() for value in values), strict=True))))


class _Line:
    """The values of a line by column, with a reader for each kind; one that breaks the form raises UsageError."""

    def __init__(self, where: str, row: Mapping[str, str]) -> None:
        self.where, self.row = where, row

    def refused(self, name: str) -> UsageError:
        """Returns the error of a value."""
        rule = COLUMNS.get(name, "a number from 0, or empty where the method does not have it")
        return UsageError(f"{self.where}: {name}: must be {rule}, got '{self.row[name]}'", DOCS)

    def number(self, name: str, low: float = -1e308) -> float | None:
        """Returns a number from `low`; None for an empty value, or without the column."""
        text = self.row.get(name, "")
        try:
            found = float(text) if text else None
        except ValueError:
            raise self.refused(name) from None
        if found is not None and not (isfinite(found) and found >= low):
            raise self.refused(name)
        return found

    def whole(self, name: str, low: int) -> int:
        """Returns a whole number from `low`, which is also the default."""
        text = self.row.get(name, "") or str(low)
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < low:
            raise self.refused(name)
        return int(text)

    def word(self, name: str, *allowed: str) -> str:
        """Returns one of the allowed words; the first is the default."""
        text = self.row.get(name, "") or allowed[0]
        if text not in allowed:
            raise self.refused(name)
        return text

    def point(self) -> tuple[tuple[str, float], ...]:
        """Returns the hyperparameters that have a value."""
        values = {name: self.number(name, 0.0) for name in self.row if name not in COLUMNS}
        return tuple((name, value) for name, value in values.items() if value is not None)


def _run(line: _Line) -> Run:
    method = line.row["method"]
    if not re.fullmatch(NAME, method, re.ASCII):
        raise line.refused("method")
    run = Run(
        where=line.where,
        method=method,
        batch_size=line.whole("batch_size", 1),
        seed=line.whole("seed", 0),
        phase=cast(Phase, line.word("phase", "search", "confirm")),
        point=line.point(),
        outcome=cast(Literal["complete", "diverged"], line.word("outcome", "complete", "diverged")),
        validation=line.number("validation"),
        test=line.number("test"),
        epochs=line.whole("epochs", 1),
        seconds=line.number("seconds", 0.0),
    )
    measured = run.test if run.phase == "confirm" or run.validation is None else run.validation
    if run.outcome == "complete" and measured is None:
        needed = "test" if run.phase == "confirm" else "validation"
        text = f"{line.where}: {needed}: a complete {run.phase} run needs a value"
        raise UsageError(text, f"Or outcome diverged. {DOCS}")
    return run
