"""The numbers of the paper's Tables 1 to 6, read from `paper/tables.toml`, which documents its own format."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from search_spaces.keys import Keys, did_you_mean
from search_spaces.space import SpaceError
from search_spaces.toml import TomlError, read_toml

TABLES = Path(__file__).parent / "paper" / "tables.toml"
FAIL, UNKNOWN = "Fail", "?"
"""What the paper prints in place of a mean; our mark for a batch size that the paper does not give."""

T = TypeVar("T")

_VALUE = re.compile(r"(?P<bold>\*\*)?(?P<mean>\d+\.\d+)(?(bold)\*\*)( \((?P<error>\d+\.\d+)\))?")
_TOP = ("batch_sizes", "methods", "tables")
_TABLE = ("number", "title", "main", "runs", "bold", "facts", "doubts", "blocks")
_BLOCK = ("dataset", "metric", "model", "losses", "batch_sizes", "epochs", "values")


@dataclass(frozen=True, kw_only=True)
class PublishedValue:
    """One number of the paper.

    Args:
        table: its table's number.
        dataset, metric, loss: our names; "focal-2" is focal loss with gamma 2.
        model: as the paper describes it.
        label: method as printed; `method` is our name for it.
        batch: batch size as printed, "4k"; `batch_size` is our reading in examples per step, None if not given.
        epochs: number of epochs in the paper.
        text: as printed, without bold marks: "66.91", "71.16", "Fail".
        mean: in the metric's unit; None where the method failed.
        error: standard error of the mean, where one is printed for this value.
        bold: printed in bold.
    """

    table: int
    dataset: str
    metric: str
    loss: str
    model: str
    label: str
    method: str
    batch: str
    batch_size: int | None
    epochs: int
    text: str
    mean: float | None
    error: float | None
    bold: bool


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """One table of the paper; `values` in reading order, see `paper/tables.toml` for the other fields."""

    number: int
    title: str
    main: bool
    runs: int
    errors: tuple[float, float] | None
    bold: str
    facts: tuple[str, ...]
    doubts: tuple[str, ...]
    values: tuple[PublishedValue, ...]


def load_tables(path: Path = TABLES) -> tuple[PublishedTable, ...]:
    """Reads the paper's tables.

    Raises:
        SpaceError: the file cannot be read, is not valid TOML, or breaks its format; the message names file and key.
    """
    top = _Keys(path, "", _parse(path))
    top.requires(_TOP)
    top.only(_TOP)
    names = top.strings("methods")
    sizes = {text: top.whole(f"batch_sizes.{text}", size) for text, size in top.table("batch_sizes").items()}
    return tuple(_table(table, names, sizes) for table in top.tables("tables"))


def _parse(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except TomlError as error:
        raise SpaceError(f"{path}: {error.reason}. Restore the file.") from None


def _table(keys: _Keys, names: Mapping[str, str], sizes: Mapping[str, int]) -> PublishedTable:
    keys.requires(_TABLE)
    keys.only((*_TABLE, "errors"))
    number = keys.whole("number", keys.values["number"])
    errors = keys.numbers("errors", 2) if "errors" in keys.values else None
    return PublishedTable(
        number=number,
        title=keys.kind("title", str, "a string"),
        main=keys.kind("main", bool, "true or false"),
        runs=keys.whole("runs", keys.values["runs"]),
        errors=(errors[0], errors[1]) if errors else None,
        bold=keys.kind("bold", str, "a string"),
        facts=keys.listed("facts", str, "strings"),
        doubts=keys.listed("doubts", str, "strings"),
        values=tuple(value for block in keys.tables("blocks") for value in _block(block, number, names, sizes)),
    )


def _block(keys: _Keys, table: int, names: Mapping[str, str], sizes: Mapping[str, int]) -> Iterator[PublishedValue]:
    keys.requires(_BLOCK)
    keys.only(_BLOCK)
    dataset, metric, model = (keys.kind(name, str, "a string") for name in ("dataset", "metric", "model"))
    losses, batches = keys.listed("losses", str, "strings"), keys.listed("batch_sizes", str, "strings")
    columns = max(len(losses), len(batches))
    losses, batches = keys.fill("losses", losses, columns), keys.fill("batch_sizes", batches, columns)
    epochs = keys.fill("epochs", keys.listed("epochs", int, "whole numbers"), columns)
    for label in keys.table("values"):
        method = keys.known(f"values.{label}", label, names)
        texts = _Keys(keys.source, keys.key("values"), keys.values["values"]).listed(label, str, "strings")
        if len(texts) != columns:
            raise keys.error(
                f"values.{label}", f"must hold {columns} values, one per column", texts, "Add or remove some."
            )
        for loss, batch, budget, text in zip(losses, batches, epochs, texts, strict=True):
            mean, error, bold = _number(keys, label, text)
            yield PublishedValue(
                table=table, dataset=dataset, metric=metric, loss=loss, model=model, label=label, method=method,
                batch=batch, batch_size=None if batch == UNKNOWN else keys.known("batch_sizes", batch, sizes),
                epochs=budget, text=text.replace("*", "").partition(" ")[0], mean=mean, error=error, bold=bold,
            )  # fmt: skip


def _number(keys: _Keys, label: str, text: str) -> tuple[float | None, float | None, bool]:
    if text == FAIL:
        return None, None, False
    match = _VALUE.fullmatch(text)
    if match is None:
        rule = "must be '66.03', '**66.91**', '71.16 (0.05)' or 'Fail'"
        raise keys.error(f"values.{label}", rule, text, "Write it as the paper prints it.")
    error = match["error"]
    return float(match["mean"]), float(error) if error else None, match["bold"] is not None


class _Keys(Keys):
    """A table of the file, with a reader for each kind of value."""

    def kind(self, name: str, kind: type[T], what: str) -> T:
        value = self.values[name]
        if not isinstance(value, kind):
            raise self.error(name, f"must be {what}", value, "Fix it.")
        return value

    def listed(self, name: str, kind: type[T], what: str) -> tuple[T, ...]:
        values = self.values[name]
        if not isinstance(values, list) or not all(type(value) is kind for value in values):
            raise self.error(name, f"must be a list of {what}", values, "Fix it.")
        return tuple(values)

    def numbers(self, name: str, n: int) -> tuple[float, ...]:
        values = self.listed(name, float, "numbers")
        if len(values) != n:
            raise self.error(name, f"must hold {n} numbers", list(values), "Fix it.")
        return values

    def whole(self, name: str, value: object) -> int:
        if type(value) is not int or value < 1:
            raise self.error(name, "must be a whole number from 1", value, "Fix it.")
        return value

    def fill(self, name: str, values: tuple[T, ...], columns: int) -> tuple[T, ...]:
        if len(values) not in (1, columns):
            raise self.error(name, f"must hold 1 value or {columns}, one per column", list(values), "Fix it.")
        return values * columns if len(values) == 1 else values

    def table(self, name: str) -> Mapping[str, Any]:
        return self.kind(name, dict, "a table")

    def strings(self, name: str) -> Mapping[str, str]:
        strings = self.table(name)
        for key, value in strings.items():
            if not isinstance(value, str):
                raise self.error(f"{name}.{key}", "must be a string", value, "Fix it.")
        return strings

    def tables(self, name: str) -> Iterator[_Keys]:
        for i, value in enumerate(self.listed(name, dict, "tables")):
            yield _Keys(self.source, self.key(f"{name}[{i}]"), value)

    def known(self, name: str, value: str, allowed: Mapping[str, T]) -> T:
        if value not in allowed:
            todo = f"{did_you_mean(value, allowed)}Add it there, or fix it."
            raise self.error(name, f"must be one of {', '.join(allowed)}", value, todo)
        return allowed[value]
