"""What the paper printed, as values: its Tables 1 to 6, read from `paper/tables.toml`, which documents its form."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from search_spaces.keys import Keys, did_you_mean
from search_spaces.space import SpaceError

TABLES = Path(__file__).parent / "paper" / "tables.toml"
FAIL, UNKNOWN = "Fail", "?"
"""Printed in place of a mean; written in place of a batch size that the paper does not say."""

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
        dataset, metric, loss: by our names; "focal-2" is focal loss with gamma 2.
        model: as the paper describes it.
        label: method as printed; `method` is our name of it.
        batch: batch size as printed, "4k"; `batch_size` is how many examples per step we take it for, None if unsaid.
        epochs: the paper's budget.
        text: as printed, without marks: "66.91", "71.16", "Fail".
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
    """One table of the paper; `values` in reading order, see `paper/tables.toml` for the rest."""

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
        SpaceError: the file cannot be read, is no TOML, or breaks its form; the text names file and key.
    """
    top = _Keys(path, "", _parse(path))
    top.requires(_TOP)
    top.only(_TOP)
    names = top.texts("methods")
    sizes = {text: top.whole(f"batch_sizes.{text}", size) for text, size in top.table("batch_sizes").items()}
    return tuple(_table(table, names, sizes) for table in top.tables("tables"))


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or no TOML
        raise SpaceError(f"{path}: cannot be read as TOML: {error}. Restore the file.") from None


def _table(keys: _Keys, names: Mapping[str, str], sizes: Mapping[str, int]) -> PublishedTable:
    keys.requires(_TABLE)
    keys.only((*_TABLE, "errors"))
    number = keys.whole("number", keys.values["number"])
    errors = keys.numbers("errors", 2) if "errors" in keys.values else None
    return PublishedTable(
        number=number,
        title=keys.kind("title", str, "a text"),
        main=keys.kind("main", bool, "true or false"),
        runs=keys.whole("runs", keys.values["runs"]),
        errors=(errors[0], errors[1]) if errors else None,
        bold=keys.kind("bold", str, "a text"),
        facts=keys.listed("facts", str, "texts"),
        doubts=keys.listed("doubts", str, "texts"),
        values=tuple(value for block in keys.tables("blocks") for value in _block(block, number, names, sizes)),
    )


def _block(keys: _Keys, table: int, names: Mapping[str, str], sizes: Mapping[str, int]) -> Iterator[PublishedValue]:
    keys.requires(_BLOCK)
    keys.only(_BLOCK)
    dataset, metric, model = (keys.kind(name, str, "a text") for name in ("dataset", "metric", "model"))
    losses, batches = keys.listed("losses", str, "texts"), keys.listed("batch_sizes", str, "texts")
    columns = max(len(losses), len(batches))
    losses, batches = keys.fill("losses", losses, columns), keys.fill("batch_sizes", batches, columns)
    epochs = keys.fill("epochs", keys.listed("epochs", int, "whole numbers"), columns)
    for label in keys.table("values"):
        method = keys.known(f"values.{label}", label, names)
        texts = _Keys(keys.source, keys.key("values"), keys.values["values"]).listed(label, str, "texts")
        if len(texts) != columns:
            raise keys.error(
                f"values.{label}", f"must hold {columns} values, one a column", texts, "Add or remove some."
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
    found = _VALUE.fullmatch(text)
    if found is None:
        rule = "must be '66.03', '**66.91**', '71.16 (0.05)' or 'Fail'"
        raise keys.error(f"values.{label}", rule, text, "Write it as the paper prints it.")
    error = found["error"]
    return float(found["mean"]), float(error) if error else None, found["bold"] is not None


class _Keys(Keys):
    """A table of the file, with readers for the kinds of value that it has."""

    def kind(self, name: str, kind: type[T], what: str) -> T:
        value = self.values[name]
        if not isinstance(value, kind):
            raise self.error(name, f"must be {what}", value, "Correct it.")
        return value

    def listed(self, name: str, kind: type[T], what: str) -> tuple[T, ...]:
        values = self.values[name]
        if not isinstance(values, list) or not all(type(value) is kind for value in values):
            raise self.error(name, f"must be a list of {what}", values, "Correct it.")
        return tuple(values)

    def numbers(self, name: str, n: int) -> tuple[float, ...]:
        values = self.listed(name, float, "numbers")
        if len(values) != n:
            raise self.error(name, f"must hold {n} numbers", list(values), "Correct it.")
        return values

    def whole(self, name: str, value: object) -> int:
        if type(value) is not int or value < 1:
            raise self.error(name, "must be a whole number from 1", value, "Correct it.")
        return value

    def fill(self, name: str, values: tuple[T, ...], columns: int) -> tuple[T, ...]:
        if len(values) not in (1, columns):
            raise self.error(name, f"must hold 1 value or {columns}, one a column", list(values), "Correct it.")
        return values * columns if len(values) == 1 else values

    def table(self, name: str) -> Mapping[str, Any]:
        return self.kind(name, dict, "a table")

    def texts(self, name: str) -> Mapping[str, str]:
        found = self.table(name)
        for key, value in found.items():
            if not isinstance(value, str):
                raise self.error(f"{name}.{key}", "must be a text", value, "Correct it.")
        return found

    def tables(self, name: str) -> Iterator[_Keys]:
        for i, value in enumerate(self.listed(name, dict, "tables")):
            yield _Keys(self.source, self.key(f"{name}[{i}]"), value)

    def known(self, name: str, value: str, allowed: Mapping[str, T]) -> T:
        if value not in allowed:
            todo = f"{did_you_mean(value, allowed)}Add it there, or correct it."
            raise self.error(name, f"must be one of {', '.join(allowed)}", value, todo)
        return allowed[value]
