"""The only check of a space against the catalogue: do its names exist, and do they fit each other?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import get_args

from lawn_tune.planning.classes import codes_of_classes, with_classes
from lawn_tune.planning.functions import with_own_code
from search_spaces.keys import did_you_mean, space_error
from search_spaces.levels import batch_of, split, text
from search_spaces.space import Grid, SearchSpace, SpaceError
from search_spaces.table import LARGEST
from trainables.catalogue import Catalogue, CatalogueError, installed
from trainables.catalogue.methods import CONTROLS
from trainables.catalogue.rows import ANY_LOSS, Hyperparameter, Method, Option, Value
from trainables.tasks import CONSTRAINTS, PRECISIONS, SCHEDULES, Split

SELECTIONS: tuple[str, ...] = get_args(Split)
REPORTED = ("last", "best")
WARMUP = "warmup_epochs"

MAX_POINTS = 10_000
"""Points of one grid: more is probably a typo, and no longer coarse."""

CONTROL_KEYS = frozenset(
    row.name for control in CONTROLS.values() for row in (*control.hyperparameters, control.switch) if row
)
"""Hyperparameters of built-in controls, which are mistaken for each other."""


def catalogue_of(space: SearchSpace) -> tuple[SearchSpace, Catalogue]:
    """Returns the rows a space can name: built-in ones, those of installed packages, and its own.

    Returns:
        The space, which names a row wherever its file has a training function or a workload, and the rows.

    Raises:
        SpaceError: a row breaks the form, or there is no such function, workload or class; the text names its file.
    """
    try:
        known, classes = installed(), codes_of_classes(space)
        _check_own_metric(space, known)
        if space.code:
            space, known = with_own_code(space, known, classes)
        elif space.catalogue:
            known = known.with_rows(space.catalogue, f"{space.source}: catalogue")
        return space, with_classes(space, known, classes)
    except CatalogueError as error:
        raise SpaceError(str(error)) from None


def _check_own_metric(space: SearchSpace, known: Catalogue) -> None:
    """Refuses a metric of the space that has the name of another one, whose row it would be taken for."""
    own = space.catalogue.get("metrics", {})
    if space.metric in known.metrics and isinstance(own, Mapping) and space.metric in own:
        todo = f'Write metric = "{space.metric}" to use that one, or rename yours.'
        raise space_error(space.source, "metric", "must not have the name of a built-in metric", space.metric, todo)


def check(space: SearchSpace, known: Catalogue) -> None:
    """Checks every name and key of a space against what exists and fits.

    Args:
        known: from `catalogue_of`.

    Raises:
        SpaceError: the first key that does not; the text names file, key, value got, values allowed and what to do.
    """
    _one_of(space, "dataset", space.dataset, known.datasets)
    dataset = known.datasets[space.dataset]
    _check_model(space, known)
    _one_of(space, "loss", space.loss, known.losses)
    _fits(space, "loss", space.loss, known.losses_of(dataset))
    _check_metric(space, known)
    _fits(space, "metric", space.metric, dataset.metrics)
    _one_of(space, "selection", space.selection, ("validation",) if space.trainable else SELECTIONS)
    _one_of(space, "reported", space.reported, REPORTED)
    _one_of(space, "schedule", space.schedule, SCHEDULES)
    _one_of(space, "constrain", space.constrain, CONSTRAINTS)
    _one_of(space, "precision", space.precision, PRECISIONS)
    _check_budgets(space, dataset.train_examples)
    for name in space.grids:
        _one_of(space, f"optimizers.{name}", name, known.methods)
        if baseline := known.methods[name].baseline:
            _one_of(space, f"catalogue.methods.{name}.baseline", baseline, known.methods)
        _check_face(space, known.methods[name])
        _check_grids(space, known.methods[name])
        _check_loss(space, known, known.methods[name])
    _check_comparisons(space)


def _one_of(space: SearchSpace, key: str, value: str, known: Iterable[str]) -> None:
    names = list(known)
    if value not in names:
        todo = f"{did_you_mean(value, names)}Choose one of these."
        raise space_error(space.source, key, f"must be one of {', '.join(names)}", value, todo)


def _check_metric(space: SearchSpace, known: Catalogue) -> None:
    names = list(known.metrics)
    if space.metric not in names:
        own = f'write {{ name = "{space.metric}", direction = "minimize" }} for one of your own' if space.code else ""
        todo = f"{did_you_mean(space.metric, names)}Choose one of these{own and f', or {own}'}."
        raise space_error(space.source, "metric", f"must be one of {', '.join(names)}", space.metric, todo)


def _fits(space: SearchSpace, key: str, value: str, fitting: Sequence[str]) -> None:
    if value not in fitting:
        rule = f"must fit the dataset {space.dataset}, which takes {', '.join(fitting)}"
        raise space_error(space.source, key, rule, value, "Choose one of these, or another dataset.")


def _check_model(space: SearchSpace, known: Catalogue) -> None:
    name = space.model["name"]
    _one_of(space, "model.name", name, known.models)
    _fits(space, "model.name", name, known.models_of(known.datasets[space.dataset]))
    options = {option.name: option for option in known.models[name].options}
    for option, value in space.model.items():
        if option == "name":
            continue
        if option not in options:
            rule = f"unknown option; {name} has {', '.join(options) or 'none'}"
            todo = f"{did_you_mean(option, options)}Rename or remove it."
            raise space_error(space.source, f"model.{option}", rule, value, todo)
        rule = _option_rule(options[option], value)
        if rule:
            raise space_error(space.source, f"model.{option}", rule, value, "Correct it, or leave it out.")


def _option_rule(option: Option, value: Value) -> str:
    """Returns the rule that `value` breaks, or ""."""
    kind = type(option.default)
    if option.choices:
        return "" if value in option.choices else f"must be one of {', '.join(map(str, option.choices))}"
    if kind is int:
        return "" if type(value) is int and 1 <= value <= LARGEST else f"must be a whole number from 1 to {LARGEST}"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    return "" if type(value) is kind else f"must be of type {kind.__name__}"


def _check_budgets(space: SearchSpace, examples: int) -> None:
    for i, budget in enumerate(space.budgets):
        if budget.batch_size > examples:
            rule = f"must be at most the {examples} training examples of {space.dataset}"
            todo = "Choose a smaller one: beyond the data, every batch size is the same training."
            raise space_error(space.source, f"budgets[{i}].batch_size", rule, budget.batch_size, todo)


def _check_face(space: SearchSpace, method: Method) -> None:
    """Refuses methods that a training function cannot have: no torch optimizer makes their steps for any model."""
    if space.trainable and method.rule.direction and ("params" not in method.face or "hidden" in method.face):
        rule = "must have a torch optimizer for any parameters (docs/methods.md)"
        raise space_error(space.source, f"optimizers.{method.name}", rule, method.name, "Choose another method.")


def _check_grids(space: SearchSpace, method: Method) -> None:
    """Checks the grid of every cell of a method, each under the key that its levels have in the file."""
    key, sizes = f"optimizers.{method.name}", {budget.batch_size: budget for budget in space.budgets}
    _check_levels(space, key, method, space.grids[method.name].values)
    _check_size(space, key, space.grids[method.name])
    for size, override in space.overrides.get(method.name, {}).items():
        if size not in sizes:
            rule = f"must be one of the batch sizes of [[budgets]], {', '.join(map(str, sizes))}"
            raise space_error(space.source, f"{key}.batch.{size}", rule, size, "Correct or remove the table.")
        plain = {name: levels for name, levels in override.items() if batch_of(levels[0]) is None}
        _check_levels(space, f"{key}.batch.{size}", method, plain)
        for name in override.keys() - plain.keys():
            _check_kept(space, f"{key}.batch.{size}.{name}.from_batch", method, size, name)
        _check_size(space, f"{key}.batch.{size}", space.grid(method.name, size))
    for name in method.required:
        if name not in space.grids[method.name].values:
            unknown = [other for other in space.grids[method.name].values if other not in method.hyperparameters]
            close = get_close_matches(name, unknown, n=1)
            todo = f"Rename {close[0]}, or add" if close else "Add"
            raise SpaceError(
                f"{space.source}: {key}.{name}: missing key; {method.name} requires {', '.join(method.required)}. "
                f"{todo} it with at least one value."
            )
    _check_warmup(space, method.name)


def _check_kept(space: SearchSpace, key: str, method: Method, size: int, name: str) -> None:
    """Checks a level that is that of the winner at another batch size."""
    source, own = batch_of(space.overrides[method.name][size][name][0]), space.grids[method.name].values
    if name not in own or name in (method.switch, WARMUP):
        free = ", ".join(other for other in own if other not in (method.switch, WARMUP))
        raise space_error(space.source, key, f"must be for one of {free}", name, "Give its levels as a list.")
    sizes = [budget.batch_size for budget in space.budgets]
    grids = {other: space.grid(method.name, other).values for other in sizes if other != size}
    tuned = [other for other, levels in grids.items() if batch_of(levels[name][0]) is None]
    if source not in tuned:
        rule = f"must be another batch size of the space at which {name} has levels of its own"
        todo = f"Choose one of {', '.join(map(str, tuned))}." if tuned else "Give its levels as a list."
        raise space_error(space.source, key, rule, source, todo)


def _check_levels(space: SearchSpace, key: str, method: Method, grid: Mapping[str, tuple[float, ...]]) -> None:
    rows = {row.name: row for _, row in method.roles()}
    for name, levels in grid.items():
        if name not in rows and not space.trainable:
            raise _unknown_hyperparameter(space, f"{key}.{name}", method, name, levels)
        values, words = split(levels)
        if words and (name != method.switch or space.trainable):
            rule = f"must contain only numbers; words are levels of {method.switch or 'a switch'} only"
            rule = "must contain only numbers where a function trains" if space.trainable else rule
            word = text(words[0]).partition(" ")[0]  # "auto (margin 4)" is written "auto"
            raise space_error(space.source, f"{key}.{name}", rule, word, "Remove the word.")
        if name in rows:  # else its function's own
            _check_values(space, f"{key}.{name}", rows[name], values)


def _check_values(space: SearchSpace, key: str, row: Hyperparameter, values: Sequence[float]) -> None:
    todo = "Remove or fix that value."
    if row.positive and 0 in values:
        raise space_error(space.source, key, "must contain only finite numbers above 0", 0.0, todo)
    if row.below_one and max(values, default=0.0) >= 1:
        raise space_error(space.source, key, "must contain only numbers >= 0 and below 1", max(values), todo)


def _check_size(space: SearchSpace, key: str, grid: Grid) -> None:
    if grid.size > MAX_POINTS:
        rule = f"must have at most {MAX_POINTS} points"
        raise space_error(space.source, key, rule, grid.size, "Remove levels until it is coarse.")


def _unknown_hyperparameter(
    space: SearchSpace, key: str, method: Method, name: str, levels: tuple[float, ...]
) -> SpaceError:
    """Explains that a control has hyperparameters of its own, besides naming those that the method has."""
    allowed, control = method.hyperparameters, method.names("control")
    reason = did_you_mean(name, allowed)
    if name in CONTROL_KEYS and control:
        reason = f"{method.label} has no {name}: its control is {_control(method)}, which has {', '.join(control)}. "
    rule = f"unknown hyperparameter; {method.name} has {', '.join(allowed)}"
    return space_error(space.source, key, rule, list(levels), f"{reason}Rename or remove it.")


def _control(method: Method) -> str:
    return method.control.label if method.control else "none"


def _check_loss(space: SearchSpace, known: Catalogue, method: Method) -> None:
    takes = (*known.losses[space.loss].parameters, *ANY_LOSS)
    for row in method.loss:
        if row.name not in takes:
            rule = f"must be a method that fits the loss {space.loss}, which takes {', '.join(takes)}"
            raise space_error(space.source, f"optimizers.{method.name}", rule, row.name, "Choose another loss.")


def _check_comparisons(space: SearchSpace) -> None:
    for i, pair in enumerate(space.compare):
        for key, name in (("challenger", pair.challenger), ("baseline", pair.baseline)):
            _one_of(space, f"compare[{i}].{key}", name, space.grids)
        if pair.challenger == pair.baseline or pair in space.compare[:i]:
            rule = "must be a pair of two methods, each pair once"
            raise space_error(space.source, f"compare[{i}]", rule, pair.challenger, "Correct or remove it.")


def _check_warmup(space: SearchSpace, name: str) -> None:
    for budget in sorted(space.budgets, key=lambda budget: budget.epochs):
        longest = max(space.grid(name, budget.batch_size).values.get(WARMUP, (0.0,)))
        if longest >= budget.epochs:
            own = WARMUP in space.overrides.get(name, {}).get(budget.batch_size, {})
            key = f"optimizers.{name}.{f'batch.{budget.batch_size}.' if own else ''}{WARMUP}"
            rule = f"must be below the {budget.epochs} epochs of batch size {budget.batch_size}"
            raise space_error(space.source, key, rule, longest, "Shorten the warm-up or raise that budget's epochs.")
