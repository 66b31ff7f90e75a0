"""What a cell still lacks: trials, packs and time, as `status` and the end of a launch show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lawn_tune.cells import Cell, Phase
from lawn_tune.planning.packing import make_packs
from lawn_tune.planning.selection import winner
from lawn_tune.planning.speed import Speeds
from lawn_tune.results import FINISHED, Outcome, TrialRow
from trainables.tasks import Trial


@dataclass(frozen=True)
class Remaining:
    """Trials without a result, failed and running ones included, for a later launch to train.

    Args:
        trials, packs: how many.
        seconds: time of one worker for them, each pack from its first epoch on; None where a speed is unknown.
    """

    trials: int = 0
    packs: int = 0
    seconds: float | None = 0.0

    def __add__(self, other: Remaining) -> Remaining:
        known = None if self.seconds is None or other.seconds is None else self.seconds + other.seconds
        return Remaining(self.trials + other.trials, self.packs + other.packs, known)


def remaining(
    cell: Cell,
    rows: Iterable[TrialRow],
    speeds: Speeds,
    pack_size: int | None = None,
    elsewhere: Mapping[str, Outcome] | None = None,
) -> Remaining:
    """Returns what a cell lacks.

    Args:
        rows: trials of the cell's space in a ledger.
        speeds: how fast the cell trains.
        pack_size: trials a pack, or None for that of the cell.
        elsewhere: key → outcome of equal search trials that were trained for other spaces.
    """
    known = [row for row in rows if row.cell == str(cell.name)]
    done = {row.key for row in known if row.outcome in FINISHED}
    others = {key for key, outcome in (elsewhere or {}).items() if outcome in FINISHED}
    search = [trial for trial in cell.search_trials if trial.key not in done | others]
    searched = all(trial.key in done for trial in cell.search_trials)
    confirm = _missing_confirm(cell, known, done) if searched else cell.planned_trials("confirm")
    return _price(cell, "search", search, speeds, pack_size) + _price(cell, "confirm", confirm, speeds, pack_size)


def _missing_confirm(cell: Cell, rows: Sequence[TrialRow], done: set[str]) -> Sequence[Trial]:
    best = winner(cell, rows)
    if best is None:  # every point diverged
        return ()
    return [trial for trial in cell.confirm_trials(best.hyperparameters) if trial.key not in done]


def _price(cell: Cell, phase: Phase, trials: Sequence[Trial], speeds: Speeds, pack_size: int | None) -> Remaining:
    left = Remaining()
    for pack in make_packs(cell, phase, trials, pack_size):
        left += Remaining(len(pack), 1, speeds.seconds(cell, phase, pack))
    return left
