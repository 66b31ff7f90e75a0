"""What happens inside trials, epoch by epoch: every recorded series of each trial that is looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dashboards.numbers.curves import CURVE_POINTS, Curves
from lawn_tune.cells import Cell, Phase
from lawn_tune.results import Outcome, TrialRow
from lawn_tune.words import method, setting


class Chosen(NamedTuple):
    """A trial that is looked at: its place among them, and its name for people.

    `switch` is the epoch at which LAWN's constraint starts; None for base optimizers and where it never does.
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

    @property
    def letter(self) -> str:
        """What stands for the trial in sentences: "A" for the first."""
        return chr(ord("A") + self.order)


class Series(NamedTuple):
    """One recorded series of one trial over epochs; None where it was not measured."""

    trial: Chosen
    name: str
    epochs: tuple[int, ...]
    values: tuple[float | None, ...]


class DynamicsInfo(NamedTuple):
    """The panels of one figure: each holds the named series of every trial that has them.

    `last` is the last epoch of any trial, so that all figures of a page share their axis.
    """

    panels: tuple[tuple[Series, ...], ...]
    last: int


def chosen(cells: Sequence[Cell], rows: Sequence[TrialRow]) -> tuple[Chosen, ...]:
    """Returns the trials in `rows` by name, in their order; names leave out what all of them share."""
    by_name = {str(cell.name): cell for cell in cells}
    parts = [_parts(by_name[row.cell], row) for row in rows]
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
            switch=_switch(row),
        )
        for i, row in enumerate(rows)
    )


def dynamics_info(trials: Sequence[Chosen], curves: Curves, panels: Sequence[Sequence[str]]) -> DynamicsInfo:
    """Returns the series of trials in the panels of one figure.

    Args:
        trials: what is looked at.
        curves: of these trials; one that is missing has no line.
        panels: names of series, such as (("weight_norm",), ("last_layer_norm",)).
    """
    return DynamicsInfo(
        panels=tuple(
            tuple(
                series
                for trial in trials
                for name in names
                if (series := _series(trial, name, curves.get(trial.key, {}))) is not None
            )
            for names in panels
        ),
        last=max((max(trial.epochs, _length(curves.get(trial.key, {}))) for trial in trials), default=1),
    )


def _series(trial: Chosen, name: str, curve: Mapping[str, NDArray[np.float64]]) -> Series | None:
    values = curve.get(name)
    if values is None or not np.isfinite(values).any():
        return None
    places = np.unique(np.linspace(0, len(values) - 1, min(len(values), CURVE_POINTS)).round().astype(int))
    picked = tuple(float(values[i]) if math.isfinite(values[i]) else None for i in places)
    return Series(trial, name, tuple(int(i) + 1 for i in places), picked)


def _length(curve: Mapping[str, NDArray[np.float64]]) -> int:
    return max((len(values) for values in curve.values()), default=0)


def _parts(cell: Cell, row: TrialRow) -> tuple[str, str, str, str]:
    """Returns method, batch size, point without its levels that the grid does not vary, and seed."""
    several = [name for name, levels in cell.grid.values.items() if len(levels) > 1]
    names = [name for name in row.hyperparameters if name in several] or list(row.hyperparameters)
    point = setting({name: row.hyperparameters[name] for name in names})
    seed = f"seed {row.seed}" if row.phase == "search" else f"confirm seed {row.seed}"
    return method(cell.name.optimizer), f"batch {cell.name.batch_size:,}", point, seed


def _switch(row: TrialRow) -> float | None:
    free = row.hyperparameters.get("free_epochs")
    return free if free is not None and free < row.total_epochs else None
