"""Opens the ledger that a command reads."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lawn_tune.errors import UsageError
from lawn_tune.ledger import Ledger, open_ledger
from lawn_tune.ledger.bundle import is_sqlite, open_bundle
from lawn_tune.planning.spaces import builtin_spaces
from lawn_tune.results import ResultSource
from lawn_tune.settings import SETTINGS, resolve
from lawn_tune.storage import is_path, masked
from search_spaces.keys import did_you_mean
from search_spaces.toml import SUFFIX


@contextmanager
def reading(storage: str | None) -> Iterator[Ledger]:
    """Opens the ledger that flag, variable, file or default name, and closes it.

    Raises:
        LedgerError: there is none, or it cannot be read.
    """
    ledger = open_ledger(resolve({"storage": storage}).storage, create=False)
    try:
        yield ledger
    finally:
        ledger.close()


@contextmanager
def reading_space(space: str, storage: str | None) -> Iterator[tuple[Ledger, str]]:
    """Opens the bundle whose path is given, else the ledger; yields it with what names the space in it.

    Raises:
        LedgerError: there is no ledger, or it or the bundle cannot be read.
        UsageError: the path is of another SQLite database, or of a file of another kind.
    """
    file = Path(space) if is_path(space) else None
    if file and is_sqlite(file):
        with open_bundle(file) as (database, bundle):
            yield Ledger(database), bundle.space
    elif file and file.is_file() and not space.endswith(SUFFIX):
        raise UsageError(
            f"'{space}' is neither a bundle nor the TOML file of a space",
            "'lawn-tune report SPACE --bundle FILE' writes a bundle.",
        )
    else:
        with reading(storage) as ledger:
            yield ledger, space


def launched(source: ResultSource, space: str) -> str:
    """Returns the name of a launched space, given by its name or its TOML file.

    Raises:
        UsageError: the ledger does not have it; the text says whether it is not yet trained or does not exist.
    """
    name = space.replace("\\", "/").rpartition("/")[2].removesuffix(SUFFIX)
    known = source.spaces()
    if name in known:
        return name
    listed, built_in = ", ".join(known) or "none", builtin_spaces()
    if space in built_in or (space.endswith(SUFFIX) and Path(space).is_file()):
        raise UsageError(
            f"space '{name}' is not in this ledger, which has: {listed}", f"Train it first: lawn-tune launch {space}."
        )
    if space.endswith(".bundle"):
        raise UsageError(f"there is no bundle '{space}'", "Give the path of one, or the name of a space.")
    raise UsageError(
        f"there is no space '{name}': this ledger has: {listed}",
        f"{did_you_mean(name, (*known, *built_in))}Give one of these names.",
    )


def elsewhere(storage: str | None) -> str | None:
    """Returns the URL of the ledger in force, or None where a command finds it by default."""
    default = next(setting.default for setting in SETTINGS if setting.name == "storage")
    url = resolve({"storage": storage}).storage
    return None if url == default else url


def option(storage: str | None) -> str:
    """Returns what a command to type needs to find the ledger in force, "--storage URL" or "", without a password."""
    url = elsewhere(storage)
    return f"--storage {shlex.quote(masked(url))}" if url else ""
