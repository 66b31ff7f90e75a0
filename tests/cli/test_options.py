"""Every option of a launch reaches what it sets, from the command line to the object that uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import lawn_tune.cli.launch
import lawn_tune.launching.launch
from lawn_tune.cli.launch import limits_of, run_launch
from lawn_tune.cli.main import app
from lawn_tune.executors import build
from lawn_tune.executors.build import build_executor, machine_slots
from lawn_tune.launching.limits import Limits
from lawn_tune.settings import SETTINGS, Settings
from tests.helpers.tiny import SPACE


class Reached(Exception):
    """Carries what a launch would have used."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given


def executor(settings: Settings) -> Any:
    return build_executor(settings, machine_slots(settings))


def worker(settings: Settings) -> Any:
    return executor(settings).settings


def limits(settings: Settings) -> Limits:
    return limits_of(settings, machine_slots(settings))


def agenda(settings: Settings) -> dict[str, Any]:
    """What `run_launch` builds its agenda with."""
    with pytest.MonkeyPatch.context() as patch:

        def stop(cells: Any, ledger: Any, *rest: Any, **given: Any) -> None:
            raise Reached(given | {"storage": ledger._database.shown})

        patch.setattr(lawn_tune.launching.launch, "Launch", stop)
        with pytest.raises(Reached) as reached:
            run_launch([], settings, Console(quiet=True), machine_slots(settings), limits(settings))
    return reached.value.given


INLINE, RAY = ("--executor", "inline"), ("--executor", "ray")
REACHES: dict[str, tuple[tuple[str, ...], Callable[[Settings], Any], Any]] = {
    "storage": (("--storage", "sqlite:///other.db"), lambda s: Path(agenda(s)["storage"]).name, "other.db"),
    "data_dir": (("--data-dir", "/elsewhere", *INLINE), lambda s: worker(s).data_dir, "/elsewhere"),
    "work_dir": (("--work-dir", "w", *RAY), lambda s: executor(s).work_dir, Path("w")),
    "checkpoints": (("--checkpoints", "s3://b/c", *INLINE), lambda s: worker(s).checkpoint_dir, "s3://b/c"),
    "checkpoint_seconds": (("--checkpoint-seconds", "7", *INLINE), lambda s: worker(s).checkpoint_seconds, 7.0),
    "checkpoint_steps": (("--checkpoint-steps", "500", *INLINE), lambda s: worker(s).checkpoint_steps, 500),
    "fetch_data": (("--fetch-data", *INLINE), lambda s: worker(s).fetch_data, True),
    "flattening": (("--flattening", *INLINE), lambda s: worker(s).flattening, True),
    "extend": (("--extend",), lambda s: agenda(s)["extend"], True),
    "workers": (("--workers", "3"), lambda s: machine_slots(s).count, 3),
    "gpus": (("--gpus", "2"), lambda s: machine_slots(s).gpus, 1.0),
    "gpus_per_trial": (("--gpus", "4", "--gpus-per-trial", "2"), lambda s: machine_slots(s).gpus, 2.0),
    "executor": (INLINE, lambda s: type(executor(s)).__name__, "InlineExecutor"),
    "ray_address": (("--ray-address", "head:1", *RAY), lambda s: executor(s).address, "head:1"),
    "progress_timeout": (("--progress-timeout", "0.5", *RAY), lambda s: worker(s).progress_seconds, 30.0),
    "pack_size": (("--pack-size", "5"), lambda s: agenda(s)["pack_size"], 5),
    "retries": (("--retries", "7"), lambda s: agenda(s)["retries"], 7),
    "max_device_hours": (("--max-device-hours", "2"), lambda s: limits(s).device_seconds, 7200.0),
    "deadline": (("--deadline", "2100-01-01T00:00+00:00"), lambda s: limits(s).deadline, 4102444800.0),
    "notify": (("--notify", "true -x"), lambda s: s.notify, ("true", "-x")),
}
"""Setting → how it is typed, what reads it where it is used, and what is found there."""


def test_every_setting_has_a_place_that_uses_it() -> None:
    assert list(REACHES) == [setting.name for setting in SETTINGS]


@pytest.mark.parametrize("name", REACHES)
def test_an_option_reaches_what_it_sets(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    (tmp_path / "tiny.toml").write_text(SPACE)
    launched: list[Settings] = []
    with monkeypatch.context() as patch:
        patch.setattr(
            lawn_tune.cli.launch, "run_launch", lambda cells, settings, *rest, **more: launched.append(settings)
        )
        typed, find, expected = REACHES[name]
        patch.setattr(build, "machine_gpus", lambda: 4)
        result = CliRunner().invoke(app, ["launch", "tiny.toml", *typed])
    assert result.exit_code == 0, result.output
    with monkeypatch.context() as patch:
        patch.setattr(build, "machine_gpus", lambda: 4)
        assert find(launched[0]) == expected
    assert find(Settings()) != expected
