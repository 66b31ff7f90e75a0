"""Spaces that extend another: the file names what differs, so that what they share is written once."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from search_spaces.keys import as_list, did_you_mean, space_error
from search_spaces.space import SpaceError
from search_spaces.toml import SUFFIX, TomlError, read_toml

EXTENDS, METHODS, BATCH_SIZES = "extends", "methods", "batch_sizes"
"""The base's name; of its methods and batch sizes, those that the space has."""

MERGED = ("model", "seeds", "optimizers")
"""Tables whose keys replace those of the base one by one; other keys replace the base's whole."""

DEEPEST = 8
"""Longest chain of spaces that extend each other (our choice)."""

Values = dict[str, Any]


def read_space(path: Path, below: tuple[Path, ...] = ()) -> tuple[Values, Path | None]:
    """Returns the values of a space's file, those of the space that it extends filled in, and the file of that space.

    Args:
        path: the file.
        below: files that extend it, to find circles.

    Raises:
        SpaceError: the file or a base cannot be read, or `extends`, `methods` or `batch_sizes` breaks its form.
    """
    try:
        values = read_toml(path)
    except TomlError as error:
        raise SpaceError(f"{path}: {error}") from None
    if EXTENDS not in values:
        return values, None
    file = _base(path, values.pop(EXTENDS), (*below, path))
    base, _ = read_space(file, (*below, path))
    methods, sizes = values.pop(METHODS, None), values.pop(BATCH_SIZES, None)
    own = values.get("optimizers", {})
    if "description" in values:
        base.pop("notes", None)  # which are of the base's description
    merged = {**base, **{key: _merge(key, base.get(key), value) for key, value in values.items()}}
    if sizes is not None:
        budgets = _chosen(path, BATCH_SIZES, sizes, {row["batch_size"]: row for row in _rows(merged)})
        merged["budgets"] = list(budgets.values())
    if methods is not None:
        merged["optimizers"] = _chosen(path, METHODS, methods, _table(merged, "optimizers"))
        _check_used(path, own, {*merged["optimizers"], *_table(base, "optimizers")})
        if "compare" not in values:
            _drop_pairs(merged)
    _drop_overrides(merged, but=own if isinstance(own, dict) else {})
    return merged, file


def _base(path: Path, name: object, below: tuple[Path, ...]) -> Path:
    """Returns the file of the space that a file extends: one next to it, or else a built-in one."""
    places = (path.parent, Path(__file__).parent)
    known = sorted({file.stem for place in places for file in place.glob(f"*{SUFFIX}")} - {path.stem})
    if not isinstance(name, str) or name not in known:
        rule = "must be the name of a space in the same folder or of a built-in one"
        raise space_error(path, EXTENDS, rule, name, f"{did_you_mean(name, known)}Give one of {', '.join(known)}.")
    file = next(file for place in places if (file := place / f"{name}{SUFFIX}").exists())
    if file in below or len(below) > DEEPEST:
        raise space_error(path, EXTENDS, "must not lead back to this file", name, "Extend another space.")
    return file


def _merge(key: str, base: object, own: object) -> object:
    if key in MERGED and isinstance(base, dict) and isinstance(own, dict):
        return {**base, **own}
    return own


def _chosen(path: Path, key: str, names: object, known: dict[Any, Any]) -> Values:
    """Returns the named entries, in the order of the list."""
    if not isinstance(names, list) or not names:
        example = str([*known][:2]).replace("'", '"')
        raise space_error(path, key, "must be a list with at least one value", names, as_list(names, example))
    for name in names:
        if isinstance(name, dict | list) or name not in known or names.count(name) > 1:
            rule = f"must be chosen from {', '.join(map(str, known))}, each once"
            meant = did_you_mean(name, known) if isinstance(name, str) and key == METHODS else ""
            raise space_error(path, key, rule, name, f"{meant}Choose from these.")
    return {name: known[name] for name in names}


def _check_used(path: Path, own: object, known: Collection[str]) -> None:
    """Raises SpaceError if the file has a grid for a method that neither it nor its base names: it would be ignored."""
    for name in own if isinstance(own, dict) else ():
        if name not in known:
            todo = f"{did_you_mean(name, known)}Rename it, or add it to {METHODS}."
            raise space_error(path, f"optimizers.{name}", f"must be one of the {METHODS}", name, todo)


def _rows(values: Values) -> list[Values]:
    """Returns the budgets that have a form; the loader names what is wrong with others."""
    budgets = values.get("budgets")
    rows = budgets if isinstance(budgets, list) else []
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("batch_size"), int)]


def _table(values: Values, key: str) -> Values:
    found = values.get(key)
    return found if isinstance(found, dict) else {}


def _drop_pairs(values: Values) -> None:
    """Leaves out comparisons of methods that were not chosen."""
    if not isinstance(values.get("compare"), list):
        return
    methods, pairs = _table(values, "optimizers"), values.pop("compare")
    kept = [pair for pair in pairs if isinstance(pair, dict) and {*map(str, pair.values())} <= methods.keys()]
    if kept:
        values["compare"] = kept


def _drop_overrides(values: Values, but: Collection[str]) -> None:
    """Leaves out levels that inherited methods have for batch sizes that this space has not."""
    sizes = {str(row["batch_size"]) for row in _rows(values)}
    methods = _table(values, "optimizers")
    for name, table in methods.items():
        if name in but or not isinstance(table, dict) or not isinstance(table.get("batch"), dict):
            continue
        kept = {size: levels for size, levels in table["batch"].items() if size in sizes}
        methods[name] = {key: value for key, value in table.items() if key != "batch"}
        if kept:
            methods[name]["batch"] = kept
