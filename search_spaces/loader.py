"""TOML to SearchSpace. Checks the form of a file; the planner checks that the names in it exist."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from search_spaces.extending import BATCH_SIZES, EXTENDS, METHODS, read_space
from search_spaces.keys import space_error
from search_spaces.levels import AUTO, DEFAULT_MARGIN, MARGIN, MAX_MARGIN, of_batch
from search_spaces.space import Budget, Grid, OwnClass, Pairing, SearchSpace, SpaceError
from search_spaces.table import Table, check_name, finite
from search_spaces.toml import SUFFIX

DEFAULTS: Mapping[str, str] = {
    "selection": "validation",
    "reported": "last",
    "schedule": "linear",
    "constrain": "all",
    "precision": "float32",
}
"""Keys that a file may leave out."""

BATCH = "batch"
"""Key of a method under which batch sizes override its levels."""

CLASS, CONTROL = "class", "control"
"""Keys of a method that name a torch optimizer class, and the control around it."""

FROM_BATCH = "from_batch"
"""Key of a table in place of a list: the level is that of the winner at another batch size."""

NOT_LEVELS = (BATCH, CLASS, CONTROL)
"""Keys of a method that are no hyperparameters."""

OPTIONAL = ("notes", "margin", "compare", "catalogue")
"""Keys without a default that a file may leave out."""

REQUIRED = ("description", "metric", "seeds", "optimizers")
"""Keys of every file."""

ROWS = ("dataset", "loss", "model", "budgets")
"""Keys of a file whose dataset, loss and model are rows of the catalogue."""

WORKLOAD = "workload"
OWN_WORKLOAD = (WORKLOAD, "examples", "budgets")
"""Keys of a file with a workload of the user's, which brings all three."""

TRAINABLE = "trainable"
OWN_FUNCTION = ("examples", "epochs", "budgets")
NOT_OWN = ("constrain", "precision")
"""Keys of a file with a training function, and defaults that it has no say in: its function trains as it likes."""

SOURCES = ("sources", "data")
"""Keys of a file with either."""

DIRECTIONS = ("maximize", "minimize")
MOST_DIGITS = 15
"""Decimals of a metric in a table: a number of a ledger has no more."""

ALONE = 1
"""Batch size of the cells of a space that has epochs and no batch sizes."""


def load_space(path: Path) -> SearchSpace:
    """Reads a search space; its name is the file's stem.

    Raises:
        SpaceError: the file cannot be read, is not valid TOML, or breaks the form that the built-in spaces document;
            the message names the file, the dotted key, the value found, what is allowed and what to do.
    """
    values, base = read_space(path)
    if base is not None:
        load_space(base)  # so that errors of its keys name it
    top = Table(path, "", {**DEFAULTS, **values})
    own = TRAINABLE in values or WORKLOAD in values
    classes = _classes(top.table("optimizers")) if "optimizers" in values else {}
    _check_keys(Table(path, "", values), (*(SOURCES[:1] if classes else ()), *((METHODS, BATCH_SIZES) if base else ())))
    seeds = top.table("seeds")
    seeds.only(["search", "confirm"])
    seeds.requires(["search", "confirm"])
    return SearchSpace(
        name=check_name(path, "the file name", path.name.removesuffix(SUFFIX)),
        source=path,
        description=top.text("description"),
        notes=top.text("notes") if "notes" in values else "",
        dataset="" if own else top.name("dataset"),
        model={} if own else _model(top.table("model")),
        loss="" if own else top.name("loss"),
        metric=_metric(top),
        selection=top.name("selection"),
        reported=top.name("reported"),
        margin=_margin(top) if "margin" in values else None,
        schedule=top.name("schedule"),
        constrain=top.name("constrain"),
        precision=top.name("precision"),
        search_seeds=seeds.integers("search"),
        confirm_seeds=_confirm_seeds(seeds),
        budgets=_budgets(top) if "budgets" in values else _epochs(top),
        grids=_grids(top.table("optimizers")),
        overrides=_overrides(top.table("optimizers")),
        compare=_comparisons(top) if "compare" in values else (),
        catalogue=_catalogue(top),
        trainable=top.text(TRAINABLE) if TRAINABLE in values else "",
        workload=top.text(WORKLOAD) if WORKLOAD in values else "",
        classes=classes,
        sources=top.texts("sources") if "sources" in values else (),
        data=_files(top) if "data" in values else {},
        examples=top.integer("examples", values["examples"], minimum=1) if "examples" in values else None,
    )


def _check_keys(top: Table, also: Collection[str]) -> None:
    """Checks that the keys are those of a file of its kind, or are allowed as well, and that none is missing."""
    needed: tuple[str, ...] = ROWS
    others: tuple[str, ...] = (WORKLOAD, TRAINABLE, *also)
    defaults = [name for name in DEFAULTS if TRAINABLE not in top.values or name not in NOT_OWN]
    if TRAINABLE in top.values:
        needed, others = (TRAINABLE,), (*OWN_FUNCTION, *SOURCES)
    elif WORKLOAD in top.values:
        needed, others = OWN_WORKLOAD, SOURCES
    elif "dataset" not in top.values:
        others = (*others, *OWN_FUNCTION, *SOURCES)
    top.only(dict.fromkeys([*REQUIRED, *needed, *others, *defaults, *OPTIONAL, EXTENDS]))
    top.requires(REQUIRED)
    if needed == ROWS and "dataset" not in top.values:
        rule = f"missing key; a space has a dataset, a {WORKLOAD} or a {TRAINABLE}"
        raise SpaceError(f"{top.source}: dataset: {rule}. Add one of the three to the top of the file.")
    top.requires(needed)


def _model(table: Table) -> dict[str, Any]:
    table.requires(["name"])
    for name, value in table.values.items():
        if not isinstance(value, str | int | float | bool):
            raise table.error(name, "must be a single number, string or boolean", value, "Write a single value.")
    return {**table.values, "name": table.name("name")}


def _confirm_seeds(seeds: Table) -> tuple[int, ...]:
    search, confirm = seeds.integers("search"), seeds.integers("confirm")
    shared = sorted(set(search) & set(confirm))
    if shared:
        rule = f"must not contain any of seeds.search = {list(search)}"
        raise seeds.error(
            "confirm", rule, shared, "Replace those seeds, so that each winner is retrained with new ones."
        )
    return confirm


def _margin(top: Table) -> float:
    value = top.values["margin"]
    number = finite(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    if number is None or number <= 0:
        todo = "Write the smallest difference that would matter, as 0.5."
        raise top.error("margin", "must be a number above 0", value, todo)
    return number


def _metric(top: Table) -> str:
    """Returns the name of the metric, which a table defines and a string names."""
    if not isinstance(top.values["metric"], dict):
        return top.text("metric")
    table = top.table("metric")
    table.only(["name", "direction", "label", "unit", "digits"])
    table.requires(["name", "direction"])
    if table.values["direction"] not in DIRECTIONS:
        rule = f"must be {' or '.join(DIRECTIONS)}"
        raise table.error("direction", rule, table.values["direction"], "Choose one of these.")
    if "label" in table.values:
        table.text("label")
    if not isinstance(table.values.get("unit", ""), str):
        raise table.error("unit", "must be a string", table.values["unit"], 'Write it in quotes, as "%".')
    digits = table.values.get("digits", 0)
    if type(digits) is not int or not 0 <= digits <= MOST_DIGITS:
        todo = "Write how many decimals a table shows."
        raise table.error("digits", f"must be a whole number from 0 to {MOST_DIGITS}", digits, todo)
    return table.name("name")


def _catalogue(top: Table) -> Mapping[str, Any]:
    """Returns the rows that the space brings, the one of a metric that it defines included."""
    rows = dict(top.table("catalogue").values) if "catalogue" in top.values else {}
    metric, others = top.values["metric"], rows.get("metrics", {})
    if isinstance(metric, dict) and isinstance(others, dict):
        row = {"label": metric["name"]} | {key: value for key, value in metric.items() if key != "name"}
        rows["metrics"] = others | {metric["name"]: row}
    return rows


def _files(top: Table) -> dict[str, str]:
    """Returns path → sha256 of the data files that a space declares."""
    found: dict[str, str] = {}
    for table in top.tables("data", ("path", "sha256")):
        path, digest = Path(table.text("path")), table.text("sha256")
        if path.is_absolute() or ".." in path.parts or str(path) in found:
            raise table.error("path", "must be a path in the data folder, each once", str(path), "Correct it.")
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise table.error("sha256", "must have 64 hex digits", digest, "Take those that `sha256sum` prints.")
        found[str(path)] = digest
    return found


def _epochs(top: Table) -> tuple[Budget, ...]:
    top.requires(["epochs"])
    return (Budget(batch_size=ALONE, epochs=top.integer("epochs", top.values["epochs"], minimum=1)),)


def _budgets(top: Table) -> tuple[Budget, ...]:
    if "epochs" in top.values:
        raise top.error("epochs", "must not be next to [[budgets]]", top.values["epochs"], "Keep one of the two.")
    budgets: list[Budget] = []
    micro_batch = () if TRAINABLE in top.values else ("micro_batch",)
    for table in top.tables("budgets", ("batch_size", "epochs"), micro_batch):
        sizes = {name: table.integer(name, number, minimum=1) for name, number in table.values.items()}
        if sizes["batch_size"] in [budget.batch_size for budget in budgets]:
            raise table.error(
                "batch_size", "must differ from that of every other budget", sizes["batch_size"], "Keep one."
            )
        if sizes.get("micro_batch", 0) >= sizes["batch_size"]:
            todo = "Choose a smaller one, or leave it out to take the whole batch at once."
            raise table.error(
                "micro_batch", f"must be below batch_size {sizes['batch_size']}", sizes["micro_batch"], todo
            )
        budgets.append(Budget(**sizes))
    return tuple(budgets)


def _grids(optimizers: Table) -> dict[str, Grid]:
    if not optimizers.values:
        todo = "Add a table such as [optimizers.adam]."
        raise space_error(optimizers.source, "optimizers", "must name at least one optimizer", {}, todo)
    return {name: Grid(_levels(_named(optimizers, name), but=NOT_LEVELS)) for name in optimizers.values}


def _classes(optimizers: Table) -> dict[str, OwnClass]:
    """Returns the torch optimizer classes of the methods that name one."""
    found: dict[str, OwnClass] = {}
    for name in optimizers.values:
        table = _named(optimizers, name)
        if CLASS in table.values:
            control = table.name(CONTROL) if CONTROL in table.values else ""
            found[name] = OwnClass(optimizer=table.text(CLASS), control=control)
        elif CONTROL in table.values:
            todo = 'Add class = "file.py:Name", or remove it.'
            raise table.error(CONTROL, "must be next to a class", table.values[CONTROL], todo)
    return found


def _overrides(optimizers: Table) -> dict[str, dict[int, dict[str, tuple[float, ...]]]]:
    """Returns the levels of `[optimizers.<method>.batch.<size>]`, of the methods that have any."""
    found: dict[str, dict[int, dict[str, tuple[float, ...]]]] = {}
    for name in optimizers.values:
        table = _named(optimizers, name)
        if BATCH in table.values:
            sizes, margins = table.table(BATCH), _margins(table, (DEFAULT_MARGIN,))
            found[name] = {_batch_size(sizes, size): _override(sizes.table(size), margins) for size in sizes.values}
    return found


def _override(table: Table, margins: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    """Returns the levels of a batch size; one that another batch size decides is a number for it."""
    decided = {name: table.table(name) for name, value in table.values.items() if isinstance(value, dict)}
    found = _levels(table, margins, but=decided)
    for name, source in decided.items():
        source.only([FROM_BATCH])
        source.requires([FROM_BATCH])
        found[name] = (of_batch(source.integer(FROM_BATCH, source.values[FROM_BATCH], minimum=1)),)
    return {name: found[name] for name in table.values if name in found}


def _batch_size(sizes: Table, text: str) -> int:
    if not text.isascii() or not text.isdigit() or text.startswith("0"):
        raise sizes.error(text, "must be a batch size", text, "Write the table as [optimizers.adam.batch.4096].")
    return int(text)


def _named(optimizers: Table, name: str) -> Table:
    table = optimizers.table(name)
    check_name(table.source, table.prefix, name)
    return table


def _levels(
    table: Table, margins: tuple[float, ...] = (DEFAULT_MARGIN,), but: Collection[str] = ()
) -> dict[str, tuple[float, ...]]:
    """Returns the levels of a table, those of "auto" one for each of its margins, or else of the given ones."""
    keys = [key for key in table.values if key != MARGIN and key not in but]
    for key in keys:
        check_name(table.source, table.key(key), key)
    margins = _margins(table, margins)
    return {key: _levels_of(table, key, margins) for key in keys}


def _levels_of(table: Table, key: str, margins: tuple[float, ...]) -> tuple[float, ...]:
    value = table.values[key]
    if isinstance(value, dict) and FROM_BATCH in value:
        todo = f"Move {FROM_BATCH} to the table of a batch size, such as [optimizers.adam.{BATCH}.4096]."
        raise table.error(key, "must be a list, from which each batch size takes its levels", value, todo)
    return table.levels(key, margins)


def _margins(table: Table, default: tuple[float, ...]) -> tuple[float, ...]:
    if MARGIN not in table.values:
        return default
    margins = table.numbers(MARGIN)
    if not 0 < min(margins) <= max(margins) <= MAX_MARGIN:
        rule = f"must contain only numbers above 0, up to {MAX_MARGIN:,}"
        raise table.error(MARGIN, rule, table.values[MARGIN], "Write logits, as [2, 4, 8].")
    if not any(isinstance(levels, list) and AUTO in levels for levels in table.values.values()):
        raise table.error(
            MARGIN, f'needs a level "{AUTO}" in the same table', list(margins), f'Add "{AUTO}" to a list, or remove it.'
        )
    return margins


def _comparisons(top: Table) -> tuple[Pairing, ...]:
    return tuple(
        Pairing(challenger=table.name("challenger"), baseline=table.name("baseline"))
        for table in top.tables("compare", ("challenger", "baseline"))
    )
