"""Rows that others bring: `catalogue.toml` of an installed package, or the table `[catalogue]` of a search space.

    [methods.toy-adam]                      [losses.hinge]
    label = "Toy-Adam"                      label = "hinge"
    rule = "adam"                           targets = "classes"
    control = "toy-control"                 function = "toy.losses:hinge"

A key is a field of the row's class in `rows`; rules and controls are named and may be built in. Reading executes no
foreign code: an entry point of the group `lawn_tune.catalogue` names a file, `toy = "toy:catalogue.toml"`.
"""

from __future__ import annotations

import json
import reprlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from trainables.catalogue.rows import Control, Dataset, Loss, Method, Metric, Model, Rule

GROUP = "lawn_tune.catalogue"
"""Entry points whose value names a file of rows in a top-level package."""

KINDS: Mapping[str, type[Any]] = {
    "rules": Rule,
    "controls": Control,
    "losses": Loss,
    "metrics": Metric,
    "models": Model,
    "datasets": Dataset,
    "methods": Method,
}
"""Table of a file → class of its rows, in the order in which they refer to each other."""

SHOWN = frozenset(
    [
        "label",
        "color",
        "baseline",
        "formula",
        "source",
        "choice",
        "face",
        "summary",
        "download",
        "files",
        "package",
        "sha256",
        "resident",
        "speeds",
        "footprint",
        "metrics",
        "train_examples",
        "full_examples",
        "shape",
        "splits",
        "largest_pack",
        "published",
    ]
)
"""Keys of rows that only describe: plans, estimates, comparisons and figures read them, training does not."""

Rows = dict[str, dict[str, Any]]
"""Kind → name → row."""


class CatalogueError(ValueError):
    """A row that cannot be used; the text names file, key, value and what is allowed."""


def read_file(path: Path) -> dict[str, Any]:
    """Returns the plain values of a TOML file.

    Raises:
        CatalogueError: it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise CatalogueError(f"{path}: cannot be read as TOML: {reason}. Correct the file, or uninstall it.") from None


def read_rows(values: Mapping[str, Any], source: str, known: Rows) -> Rows:
    """Returns rows from plain values, by kind and name.

    Args:
        source: the file, for error messages, with the dotted key of `values` if it is a table of it.
        known: rows that they may refer to.

    Raises:
        CatalogueError: a row breaks the form, or has the name of a known one.
    """
    if unknown := [name for name in values if name not in KINDS]:
        raise CatalogueError(
            f"{source}: {unknown[0]}: unknown table; the tables here are {', '.join(KINDS)}. Rename it."
        )
    found: Rows = {kind: {} for kind in KINDS}
    for kind, row_class in KINDS.items():
        for name, row in _table(values.get(kind, {}), f"{source}: {kind}").items():
            where = f"{source}: {kind}.{name}"
            if name in known[kind]:
                raise CatalogueError(f"{where}: there is a row of this name already. Rename it.")
            named = {"name": name} | _referred(_table(row, where), where, found, known)
            found[kind][name] = _value(row_class, named, where)
    return found


def installed_files() -> Iterator[Path]:
    """Yields the files of rows of all installed packages that have an entry point of `GROUP`.

    Raises:
        CatalogueError: an entry point names no package.
    """
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.value, point.name)):
        package, _, file = point.value.partition(":")
        spec = find_spec(package.partition(".")[0])  # a package's own search path is known without running it
        folders = spec.submodule_search_locations if spec else None
        if not folders:
            raise CatalogueError(
                f"entry point {point.name} = '{point.value}' of {GROUP}: there is no package {package}"
            )
        yield Path(next(iter(folders))) / file


def plain(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns rows as JSON values that `read_rows` reads again, empty tables and defaults left out."""
    return {kind: {name: _plain(row) for name, row in named.items()} for kind, named in rows.items() if named}


def identity(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what of `plain` rows changes the numbers of a trial: no metrics, labels, sizes or addresses."""
    return {
        kind: {name: {key: row[key] for key in row if _counts(key, row)} for name, row in named.items()}
        for kind, named in rows.items()
        if kind != "metrics"
    }


def _counts(key: str, row: Mapping[str, Any]) -> bool:
    """Whether a key of a row identifies it; files do for a training function, whose name says nothing of them.

    So do the digest and the numbers of images of a folder, which say how it is split.
    """
    own = ("sha256", "train_examples", "full_examples") if "folder" in row else ("files",) if "code" in row else ()
    return key not in SHOWN or key in own


def _plain(row: Any) -> dict[str, Any]:
    values = {}
    for field in fields(row):
        value, default = getattr(row, field.name), field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        if field.name == "name" or value == default:
            continue
        if isinstance(value, Rule | Control):
            values[field.name] = value.name
        else:
            values[field.name] = json.loads(json.dumps(value, default=asdict))
    return values


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise CatalogueError(f"{where}: must be a table, got {_shown(value)}. Write it as [kind.name] with keys below.")
    return value


def _referred(row: Mapping[str, Any], where: str, found: Rows, known: Rows) -> dict[str, Any]:
    """Replaces the names of rules and controls by their rows."""
    values = dict(row)
    for key, kind in (("rule", "rules"), ("control", "controls")):
        if key in values:
            rows = known[kind] | found[kind]
            if values[key] not in rows:
                text = f"must be one of {', '.join(rows)}, got {_shown(values[key])}"
                raise CatalogueError(f"{where}.{key}: {text}. Correct it.")
            values[key] = rows[values[key]]
    return values


def _value(kind: Any, value: Any, where: str) -> Any:
    """Returns `value` as what a field of type `kind` holds."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _alternative(arguments, value, where)
    if is_dataclass(kind):
        return value if type(value) is kind else _row(kind, _table(value, where), where)
    if origin is Literal:
        return _checked(value, value in arguments, f"one of {', '.join(map(str, arguments))}", where)
    if origin is tuple:
        items = _checked(value, isinstance(value, list | tuple), "a list", where)
        inner = [arguments[0]] * len(items) if arguments[-1] is Ellipsis else arguments
        _checked(value, len(inner) == len(items), f"a list of {len(inner)}", where)
        return tuple(_value(one, item, f"{where}[{i}]") for i, (one, item) in enumerate(zip(inner, items, strict=True)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in _table(value, where).items()}
    if kind is float and type(value) is int:
        return float(value)
    return _checked(value, type(value) is kind, f"of type {getattr(kind, '__name__', kind)}", where)


def _alternative(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """A union: of plain types, or of one class of rows with None and what no file can hold (functions)."""
    if value is None and NoneType in kinds:
        return None
    rows = [kind for kind in kinds if is_dataclass(kind)]
    if rows:
        return _value(rows[0], value, where)
    if len(kinds) == 2 and NoneType in kinds:
        return _value(next(kind for kind in kinds if kind is not NoneType), value, where)
    return _checked(value, type(value) in kinds, "a number, a text or true/false", where)


def _row(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    if unknown := [name for name in values if name not in known]:
        raise CatalogueError(f"{where}.{unknown[0]}: unknown key; the keys here are {', '.join(known)}. Rename it.")
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise CatalogueError(f"{where}.{name}: missing key. Add it.")
    found = {name: _value(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    try:
        return kind(**found)
    except ValueError as error:
        raise CatalogueError(f"{where}: {error}. Correct it.") from None


def _checked(value: Any, good: bool, rule: str, where: str) -> Any:
    if not good:
        raise CatalogueError(f"{where}: must be {rule}, got {_shown(value)}. Correct it.")
    return value


def _shown(value: object) -> str:
    """Returns a value fit to print, however long or deep it is."""
    text = reprlib.Repr()
    text.maxstring = text.maxother = 120
    return text.repr(value)
