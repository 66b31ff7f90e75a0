"""Names of caveats where they appear alone, without their sentence."""

from __future__ import annotations

from collections.abc import Iterable

from lawn_tune.comparison.comparison import CellResult, PairResult
from lawn_tune.comparison.flags import Flag
from lawn_tune.words import count


def cell_caveats(result: CellResult) -> tuple[str, ...]:
    """Returns the names of a cell's caveats, each once."""
    return tuple(caveat(flag, result) for flag in in_view(note.flag for note in result.notes))


def pair_flags(pair: PairResult) -> tuple[Flag, ...]:
    """Returns the kinds of caveat of a pair and both its cells, each once."""
    return in_view(note.flag for note in (*pair.notes, *pair.baseline.notes, *pair.challenger.notes))


def caveat(flag: Flag, result: CellResult) -> str:
    """Returns a caveat's name; never-constrained points are counted, so as not to be mistaken for the winner."""
    if flag is not Flag.NEVER_CONSTRAINED:
        return flag.value
    if result.never_constrained:
        return f"winner {flag.value}"
    lost = sum(result.cell.never_constrained(point.hyperparameters) for point in result.points)
    return f"{flag.value} in {lost:,} of {count(len(result.points), 'grid point')}"


def in_view(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    """Returns the flags, each once, that of too few epochs first: it affects every number next to it."""
    found = set(flags)
    return tuple(sorted((flag for flag in Flag if flag in found), key=lambda flag: flag is not Flag.CAPPED))
