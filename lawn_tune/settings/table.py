"""The settings, each declared once: its flag, variable, key in the file, help and page are made from these lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from lawn_tune.settings import kinds
from lawn_tune.settings.deadlines import Deadline, parse_deadline

PREFIX = "LAWN_TUNE_"

Executor = Literal["auto", "inline", "ray"]
EXECUTORS: tuple[Executor, ...] = ("auto", "inline", "ray")


def _read(parse: Callable[[str], Any], help: str, metavar: str = "") -> dict[str, Any]:
    return {"parse": parse, "help": help, "metavar": metavar}


@dataclass(frozen=True)
class Settings:
    """The settings in force, and their declarations: default, kind, help, and the value's placeholder in a usage."""

    storage: str = field(default="sqlite:///lawn-tune.db", metadata=_read(kinds.url, "Ledger: a database URL.", "URL"))
    data_dir: Path = field(default=Path("data"), metadata=_read(kinds.folder, "Folder of the data sets.", "DIR"))
    work_dir: Path = field(
        default=Path(".lawn-tune"), metadata=_read(kinds.folder, "Folder of checkpoints and logs.", "DIR")
    )
    checkpoints: str | None = field(
        default=None,
        metadata=_read(
            kinds.checkpoint_place,
            "Checkpoints: a folder, or a URL such as s3://bucket/prefix; by default in the work_dir.",
            "URL|DIR",
        ),
    )
    checkpoint_seconds: float = field(
        default=30.0,
        metadata=_read(
            kinds.number("seconds", "30 or 0.5"), "Minimum time between two checkpoints of a pack.", "SECONDS"
        ),
    )
    checkpoint_steps: int = field(
        default=0,
        metadata=_read(kinds.whole(0), "Write a checkpoint after each N steps as well; 0: by time alone.", "N"),
    )
    fetch_data: bool = field(
        default=False,
        metadata=_read(kinds.yes, "Let workers download a data set that is missing or damaged on their machine."),
    )
    flattening: bool = field(
        default=False,
        metadata=_read(
            kinds.yes, "Measure loss flattening after each epoch: flat losses, gradient noise, curvature. Takes time."
        ),
    )
    extend: bool = field(
        default=False,
        metadata=_read(kinds.yes, "Widen the grids of rivals, by up to 3 levels each, until no winner is on an edge."),
    )
    workers: int | None = field(
        default=None,
        metadata=_read(kinds.whole(1), "Packs trained at once; by default as many as the machine has room for.", "N"),
    )
    gpus: int | None = field(
        default=None,
        metadata=_read(
            kinds.whole(0), "GPUs to use, by default all; 0 trains on CPU cores. More workers than GPUs share.", "N"
        ),
    )
    gpus_per_trial: int = field(
        default=1,
        metadata=_read(
            kinds.gpus_per_trial, "GPUs that train a pack together, sharing its micro-batches: 1, 2, 4 or 8.", "N"
        ),
    )
    executor: Executor = field(
        default="auto",
        metadata=_read(
            kinds.one_of(EXECUTORS), "What runs the packs: ray, inline, or auto (ray if it is installed).", "NAME"
        ),
    )
    ray_address: str | None = field(
        default=None,
        metadata=_read(
            kinds.ray_address, "A running Ray cluster, or auto; by default Ray is started here.", "HOST:PORT"
        ),
    )
    progress_timeout: float = field(
        default=120.0,
        metadata=_read(
            kinds.number("minutes", "120 or 0.5"),
            "End a Ray worker in which no step ends for this long; 0: never.",
            "MINUTES",
        ),
    )
    pack_size: int | None = field(
        default=None,
        metadata=_read(
            kinds.whole(1), "Trials trained as one; by default chosen for the workers of the first launch.", "N"
        ),
    )
    retries: int = field(default=2, metadata=_read(kinds.whole(0), "How often a failed pack is tried again.", "N"))
    max_device_hours: float | None = field(
        default=None,
        metadata=_read(
            kinds.number("hours", "8 or 0.5", zero=False),
            "Stop before the jobs have used this much device time in total.",
            "HOURS",
        ),
    )
    deadline: Deadline | None = field(
        default=None, metadata=_read(parse_deadline, "Stop after 8h or 1h30m, at 18:30, or at an ISO time.", "WHEN")
    )
    notify: tuple[str, ...] | None = field(
        default=None,
        metadata=_read(
            kinds.command, "Run this when a launch ends, fails or diverges widely; it reads JSON.", "COMMAND"
        ),
    )


@dataclass(frozen=True)
class Setting:
    """One setting.

    Args:
        name: field of `Settings`, and key in the file.
        parse: text → value; raises ValueError with the rule.
        default: value without flag, variable or file.
        help: one line.
        metavar: placeholder of its value in a usage; "" for a flag without one.
    """

    name: str
    parse: Callable[[str], Any]
    default: Any
    help: str
    metavar: str

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The option of a command."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def described(self) -> str:
        """The help, with the default where there is one to show."""
        return f"{self.help}  [{self.default}]" if self.default not in (None, False) else self.help


SETTINGS: tuple[Setting, ...] = tuple(Setting(f.name, default=f.default, **f.metadata) for f in fields(Settings))
