"""Signs of bad tuning that the two searches of a pair show by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lawn_tune.cells import Cell
from lawn_tune.comparison.flags import Flag, Note
from lawn_tune.comparison.inference import over_seeds
from lawn_tune.planning.selection import Point, Winner
from lawn_tune.words import count, metric_of, signed
from trainables.catalogue.methods import DECAY, L2

Shared = tuple[Point, Point]
"""A point of the baseline and one of the challenger that train the same, as neither control acts."""


def shared_points(base: Cell, ours: Sequence[Point], challenger: Cell, theirs: Sequence[Point]) -> tuple[Shared, ...]:
    """Returns the points that both grids hold: no weight decay, and a constraint that is never reached.

    Levels of the switch beyond the last epoch train the same: the first stands for all, so that none counts twice.

    Args:
        base, challenger: cells of one task.
        ours, theirs: the points of their grids.
    """
    if base.method.rule.name != challenger.method.rule.name or base.task.epochs != challenger.task.epochs:
        return ()
    plain = {_rest(base, point): point for point in ours if _no_decay(base, point.hyperparameters)}
    free: dict[tuple[tuple[str, float], ...], Point] = {}
    for point in theirs:
        if challenger.never_constrained(point.hyperparameters):
            free.setdefault(_rest(challenger, point), point)
    return tuple((plain[rest], point) for rest, point in free.items() if rest in plain)


def pair_alarms(
    base: Cell, challenger: Cell, shared: Sequence[Shared], won: Winner | None, family: int, *, worse: bool
) -> list[Note]:
    """Returns what is wrong with a pair's searches.

    Args:
        base, challenger: cells.
        shared: as `shared_points` returns them.
        won: the baseline's winner.
        family: pairs whose intervals hold together.
        worse: the verdict is that the challenger is worse.
    """
    notes = _disagreement(base, challenger, shared, family)
    if worse and won is not None and any(point.keys == won.keys for point, _ in shared):
        text = (
            "the challenger's grid holds the baseline's winner, and it loses by more than noise: its search missed it"
        )
        notes.append(Note(Flag.CONTAINED, text))
    return notes


def _disagreement(base: Cell, challenger: Cell, shared: Sequence[Shared], family: int) -> list[Note]:
    """Returns a note where shared points differ by more than the margin, and by more than noise over the points."""
    values = [(ours.value, theirs.value) for ours, theirs in shared]
    differences = np.array([theirs - ours for ours, theirs in values if ours is not None and theirs is not None])
    if len(differences) < 2:
        return []
    effect = over_seeds(differences)
    interval = effect.interval(family)
    if not interval.excludes_zero() or abs(effect.mean) <= (base.protocol.margin or 0.0):
        return []
    digits = metric_of(base.protocol.metric).digits
    low, high = signed(interval.low, digits), signed(interval.high, digits)
    text = (
        f"{count(len(differences), 'point')} at which neither control acts differ by {signed(effect.mean, digits)} on "
        f"{base.protocol.selection} ({low} to {high}): something else than the control differs"
    )
    return [Note(Flag.SHARED, text)]


def _no_decay(cell: Cell, point: Mapping[str, float]) -> bool:
    control = cell.method.control
    return control is not None and control.name in (DECAY.name, L2.name) and not any(_of_control(cell, point).values())


def _rest(cell: Cell, point: Point) -> tuple[tuple[str, float], ...]:
    """Returns the hyperparameters that are not of the control."""
    own = {*_of_control(cell, point.hyperparameters), cell.method.switch}
    return tuple(sorted((name, value) for name, value in point.hyperparameters.items() if name not in own))


def _of_control(cell: Cell, point: Mapping[str, float]) -> dict[str, float]:
    control = cell.method.control
    return {row.name: point[row.name] for row in control.hyperparameters if row.name in point} if control else {}
