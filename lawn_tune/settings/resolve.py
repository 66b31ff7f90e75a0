"""Reads each setting from its flag, else its variable, else `lawn-tune.toml`, else takes the default."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any

from lawn_tune.errors import UsageError
from lawn_tune.settings import kinds
from lawn_tune.settings.table import PREFIX, SETTINGS, Setting, Settings
from lawn_tune.storage import masked
from search_spaces.keys import did_you_mean, shown
from search_spaces.toml import TomlError, read_toml

FILE = "lawn-tune.toml"
DEBUG = "LAWN_TUNE_DEBUG"
"""Tracebacks instead of messages; like the next two a variable that is not a setting."""

KERNELS = "LAWN_TUNE_KERNELS"
"""0 turns the compiled optimizer kernels off; read where they are loaded."""

DASHBOARD_TOKEN = "LAWN_TUNE_DASHBOARD_TOKEN"
"""The secret that viewers of a dashboard give; never a flag, as process lists show those."""


def resolve(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Settings:
    """Returns the settings in force: flag, else variable, else `lawn-tune.toml` in the directory, else default.

    Args:
        flags: setting → value of its flag; None where the flag was not given.
        environ: variables; the process's by default. An empty variable counts as not set.
        directory: where the file is looked for; the working directory by default.

    Raises:
        UsageError: a value does not parse, or a key of the file or a variable is unknown (the text names where it was
            found); or the working directory is gone.
    """
    given = flags or {}
    variables = os.environ if environ is None else environ
    _check_directory()
    _check_names(variables)
    file = (directory or Path()) / FILE
    filed = _read(file)
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        values[setting.name] = setting.default
        origin, value = _found(setting, given, variables, file, filed)
        if value is not None:
            values[setting.name] = _parse(setting, origin, value)
    return Settings(**values)


def with_origin(text: str, arguments: Sequence[str]) -> str:
    """Returns an error that begins with a setting's flag, with the variable or the file's key if that set it.

    Args:
        text: the error.
        arguments: of the command.
    """
    word = re.split(r"[^-a-z]", text, maxsplit=1)[0]
    for setting in SETTINGS:
        if setting.flag == word and not any(given.split("=")[0] == word for given in arguments):
            file = Path(FILE)
            origin, _ = _found(setting, {}, os.environ, file, _read(file))
            return origin + text.removeprefix(word)
    return text


def _found(
    setting: Setting, flags: Mapping[str, Any], variables: Mapping[str, str], file: Path, filed: Mapping[str, Any]
) -> tuple[str, Any]:
    """Returns where the value of a setting was found and the value; its flag and None if it is the default."""
    sources = (
        (setting.flag, flags.get(setting.name)),
        (setting.variable, variables.get(setting.variable) or None),
        (f"{file}: {setting.name}", filed.get(setting.name)),
    )
    return next((source for source in sources if source[1] is not None), sources[0])


def _check_directory() -> None:
    """Relative paths and the file of settings are looked for in the working directory."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UsageError("the working directory was removed", "cd to a folder that exists.") from None


def debugging() -> bool:
    """True if `LAWN_TUNE_DEBUG` asks for tracebacks; empty counts as not set.

    Raises:
        UsageError: it is neither yes nor no.
    """
    text = os.environ.get(DEBUG) or kinds.NO[0]
    try:
        return kinds.yes(text)
    except ValueError as rule:
        raise UsageError(f"{DEBUG}: must be {rule}, got {_shown(text)}", "Set it to 1 to see tracebacks.") from None


def check_work_dir(settings: Settings) -> None:
    """Creates the folder of checkpoints and logs where it is missing, and proves that it takes files.

    Raises:
        UsageError: it is a file, or cannot be created or written.
    """
    folder = settings.work_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is not a folder" if folder.exists() and not folder.is_dir() else error.strerror
        todo = f"Give a folder that may be written: --work-dir FOLDER, or {PREFIX}WORK_DIR, or work_dir in {FILE}."
        raise UsageError(f"work_dir '{folder}' cannot hold checkpoints: {reason}", todo) from None


def _check_names(variables: Mapping[str, str]) -> None:
    known = [*(setting.variable for setting in SETTINGS), DEBUG, KERNELS, DASHBOARD_TOKEN]
    for name in variables:
        if name.startswith(PREFIX) and name not in known:
            raise UsageError(
                f"{name}: unknown variable; the variables are {', '.join(known)}",
                f"{did_you_mean(name, known)}Rename it, or unset it.",
            )


def _read(file: Path) -> dict[str, Any]:
    try:
        if not file.exists():
            return {}
        values = {key: _text_of_time(value) for key, value in read_toml(file).items()}
    except TomlError as error:
        raise UsageError(f"{file}: {error.reason}", f"{error.todo} Or remove the file.") from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be looked for: {error.strerror}", "Change to another folder.") from None
    names = [setting.name for setting in SETTINGS]
    for key, value in values.items():
        if key not in names:
            text = f"{file}: {key}: unknown key; the keys are {', '.join(names)}, got {_shown(value, known=False)}"
            raise UsageError(text, f"{did_you_mean(key, names)}Rename or remove it.")
        yes_or_no = next(setting for setting in SETTINGS if setting.name == key).parse is kinds.yes
        if (isinstance(value, bool) and not yes_or_no) or not isinstance(value, str | int | float):
            text = f"{file}: {key}: must be a text or a number, got {_shown(value)}"
            raise UsageError(text, "Write a single value.")
    return values


def _text_of_time(value: object) -> object:
    """Returns dates and times, which TOML has without quotes, as text; other values as they are."""
    return value.isoformat() if isinstance(value, date | time) else value


def _parse(setting: Setting, origin: str, value: Any) -> Any:
    try:
        return setting.parse(str(value))
    except UsageError as error:
        raise UsageError(f"{origin}: must be a storage URL, got {error}", error.hint) from None
    except ValueError as rule:
        raise UsageError(f"{origin}: must be {rule}, got {_shown(value)}", setting.help) from None


def _shown(value: object, *, known: bool = True) -> str:
    """Returns the value fit to print: a password may be in any text, if its key is known in any that may be a URL."""
    if isinstance(value, list):
        return "a list"
    secret = isinstance(value, str) and (not known or any(mark in value for mark in ("@", "://", "?", "&")))
    return shown(masked(str(value)) if secret else value)
