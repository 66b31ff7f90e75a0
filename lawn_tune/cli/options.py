"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lawn_tune.settings import SETTINGS, Settings, kinds, resolve
from search_spaces.keys import shown


def _option(name: str) -> Any:
    """Returns the option of a setting; its text is read and checked by `settings.resolve`."""
    (setting,) = (setting for setting in SETTINGS if setting.name == name)
    return typer.Option(setting.flag, metavar=setting.metavar or None, help=setting.described)


class Refused(typer.BadParameter):
    """A value that an option does not take.

    Args:
        message: the rule and the value.
        hint: the next step; None for that of every option.
    """

    def __init__(self, message: str, hint: str | None) -> None:
        super().__init__(message)
        self.hint = hint


def parsed(parse: Callable[[str], Any], hint: str | None = None) -> Callable[[object], Any]:
    """Returns the parser of an option that is not a setting: it refuses a value in the words of those that are.

    Args:
        parse: of `settings.kinds`.
        hint: see `Refused`.
    """

    def value(given: object) -> Any:
        try:
            return parse(str(given))
        except ValueError as rule:
            raise Refused(f"must be {rule}, got {shown(given)}", hint) from None

    return value


Storage = Annotated[str | None, _option("storage")]
DataDir = Annotated[str | None, _option("data_dir")]
WorkDir = Annotated[str | None, _option("work_dir")]
Checkpoints = Annotated[str | None, _option("checkpoints")]
CheckpointSeconds = Annotated[str | None, _option("checkpoint_seconds")]
CheckpointSteps = Annotated[str | None, _option("checkpoint_steps")]
FetchData = Annotated[bool | None, _option("fetch_data")]
Workers = Annotated[str | None, _option("workers")]
Gpus = Annotated[str | None, _option("gpus")]
GpusPerTrial = Annotated[str | None, _option("gpus_per_trial")]
ExecutorName = Annotated[str | None, _option("executor")]
RayAddress = Annotated[str | None, _option("ray_address")]
ProgressTimeout = Annotated[str | None, _option("progress_timeout")]
PackSize = Annotated[str | None, _option("pack_size")]
Retries = Annotated[str | None, _option("retries")]
MaxDeviceHours = Annotated[str | None, _option("max_device_hours")]
Flattening = Annotated[bool | None, _option("flattening")]
Extend = Annotated[bool | None, _option("extend")]
DeadlineText = Annotated[str | None, _option("deadline")]
Notify = Annotated[str | None, _option("notify")]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of a table.")]
Cells = Annotated[
    list[str] | None,
    typer.Option("--cells", metavar="GLOB", help="Only cells like 'adam*/bs512'; may be given several times."),
]
MaxEpochs = Annotated[
    int | None,
    typer.Option(
        "--max-epochs",
        metavar="N",
        parser=parsed(kinds.whole(1), "Leave it out to use the space's epochs."),
        help="Train at most N epochs a trial.",
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        metavar="N",
        parser=parsed(kinds.whole(1), "Leave it out to use the space's seeds."),
        help="Number of seeds that confirm each winner.",
    ),
]
Smoke = Annotated[
    bool,
    typer.Option(
        "--smoke", help="A minute's check of data, devices, memory, checkpoints and database; keeps no result."
    ),
]
SpaceName = Annotated[str, typer.Argument(metavar="SPACE", help="Name of a space, its TOML file, or a bundle.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there instead of printing.")]
KeepCode = Annotated[
    bool,
    typer.Option("--keep-code", help="Take results of a training function's earlier code for those of its code now."),
]


def settings_of(arguments: Mapping[str, Any]) -> Settings:
    """Returns the settings in force for a command.

    Args:
        arguments: of the command by name; those that are not settings are ignored.
    """
    names = {setting.name for setting in SETTINGS}
    return resolve({name: value for name, value in arguments.items() if name in names})
