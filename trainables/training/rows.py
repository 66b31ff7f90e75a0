"""Which trials of a pack share a row of the stacked tensors, and when a row forks.

Trials that differ only in when their control begins (LAWN's `free_epochs`) are the same training until the first of
them switches (paper §3: the free phase knows nothing of the constraint), so they share one row until then. The result
equals training each alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from trainables.tasks import Trial
from trainables.training.switching import automatic


@dataclass(frozen=True)
class Row:
    """One row of the stacked tensors.

    Args:
        members: positions in the pack of its trials, ascending.
        constrained: True once LAWN holds its norms.
    """

    members: tuple[int, ...]
    constrained: bool = False


@dataclass(frozen=True)
class Split:
    """What a step does to the rows before it is taken.

    Args:
        rows: the rows afterwards.
        source: for each row afterwards, the row before that its state is copied from.
        switching: positions in `rows` that become constrained now.
    """

    rows: tuple[Row, ...]
    source: tuple[int, ...]
    switching: tuple[int, ...]


def first_rows(members: Sequence[Trial], switch: str | None) -> tuple[Row, ...]:
    """Returns the rows before the first step: trials equal in seed and in all but `switch` share one.

    A trial that switches by itself shares none: when it does is known by its own margins only.

    Args:
        members: the pack.
        switch: hyperparameter that says how many epochs are free of the control.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for position, member in enumerate(members):
        items = member.hyperparameters.items()
        shared = sorted((name, value) for name, value in items if name != switch or automatic(value))
        groups.setdefault((member.seed, *shared), []).append(position)
    return tuple(Row(tuple(positions)) for positions in groups.values())


def switch_step(free_epochs: float | None, steps_per_epoch: int, total_steps: int) -> int | None:
    """Returns the step before which a trial is constrained.

    None for never, as no control holds it or its free epochs are too many, and for one that switches by itself.
    """
    if free_epochs is None or automatic(free_epochs) or (step := round(free_epochs * steps_per_epoch)) >= total_steps:
        return None
    return step


def split_rows(rows: Sequence[Row], switching: Iterable[int]) -> Split:
    """Constrains the trials at positions `switching`; a row of which only some switch forks, the switched part last."""
    due = set(switching)
    kept: list[tuple[Row, int]] = []
    forked: list[tuple[Row, int]] = []
    for source, row in enumerate(rows):
        now = tuple(member for member in row.members if member in due)
        later = tuple(member for member in row.members if member not in due)
        if now and later:
            kept.append((Row(later), source))
            forked.append((Row(now, constrained=True), source))
        else:
            kept.append((replace(row, constrained=row.constrained or bool(now)), source))
    pairs = kept + forked
    turned = tuple(i for i, (row, source) in enumerate(pairs) if row.constrained and not rows[source].constrained)
    return Split(tuple(row for row, _ in pairs), tuple(source for _, source in pairs), turned)


def row_of_member(rows: Sequence[Row]) -> dict[int, int]:
    """Returns trial position → row position, for the trials that still have one."""
    return {member: position for position, row in enumerate(rows) for member in row.members}
