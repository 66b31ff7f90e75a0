"""The trials selected together: their names, letters and colors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dashboards import style
from lawn_tune.cells import Cell, Phase
from lawn_tune.results import Outcome, TrialRow
from lawn_tune.words import count, method, setting


class Chosen(NamedTuple):
    """A selected trial: its place among them, and its display name.

    `switch` is the epoch at which LAWN's constraint starts; None for base optimizers and where it never does. `shade`
    counts the trials before it whose lines look alike otherwise.
    """

    order: int
    key: str
    optimizer: str
    batch_size: int
    phase: Phase
    seed: int
    point: str
    name: str
    outcome: Outcome
    epochs: int
    switch: float | None
    shade: int

    @property
    def letter(self) -> str:
        """The trial's symbol in sentences: "A" for the first."""
        return chr(ord("A") + self.order)


def chosen(
    cells: Sequence[Cell], rows: Sequence[TrialRow], seeds: Mapping[str, int] | None = None
) -> tuple[Chosen, ...]:
    """Returns the trials in `rows` by name, in their order; names leave out what all of them share.

    Args:
        cells: those of the rows, and others.
        rows: trials, or means over seeds.
        seeds: key → number of seeds, of the means.
    """
    by_name = {str(cell.name): cell for cell in cells}
    parts = [_parts(by_name[row.cell], row, (seeds or {}).get(row.key)) for row in rows]
    looks = [_look(by_name[row.cell].name.optimizer) for row in rows]
    same = [len({part[i] for part in parts}) == 1 and len(parts) > 1 for i in range(4)]
    short = [", ".join(text for i, text in enumerate(part) if text and not (same[i] and i)) for part in parts]
    return tuple(
        Chosen(
            order=i,
            key=row.key,
            optimizer=by_name[row.cell].name.optimizer,
            batch_size=by_name[row.cell].name.batch_size,
            phase=row.phase,
            seed=row.seed,
            point=parts[i][2],
            name=short[i],
            outcome=row.outcome,
            epochs=row.epochs,
            switch=_switch(by_name[row.cell], row),
            shade=looks[:i].count(looks[i]),
        )
        for i, row in enumerate(rows)
    )


def _look(optimizer: str) -> tuple[str, str]:
    return style.color(optimizer), style.dash(optimizer)


def _parts(cell: Cell, row: TrialRow, seeds: int | None) -> tuple[str, str, str, str]:
    """Returns method, batch size, point without its levels that the grid does not vary, and seed."""
    several = [name for name, levels in cell.grid.values.items() if len(levels) > 1]
    names = [name for name in row.hyperparameters if name in several] or list(row.hyperparameters)
    point = setting({name: row.hyperparameters[name] for name in names})
    seed = f"seed {row.seed}" if row.phase == "search" else f"confirm seed {row.seed}"
    seed = seed if seeds is None else f"mean of {count(seeds, 'seed')}"
    return method(cell.name.optimizer), f"batch {cell.name.batch_size:,}", point, seed


def _switch(cell: Cell, row: TrialRow) -> float | None:
    free = cell.switch_epoch(row.hyperparameters, row.summary)
    return free if free is not None and free < row.total_epochs else None


def tint(trial: Chosen) -> str:
    """Returns the color of a trial: its method's, or a shade of it where another trial of the method has that."""
    return style.shade(style.color(trial.optimizer), trial.shade)
