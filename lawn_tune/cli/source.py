"""Opens the ledger that a command reads."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lawn_tune.errors import UsageError
from lawn_tune.ledger import Ledger, open_ledger
from lawn_tune.ledger.bundle import check_header, open_bundle
from lawn_tune.planning.spaces import builtin_spaces
from lawn_tune.results import ResultSource
from lawn_tune.settings import SETTINGS, resolve
from lawn_tune.storage import is_path, is_sqlite, masked
from search_spaces.keys import did_you_mean
from search_spaces.toml import SUFFIX

BUNDLE = ".bundle"
"""Suffix of bundles: a word that ends like this is never the name of a space."""


@contextmanager
def reading(storage: str | None) -> Iterator[Ledger]:
    """Opens the ledger that flag, variable, file or default name, and closes it.

    Raises:
        LedgerError: there is none, or it cannot be read.
    """
    with open_ledger(resolve({"storage": storage}).storage, create=False) as ledger:
        yield ledger


@contextmanager
def reading_space(space: str, storage: str | None) -> Iterator[tuple[Ledger, str]]:
    """Opens the bundle whose path is given, else the ledger; yields it with what names the space in it.

    Raises:
        LedgerError: there is no ledger, or it or the bundle cannot be read.
        UsageError: the path is of nothing, of another SQLite database, or of a file of another kind.
    """
    if (file := bundle_of(space)) is not None:
        with open_bundle(file) as (database, bundle):
            yield Ledger(database), bundle.space
    else:
        with reading(storage) as ledger:
            yield ledger, space


def bundle_of(space: str) -> Path | None:
    """Returns the path of the bundle that a command's SPACE is, None where it names a space of the ledger.

    Raises:
        UsageError: it is the path of nothing, or of a file of another kind.
    """
    if not is_path(space):
        return None
    file = Path(space)
    if is_sqlite(file):
        return file
    if file.is_file() and not space.endswith(SUFFIX):
        raise UsageError(
            f"'{space}' is neither a bundle nor the TOML file of a space",
            "'lawn-tune report SPACE --bundle FILE' writes a bundle.",
        )
    if not file.is_file() and (space.endswith(BUNDLE) or "/" in space or os.sep in space):
        near = [found.name for found in file.parent.glob("*") if found.suffix in (BUNDLE, SUFFIX)]
        raise UsageError(
            f"there is no file '{space}'",
            f"{did_you_mean(file.name, near)}Give the path of a bundle or of a TOML file, or the name of a space.",
        )
    return None


def refuse_bundle(space: str, why: str, hint: str) -> None:
    """Refuses a bundle where a command reads ledgers only.

    Args:
        space: as given to the command.
        why: what follows "is a bundle".
        hint: what to do instead.

    Raises:
        UsageError: it is one, or is the path of nothing, or of a file of another kind.
    """
    if (file := bundle_of(space)) is not None:
        check_header(file)
        raise UsageError(f"'{space}' is a bundle{why}", hint)


def launched(source: ResultSource, space: str, storage: str | None) -> str:
    """Returns the name of a launched space, given by its name or its TOML file.

    Args:
        storage: as given to the command, for what it is told to type.

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
            f"space '{name}' is not in this ledger, which has: {listed}",
            f"Train it first: {with_storage(f'lawn-tune launch {shlex.quote(space)}', storage)}",
        )
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


def with_storage(command: str, storage: str | None) -> str:
    """Returns a command to type, for the ledger in force."""
    return f"{command} {option(storage)}".rstrip()
