"""Which phase a planned trial belongs to."""

from __future__ import annotations

from lawn_tune.cells import Cell, Phase
from trainables.tasks import Trial


def phase_of(cell: Cell, trial: Trial) -> Phase:
    """Returns the phase whose seeds the trial has."""
    return "search" if trial.seed in cell.protocol.search_seeds else "confirm"
