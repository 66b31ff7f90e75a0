"""Optuna studies of a whole ledger in a database of their own, as an Optuna user would load them."""

from __future__ import annotations

from lawn_tune.cells import PHASES
from lawn_tune.ledger import reads, roster
from lawn_tune.ledger.curves import THINNED
from lawn_tune.ledger.database import Database
from lawn_tune.ledger.mirror import study_spec, study_trials
from lawn_tune.ledger.studies import Studies
from lawn_tune.ledger.study_rows import add, rebuild


def write(ledger_url: str, url: str, *, curve_values: int = THINNED) -> None:
    """Writes the studies of a ledger to a separate database.

    They are what a launch writes, but for the number of values of a curve.

    Args:
        ledger_url: of the ledger.
        url: of a new database.
        curve_values: maximum number of intermediate values of a trial.
    """
    source, target = Database(ledger_url), Database(url)
    studies = Studies(target)
    studies.open()
    with source.reading() as reader:
        for cell in [cell for space in roster.spaces(reader) for cell in reads.cells_of(reader, space)]:
            for phase in PHASES:
                entries = roster.ended(reader, cell.name, phase)
                if entries:
                    spec = study_spec(cell, phase, entries)
                    shown = study_trials(reader, cell, phase, entries, curve_values)
                    with target.writing() as writer:
                        add(writer, rebuild(writer, spec), shown)
    studies.close()
    source.close()
    target.close()
