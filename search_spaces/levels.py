"""Levels of a hyperparameter that are words: rules by which a trial sets it itself, each a number below 0.

So every grid holds plain numbers. What the numbers make of a training is `trainables.training.switching`. A level that
another batch size decides is such a number too, until its winner is known; no trial is trained with it.
"""

from __future__ import annotations

from collections.abc import Iterable

AUTO, INFLECTION = "auto", "inflection"
"""Switch when the running median margin exceeds `switch_margin`, which becomes −`switch_margin`; when it bends."""

MARGIN, DEFAULT_MARGIN = "switch_margin", 4.0
"""Key next to a level "auto" with the margins it stands for, and the margin without that key (our choice)."""

MAX_MARGIN = 1_000_000
_INFLECTION = -1e9
"""Below every level of a margin."""


_BATCH = -1e12
"""Minus a batch size: the level of its winner."""


def of_batch(size: int) -> float:
    """Returns the level that stands for that of the winner at a batch size."""
    return _BATCH - size


def batch_of(level: float) -> int | None:
    """Returns the batch size whose winner decides a level; None for any other."""
    return int(_BATCH - level) if level < _BATCH else None


def of_word(word: str, margins: tuple[float, ...]) -> tuple[float, ...]:
    """Returns the levels that a word stands for, one a margin; () if it is none of the words."""
    return {AUTO: tuple(-margin for margin in margins), INFLECTION: (_INFLECTION,)}.get(word, ())


def is_word(level: float) -> bool:
    """Whether a level is a rule and no value, so that nothing lies above or below it."""
    return level < 0


def split(levels: Iterable[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the levels that are values, and those that are words."""
    found = tuple(levels)
    return tuple(level for level in found if not is_word(level)), tuple(filter(is_word, found))


def text(level: float) -> str:
    """Returns a level as people read it: "0.01", "auto (margin 4)", "inflection"."""
    if not is_word(level):
        return f"{level:g}"
    if size := batch_of(level):
        return f"as at batch size {size}"
    return INFLECTION if level == _INFLECTION else f"{AUTO} (margin {-level:g})"


def toml(name: str, levels: Iterable[float]) -> str:
    """Returns levels as lines of a space's file, values ascending, then words."""
    values, words = split(levels)
    margins = [-word for word in words if word != _INFLECTION]
    quoted = [f'"{word}"' for word, has in ((AUTO, margins), (INFLECTION, len(margins) < len(words))) if has]
    line = f"{name} = [{', '.join([*(f'{level:g}' for level in sorted(values)), *quoted])}]"
    if margins in ([], [DEFAULT_MARGIN]):
        return line
    return f"{line}\n{MARGIN} = [{', '.join(f'{margin:g}' for margin in margins)}]"
