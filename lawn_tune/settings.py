"""One table of settings; each is read from its flag, else its variable, else `lawn-tune.toml`, else the default."""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lawn_tune.errors import UsageError
from lawn_tune.executors.checkpoints import open_store
from lawn_tune.launching.deadlines import Deadline, parse_deadline
from lawn_tune.storage import StorageUrl, is_path, masked
from search_spaces.keys import did_you_mean

FILE = "lawn-tune.toml"
PREFIX = "LAWN_TUNE_"
DEBUG = "LAWN_TUNE_DEBUG"
"""Tracebacks instead of messages; like the next one a variable that is no setting."""

DASHBOARD_TOKEN = "LAWN_TUNE_DASHBOARD_TOKEN"
"""The secret that viewers of a dashboard give; never a flag, as process lists show those."""

SHOWN = 120
"""Characters of a value in an error."""

YES = ("1", "true", "yes")
NO = ("0", "false", "no")

Executor = Literal["auto", "inline", "ray"]
EXECUTORS: tuple[Executor, ...] = ("auto", "inline", "ray")


@dataclass(frozen=True)
class Settings:
    """The settings in force.

    Args:
        storage: SQLAlchemy URL of the ledger.
        data_dir: folder of the data sets.
        work_dir: folder of checkpoints and logs.
        checkpoints: place of checkpoints if not in `work_dir`: an absolute folder, or the URL of an object store.
        checkpoint_seconds: least time between two checkpoints of a pack, s.
        fetch_data: True to let workers download a data set that their machine lacks.
        workers: packs trained at once; None leaves it to the machine.
        gpus: GPUs to use; None uses all there are.
        executor: what runs the packs.
        max_device_hours: what a launch may spend; None sets no limit.
        deadline: when a launch stops; None sets no limit.
    """

    storage: str
    data_dir: Path
    work_dir: Path
    checkpoints: str | None
    checkpoint_seconds: float
    fetch_data: bool
    workers: int | None
    gpus: int | None
    executor: Executor
    max_device_hours: float | None
    deadline: Deadline | None


@dataclass(frozen=True)
class Setting:
    """One setting: how its text is read, and what holds if nobody sets it.

    Args:
        name: key in the file, and the variable's name in small letters without prefix.
        parse: text → value; raises ValueError with the rule.
        default: value without flag, variable or file.
        help: one line for people.
    """

    name: str
    parse: Callable[[str], Any]
    default: Any
    help: str

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()


def _url(text: str) -> str:
    StorageUrl.parse(text)
    return text


def _path(text: str) -> Path:
    if not is_path(text):
        raise ValueError("the path of a folder")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("the path of a folder; after '~' must follow a user of this machine") from None


def _checkpoints(text: str) -> str:
    if text:
        open_store(text)
    return text if "://" in text else str(_path(text).resolve())


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text, re.ASCII):
        raise ValueError("a number of seconds, as 30 or 0.5")
    return float(text)


def _yes(text: str) -> bool:
    if text.lower() not in YES + NO:
        raise ValueError(f"{', '.join(YES)} or {', '.join(NO)}")
    return text.lower() in YES


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,6}", text, re.ASCII) or int(text) < least:
            raise ValueError(f"a whole number from {least} to 999999")
        return int(text)

    return parse


def _hours(text: str) -> float:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII) or not float(text):
        raise ValueError("a number of hours above 0, as 8 or 0.5")
    return float(text)


def _executor(text: str) -> Executor:
    for executor in EXECUTORS:
        if text == executor:
            return executor
    raise ValueError(f"one of {', '.join(EXECUTORS)}")


SETTINGS: tuple[Setting, ...] = (
    Setting("storage", _url, "sqlite:///lawn-tune.db", "Ledger: a database URL."),
    Setting("data_dir", _path, Path("data"), "Folder of the data sets."),
    Setting("work_dir", _path, Path(".lawn-tune"), "Folder of checkpoints and logs."),
    Setting("checkpoints", _checkpoints, None, "Checkpoints: a folder, or a URL as s3://bucket/prefix."),
    Setting("checkpoint_seconds", _seconds, 30.0, "Seconds from one checkpoint of a pack to the next, at least."),
    Setting("fetch_data", _yes, False, "1 lets workers download a data set that their machine lacks."),
    Setting("workers", _whole(1), None, "Packs trained at once; without it, as many as the machine has room for."),
    Setting("gpus", _whole(0), None, "GPUs to use; 0 trains on CPU cores; without it, all there are."),
    Setting("executor", _executor, "auto", "What runs the packs: ray, inline, or auto (ray where it is installed)."),
    Setting("max_device_hours", _hours, None, "Hours of GPUs (or of slots of CPU cores) that a launch may spend."),
    Setting("deadline", parse_deadline, None, "When a launch stops: after 8h or 1h30m, at 18:30, or at an ISO time."),
)


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
        UsageError: a value does not parse, or a key of the file or a variable is unknown; the text names where it was
            found.
    """
    given = flags or {}
    variables = os.environ if environ is None else environ
    _check_names(variables)
    file = (directory or Path()) / FILE
    filed = _read(file)
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        values[setting.name] = setting.default
        sources = (
            (f"--{setting.name.replace('_', '-')}", given.get(setting.name)),
            (setting.variable, variables.get(setting.variable) or None),
            (f"{file}: {setting.name}", filed.get(setting.name)),
        )
        for origin, value in sources:
            if value is not None:
                values[setting.name] = _parse(setting, origin, value)
                break
    return Settings(**values)


def debugging(environ: Mapping[str, str] | None = None) -> bool:
    """Tells whether `LAWN_TUNE_DEBUG` asks for tracebacks; empty counts as not set.

    Raises:
        UsageError: it is neither yes nor no.
    """
    text = (os.environ if environ is None else environ).get(DEBUG) or NO[0]
    try:
        return _yes(text)
    except ValueError as rule:
        raise UsageError(f"{DEBUG}: must be {rule}, got {_shown(text)}", "Set it to 1 to see tracebacks.") from None


def check_ray_address(address: str | None) -> None:
    """Does nothing if Ray can make sense of an address.

    Raises:
        UsageError: it is neither `auto` nor HOST:PORT.
    """
    if address is None or address == "auto":
        return
    found = re.fullmatch(r"(?:ray://)?(?:[\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})", address, re.ASCII)
    if found is None or not 1 <= int(found[1]) <= 65535:
        shown = f"--ray-address: must be HOST:PORT or auto, got {_shown(address)}"
        raise UsageError(shown, "Give HOST:PORT of the cluster's head, or auto on one of its machines.")


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
    known = [*(setting.variable for setting in SETTINGS), DEBUG, DASHBOARD_TOKEN]
    for name in variables:
        if name.startswith(PREFIX) and name not in known:
            raise UsageError(
                f"{name}: unknown variable; the variables are {', '.join(known)}",
                f"{did_you_mean(name, known)}Rename it, or unset it.",
            )


def _read(file: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read: {error}", "Correct the file or remove it.") from None
    names = [setting.name for setting in SETTINGS]
    for key, value in values.items():
        if key not in names:
            shown = f"{file}: {key}: unknown key; the keys are {', '.join(names)}, got {_shown(value)}"
            raise UsageError(shown, f"{did_you_mean(key, names)}Rename or remove it.")
        yes_or_no = next(setting for setting in SETTINGS if setting.name == key).parse is _yes
        if (isinstance(value, bool) and not yes_or_no) or not isinstance(value, str | int | float):
            shown = f"{file}: {key}: must be a text or a number, got {_shown(value)}"
            raise UsageError(shown, "Write a single value.")
    return values


def _parse(setting: Setting, origin: str, value: Any) -> Any:
    try:
        return setting.parse(str(value))
    except UsageError as error:
        raise UsageError(f"{origin}: must be a storage URL, got {error}", error.hint) from None
    except ValueError as rule:
        raise UsageError(f"{origin}: must be {rule}, got {_shown(value)}", setting.help) from None


def _shown(value: object) -> str:
    """Returns the value fit to print: a password may be in any text."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    text = repr(masked(value) if isinstance(value, str) else value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
