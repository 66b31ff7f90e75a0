"""Spaces to cells: the only check of a space against its dataset, model and optimizers. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import search_spaces
from lawn_tune.cells import Cell, CellName, Protocol
from lawn_tune.errors import UsageError
from search_spaces.keys import did_you_mean, space_error
from search_spaces.space import Budget, Grid, SearchSpace, SpaceError
from trainables.config import (
    CONSTRAINTS,
    DATASETS,
    LOSSES,
    METRICS,
    MODELS,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    Dataset,
    ModelConfig,
    OptimizerConfig,
    Split,
    Task,
)

SELECTIONS: tuple[str, ...] = get_args(Split)
REPORTED = ("last", "best")

MAX_POINTS = 10_000
"""Points of one grid: more is a slip of the pen, and no longer coarse."""

BELOW_ONE = frozenset({"momentum", "beta1", "beta2"})
"""Hyperparameters that average over time: at 1 the average never forgets."""


def plan(
    space: SearchSpace,
    *,
    cells: Sequence[str] = (),
    max_epochs: int | None = None,
    seeds: int | None = None,
) -> tuple[Cell, ...]:
    """Returns the cells of a space in plan order: optimizers as in the file, then batch sizes from small to large.

    Args:
        cells: shell patterns such as `adam*/bs512`; a cell is planned if one matches its name, with or without the
            space. None given plans all.
        max_epochs: upper bound of every cell's epochs; warm-up and free epochs stay as in the grid.
        seeds: number of confirm seeds: the first of the file's; beyond those it counts on from the last.

    Raises:
        SpaceError: a key of the file does not fit its dataset, model or optimizer.
        UsageError: a pattern matches no cell, a number is below 1, or a warm-up does not end within `max_epochs`.
    """
    return plan_all((space,), cells=cells, max_epochs=max_epochs, seeds=seeds)


def plan_all(
    spaces: Sequence[SearchSpace],
    *,
    cells: Sequence[str] = (),
    max_epochs: int | None = None,
    seeds: int | None = None,
) -> tuple[Cell, ...]:
    """Returns the cells of several spaces, as `plan` does for one; a pattern has to match a cell of any of them."""
    _at_least_one("--max-epochs", max_epochs)
    _at_least_one("--seeds", seeds)
    planned = [cell for space in spaces for cell in _cells(space, max_epochs, seeds)]
    chosen = select(planned, cells)
    for space in spaces:
        for cell in chosen:
            if cell.name.space == space.name:
                _check_cap(space, cell)
    return chosen


def select(cells: Iterable[Cell], patterns: Sequence[str]) -> tuple[Cell, ...]:
    """Returns the cells that a pattern matches, in their order; all of them without patterns.

    Raises:
        UsageError: a pattern matches none.
    """
    known = tuple(cells)
    for pattern in patterns:
        if not any(_matches(cell.name, pattern) for cell in known):
            names = ", ".join(str(cell.name) for cell in known)
            text = f"--cells {pattern[:80]!r} matches no cell of: {names}"
            raise UsageError(text, "Patterns look like 'adam*/bs512'.")
    return tuple(cell for cell in known if not patterns or any(_matches(cell.name, pattern) for pattern in patterns))


def _matches(name: CellName, pattern: str) -> bool:
    return fnmatchcase(f"{name.optimizer}/bs{name.batch_size}", pattern) or fnmatchcase(str(name), pattern)


def _cells(space: SearchSpace, max_epochs: int | None, seeds: int | None) -> list[Cell]:
    check(space)
    confirm = space.confirm_seeds if seeds is None else _confirm_seeds(space, seeds)
    return [
        _cell(space, optimizer, budget, confirm, max_epochs or budget.epochs)
        for optimizer in space.grids
        for budget in sorted(space.budgets, key=lambda budget: budget.batch_size)
    ]


def _cell(space: SearchSpace, optimizer: str, budget: Budget, confirm: tuple[int, ...], cap: int) -> Cell:
    task = Task(
        dataset=space.dataset,
        model=_model(space),
        loss=space.loss,
        optimizer=optimizer,
        batch_size=budget.batch_size,
        epochs=min(budget.epochs, cap),
        schedule=space.schedule,
        constrain=space.constrain,
        precision=space.precision,
    )
    protocol = Protocol(
        metric=space.metric,
        direction=METRICS[space.metric].direction,
        selection="test" if space.selection == "test" else "validation",
        reported="best" if space.reported == "best" else "last",
        search_seeds=space.search_seeds,
        confirm_seeds=confirm,
        full_epochs=budget.epochs,
    )
    name = CellName(space.name, optimizer, budget.batch_size)
    return Cell(name=name, task=task, grid=space.grids[optimizer], protocol=protocol)


def _confirm_seeds(space: SearchSpace, count: int) -> tuple[int, ...]:
    seeds = list(space.confirm_seeds[:count])
    candidate = space.confirm_seeds[-1]
    while len(seeds) < count:
        candidate += 1
        if candidate not in space.search_seeds and candidate not in space.confirm_seeds:
            seeds.append(candidate)
    return tuple(seeds)


def _at_least_one(flag: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise UsageError(f"{flag} must be a whole number from 1, got {value}", "Leave it out to plan the whole space.")


def _check_cap(space: SearchSpace, cell: Cell) -> None:
    cap, levels = cell.task.epochs, cell.grid.values["warmup_epochs"]
    longest = max(levels)
    if longest >= cap:
        fitting = ", ".join(f"{level:g}" for level in levels if level < cap) or "none"
        built_in = space.source.parent == Path(search_spaces.__file__).parent
        file = "a copy of the file" if built_in else "the file"
        raise UsageError(
            f"--max-epochs {cap} ends {cell.name} within its warm-up: {space.source}: "
            f"optimizers.{cell.name.optimizer}.warmup_epochs has {longest:g}",
            f"Choose --max-epochs above {longest:g}, or shorten the warm-up in {file}; "
            f"of its levels, those below {cap} fit: {fitting}.",
        )


def unconstrained_points(cell: Cell) -> int:
    """Returns how many grid points have a free phase as long as the whole training, which leaves no constraint."""
    points = map(cell.grid.point, range(cell.grid.size))
    return sum(point.get("free_epochs", -1) >= cell.task.epochs for point in points)


# --- checks of a space ---------------------------------------------------------------------------------------------


def check(space: SearchSpace) -> None:
    """Checks every name and key of a space against what exists and fits.

    Raises:
        SpaceError: the first key that does not; the text names file, key, value got, values allowed and what to do.
    """
    _one_of(space, "dataset", space.dataset, DATASETS)
    dataset = DATASETS[space.dataset]
    _check_model(space, dataset)
    _one_of(space, "loss", space.loss, LOSSES)
    _fits(space, "loss", space.loss, dataset.losses)
    _one_of(space, "metric", space.metric, METRICS)
    _fits(space, "metric", space.metric, dataset.metrics)
    _one_of(space, "selection", space.selection, SELECTIONS)
    _one_of(space, "reported", space.reported, REPORTED)
    _one_of(space, "schedule", space.schedule, SCHEDULES)
    _one_of(space, "constrain", space.constrain, CONSTRAINTS)
    _one_of(space, "precision", space.precision, PRECISIONS)
    _check_budgets(space, dataset)
    for name, grid in space.grids.items():
        _one_of(space, f"optimizers.{name}", name, OPTIMIZERS)
        _check_grid(space, name, grid)


def _one_of(space: SearchSpace, key: str, value: str, known: Iterable[str]) -> None:
    names = list(known)
    if value not in names:
        todo = f"{did_you_mean(value, names)}Choose one of these."
        raise space_error(space.source, key, f"must be one of {', '.join(names)}", value, todo)


def _fits(space: SearchSpace, key: str, value: str, fitting: Sequence[str]) -> None:
    if value not in fitting:
        rule = f"must fit the dataset {space.dataset}, which takes {', '.join(fitting)}"
        raise space_error(space.source, key, rule, value, "Choose one of these, or another dataset.")


def _check_model(space: SearchSpace, dataset: Dataset) -> None:
    name = space.model["name"]
    _one_of(space, "model.name", name, MODELS)
    _fits(space, "model.name", name, dataset.models)
    hints = get_type_hints(MODELS[name])
    options = [field.name for field in fields(MODELS[name])]
    for option, value in _model_options(space).items():
        if option not in options:
            rule = f"unknown option; {name} has {', '.join(options)}"
            todo = f"{did_you_mean(option, options)}Rename or remove it."
            raise space_error(space.source, f"model.{option}", rule, value, todo)
        rule = _option_rule(hints[option], value)
        if rule:
            raise space_error(space.source, f"model.{option}", rule, value, "Correct it, or leave it out.")


def _option_rule(hint: Any, value: object) -> str:
    """Returns the rule that `value` breaks for a field of type `hint`, or ""."""
    if get_origin(hint) is Literal:
        return "" if value in get_args(hint) else f"must be one of {', '.join(map(str, get_args(hint)))}"
    if hint is int:
        good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        return "" if good else "must be a whole number from 1"
    return "" if isinstance(value, hint) else f"must be of type {hint.__name__}"


def _model_options(space: SearchSpace) -> dict[str, Any]:
    return {option: value for option, value in space.model.items() if option != "name"}


def _model(space: SearchSpace) -> ModelConfig:
    return MODELS[space.model["name"]](**_model_options(space))


def _check_budgets(space: SearchSpace, dataset: Dataset) -> None:
    for i, budget in enumerate(space.budgets):
        if budget.batch_size > dataset.train_examples:
            rule = f"must be at most the {dataset.train_examples} training examples of {space.dataset}"
            todo = "Choose a smaller one: beyond the data, every batch size is the same training."
            raise space_error(space.source, f"budgets[{i}].batch_size", rule, budget.batch_size, todo)


def _check_grid(space: SearchSpace, name: str, grid: Grid) -> None:
    optimizer = OPTIMIZERS[name]
    allowed = [field.name for field in fields(optimizer)]
    for key, levels in grid.values.items():
        if key not in allowed:
            raise _unknown_hyperparameter(space, name, key, levels, allowed)
        if key in BELOW_ONE and max(levels) >= 1:
            rule = "must hold numbers from 0 to below 1"
            raise space_error(space.source, f"optimizers.{name}.{key}", rule, max(levels), "Correct that value.")
    for field in fields(optimizer):
        if field.default is MISSING and field.name not in grid.values:
            raise SpaceError(
                f"{space.source}: optimizers.{name}.{field.name}: missing key; "
                f"{name} requires {', '.join(_required(optimizer))}. Add it with at least one value."
            )
    if grid.size > MAX_POINTS:
        rule = f"must have at most {MAX_POINTS} points"
        raise space_error(space.source, f"optimizers.{name}", rule, grid.size, "Remove levels until it is coarse.")
    _check_warmup(space, name, grid.values["warmup_epochs"])


def _required(optimizer: type[OptimizerConfig]) -> list[str]:
    return [field.name for field in fields(optimizer) if field.default is MISSING]


def _unknown_hyperparameter(
    space: SearchSpace, name: str, key: str, levels: tuple[float, ...], allowed: list[str]
) -> SpaceError:
    instead: Mapping[tuple[str, bool], str] = {
        ("weight_decay", True): "LAWN has no weight decay in either phase; it uses free_epochs instead. ",
        ("free_epochs", False): f"Only LAWN variants have a free phase; {name} uses weight_decay instead. ",
    }
    reason = instead.get((key, OPTIMIZERS[name].lawn), did_you_mean(key, allowed))
    rule = f"unknown hyperparameter; {name} has {', '.join(allowed)}"
    return space_error(space.source, f"optimizers.{name}.{key}", rule, list(levels), f"{reason}Rename or remove it.")


def _check_warmup(space: SearchSpace, name: str, levels: tuple[float, ...]) -> None:
    shortest = min(space.budgets, key=lambda budget: budget.epochs)
    if max(levels) >= shortest.epochs:
        rule = f"must be below the {shortest.epochs} epochs of batch size {shortest.batch_size}"
        todo = "Shorten the warm-up or raise that budget's epochs."
        raise space_error(space.source, f"optimizers.{name}.warmup_epochs", rule, max(levels), todo)
