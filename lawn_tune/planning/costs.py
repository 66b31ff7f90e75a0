"""What a plan costs before it runs: examples trained, and hours where a speed is known. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

from lawn_tune.cells import PHASES, Cell
from lawn_tune.planning.packing import make_packs
from lawn_tune.planning.speed import Speeds, examples, examples_of, shared_epochs


@dataclass(frozen=True)
class Cost:
    """The price of one cell, search and confirm.

    Args:
        trials: trials planned: (search, confirm).
        packs: packs planned: (search, confirm).
        examples: examples trained on, counted once for trials that share a free phase.
        saved: examples that sharing the free phase saves.
        seconds: time on one worker; None where no speed is known.
        basis: where `seconds` comes from.
    """

    trials: tuple[int, int]
    packs: tuple[int, int]
    examples: float
    saved: float
    seconds: float | None
    basis: str


def estimate(cell: Cell, *, pack_size: int | None = None, speeds: Speeds | None = None) -> Cost:
    """Estimates what a cell costs from nothing.

    Args:
        pack_size: the most trials of a pack; that of the cell if None.
        speeds: how fast cells train; the table of measured speeds by default.
    """
    speeds = speeds or Speeds()
    search, confirm = (make_packs(cell, phase, cell.planned_trials(phase), pack_size) for phase in PHASES)
    packs = [(phase, pack) for phase, some in zip(PHASES, (search, confirm), strict=True) for pack in some]
    seconds = [speeds.seconds(cell, phase, pack) for phase, pack in packs]
    known = [each for each in seconds if each is not None]
    return Cost(
        trials=(sum(map(len, search)), sum(map(len, confirm))),
        packs=(len(search), len(confirm)),
        examples=fsum(examples_of(cell, phase, pack) for phase, pack in packs),
        saved=fsum(shared_epochs(cell, phase, pack) * examples(cell, phase) for phase, pack in packs),
        seconds=fsum(known) if known == seconds else None,
        basis=speeds.basis(cell),
    )
