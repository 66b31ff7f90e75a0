"""Torch optimizer classes that a space names, as rows of the catalogue: one rule and one method for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lawn_tune.planning.class_arguments import class_arguments
from lawn_tune.planning.sources import Code, Named, located, read_code
from search_spaces.keys import did_you_mean, space_error
from search_spaces.space import SearchSpace
from trainables.catalogue import Catalogue
from trainables.catalogue.arguments import BETAS, DECAY, not_taken
from trainables.catalogue.rows import COLOR, SCHEDULE, Control

COLORS = (COLOR, "#12868f", "#a8591a", "#5b83b1", "#2d8a4e", "#c2478f")
"""Of methods that the space names and the catalogue lacks; each pair of a comparison has one."""


def codes_of_classes(space: SearchSpace) -> dict[str, Code]:
    """Returns method → sources of its class.

    Raises:
        SpaceError: see `read_code`.
    """
    read: dict[str, Code] = {}
    for name, own in space.classes.items():
        if own.optimizer not in read:
            read[own.optimizer] = read_code(_named(space, name, "class", own.optimizer))
    return {name: read[own.optimizer] for name, own in space.classes.items()}


def with_classes(space: SearchSpace, known: Catalogue, codes: Mapping[str, Code]) -> Catalogue:
    """Returns the catalogue with the methods of a space that name a class.

    The sources of a training function or workload include those of its classes, so that their digest stands for both.

    Args:
        codes: of its classes, from `codes_of_classes`.

    Raises:
        SpaceError: there is no such control, it is around a class with weight decay, the catalogue has a method of this
            name, or the class has no argument for a hyperparameter that nothing but its class could take.
    """
    colors = {code: COLORS[i % len(COLORS)] for i, code in enumerate(dict.fromkeys(map(str, codes.values())))}
    rules, methods = {}, {}
    for name, code in codes.items():
        if name in known.methods or name in known.rules:
            rule = "must be on a method whose name the catalogue lacks"
            raise _named(space, name, "class", space.classes[name].optimizer).error(rule, "Rename the method.")
        control = _control(space, name, known)
        taken = {row.name for row in SCHEDULE} | ({control.switch.name} if control and control.switch else set())
        taken |= {row.name for row in control.hyperparameters} if control else set()
        own = [{"name": key} for key in space.grids[name].values if key not in taken]
        if not space.trainable:  # a function may read what its class does not take
            _check_decay(space, name)
            _check_arguments(space, name, [row["name"] for row in own])
        rules[name] = {"label": code.attribute, "direction": "", "state": [], "hyperparameters": own}
        rules[name] |= {"optimizer": str(code), "code": "" if space.code else code.digest}
        methods[name] = {"label": name, "rule": name, "color": colors[str(code)]} | _controlled(space, name)
    return known.with_rows({"rules": rules, "methods": methods}, f"{space.source}: optimizers")


def _controlled(space: SearchSpace, name: str) -> dict[str, Any]:
    """Returns the control of a method, and as its baseline the same class without one."""
    own = space.classes[name]
    if not own.control:
        return {}
    plain = [other for other, each in space.classes.items() if each.optimizer == own.optimizer and not each.control]
    return {"control": own.control} | ({"baseline": plain[0]} if plain else {})


def _control(space: SearchSpace, name: str, known: Catalogue) -> Control | None:
    """Returns the control around the class of a method: one that begins after a free phase."""
    text = space.classes[name].control
    if not text:
        return None
    names = [row.name for row in known.controls.values() if row.switch]
    if text not in names:
        rule = f"must be a control that begins after a free phase, one of {', '.join(names)}"
        todo = f"{did_you_mean(text, names)}Choose one of these, or leave it out."
        raise _named(space, name, "control", text).error(rule, todo)
    return known.controls[text]


def _check_arguments(space: SearchSpace, name: str, keys: Sequence[str]) -> None:
    """Refuses hyperparameters that a class does not take, as far as its source shows that."""
    text = space.classes[name].optimizer
    arguments = class_arguments(*located(_named(space, name, "class", text)))
    if arguments is None:
        return
    if "lr" not in arguments:
        rule = "must be a class that takes the argument lr, which the schedule sets before each step"
        raise _named(space, name, "class", text).error(rule, "Add it.")
    for key in keys:
        if not_taken([key], arguments):
            betas = BETAS if "betas" in arguments else ()
            known = sorted({*arguments, *betas} - {"params", "lr", "betas"})
            rule = f"unknown hyperparameter; {text} takes {', '.join(known) or 'none'}"
            todo = f"{did_you_mean(key, known)}Rename or remove it."
            levels = list(space.grids[name].values[key])
            raise space_error(space.source, f"optimizers.{name}.{key}", rule, levels, todo)


def _check_decay(space: SearchSpace, name: str) -> None:
    """Refuses weight decay of a class under a control, which would refuse it once the method is trained."""
    control, grids = space.classes[name].control, [space.grids[name].values, *space.overrides.get(name, {}).values()]
    for levels in (list(grid[DECAY]) for grid in grids if control and any(grid.get(DECAY, ()))):
        rule = f"must be 0 under control = {control!r}"
        raise space_error(space.source, f"optimizers.{name}.{DECAY}", rule, levels, f"Write {DECAY} = [0].")


def _named(space: SearchSpace, method: str, key: str, text: str) -> Named:
    return Named(space, f"optimizers.{method}.{key}", text)
