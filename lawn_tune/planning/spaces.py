"""Finds search spaces by name or by file."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import search_spaces
from lawn_tune.storage import is_sqlite
from search_spaces.keys import did_you_mean
from search_spaces.loader import load_space
from search_spaces.space import SearchSpace, SpaceError
from search_spaces.toml import SUFFIX

_BUILT_IN = Path(search_spaces.__file__).parent
_TABLE = re.compile(r"table\d_")
_PAPER = re.compile(r"(table|figure)\d")


def builtin_spaces() -> tuple[str, ...]:
    """Returns the names of the spaces that come with the service, in alphabetical order."""
    return tuple(sorted(path.stem for path in _BUILT_IN.glob(f"*{SUFFIX}")))


def listed_spaces() -> str:
    """Returns what the built-in spaces are, those of the paper in a few words."""
    own = [name for name in builtin_spaces() if not _PAPER.match(name)]
    return f"{', '.join(own)}, paper, table1 to table6, or one of their spaces (docs/spaces.md)"


def in_group(name: str) -> tuple[str, ...]:
    """Returns the built-in spaces of the paper's table that `name` names, "table4", or of all of them, "paper"."""
    tables = [space for space in builtin_spaces() if _TABLE.match(space)]
    return tuple(space for space in tables if name in ("paper", space.partition("_")[0]))


def find_space(name_or_path: str | Path) -> SearchSpace:
    """Loads a built-in space by its name, or any space by the path of its TOML file; a built-in name comes first.

    Raises:
        SpaceError: no built-in has that name and it is no path, or the file is a bundle or otherwise not usable (see
            `load_space`).
    """
    text = str(name_or_path)
    if text in builtin_spaces():
        return load_space(_BUILT_IN / f"{text}{SUFFIX}")
    if is_sqlite(Path(text)):
        file = Path(text).with_suffix(SUFFIX)
        todo = f"Give {file}" if file.is_file() else "Give the TOML file of its space"
        raise SpaceError(
            f"{text}: is a bundle or another SQLite database, not the TOML file of a space. "
            f"{todo}; to read a bundle: lawn-tune compare {shlex.quote(text)}"
        )
    if isinstance(name_or_path, Path) or _is_path(text):
        return load_space(Path(text))
    near = f"{text.removesuffix('.py')}{SUFFIX}"
    meant = f"Did you mean '{near}'? " if os.path.isfile(near) else did_you_mean(text, builtin_spaces())
    raise SpaceError(
        f"there is no built-in space '{text}'. {meant}Give one of {listed_spaces()}, or a path like my/space{SUFFIX}."
    )


def find_spaces(names_or_paths: Sequence[str | Path]) -> tuple[SearchSpace, ...]:
    """Loads several spaces; "table4" stands for those of that table of the paper, "paper" for those of all.

    A space of such a group may be named more than once.

    Raises:
        SpaceError: as `find_space`, or two of them share a name, so their results could not be distinguished.
    """
    spaces: dict[str, SearchSpace] = {}
    groups = [(name, in_group(str(name))) for name in names_or_paths]
    grouped = {space for _, group in groups for space in group}
    for given in (each for name, group in groups for each in group or (name,)):
        if given in grouped and given in spaces:
            continue
        space = find_space(given)
        if space.name in spaces:
            first = spaces[space.name].source
            raise SpaceError(
                f"{space.source}: every space needs a name of its own, '{space.name}' also names {first}. "
                "Give each space once, or rename one of the files."
            )
        spaces[space.name] = space
    return tuple(spaces.values())


def _is_path(text: str) -> bool:
    return text.endswith(SUFFIX) or os.sep in text or "/" in text
