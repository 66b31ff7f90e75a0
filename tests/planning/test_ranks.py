"""Several GPUs a trial, as planned: what cannot be divided is refused before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lawn_tune.cells import Cell
from lawn_tune.cli.main import app
from lawn_tune.errors import UsageError
from lawn_tune.executors import build
from lawn_tune.executors.build import machine_slots
from lawn_tune.planning.ranks import check_ranks
from lawn_tune.planning.speed import Speeds
from lawn_tune.settings import Settings
from tests.helpers.functions import Functions
from tests.helpers.tiny import SPACE, tiny_cells
from trainables.outcomes import TrialOutcome
from trainables.tasks import RANKS

CUT = SPACE.replace("epochs = 20", "epochs = 20\nmicro_batch = 16")


def cell(whole: Cell, micro_batch: int) -> Cell:
    return replace(whole, task=replace(whole.task, micro_batch=micro_batch))


@pytest.mark.parametrize("gpus", RANKS)
def test_a_micro_batch_that_is_refused_comes_with_one_that_is_not(gpus: int, tmp_path: Path) -> None:
    whole = tiny_cells(tmp_path, SPACE)[0]
    fitting = cell(whole, 8)
    for micro_batch in range(0, 64, 3):
        parts = -(-64 // (micro_batch or 64))
        if parts % gpus == 0:
            check_ranks([cell(whole, micro_batch)], gpus)
            continue
        with pytest.raises(UsageError, match=f"--gpus-per-trial {gpus}: .*tiny/adam/bs64 into {parts}, ") as caught:
            check_ranks([fitting, cell(whole, micro_batch)], gpus)
        assert caught.value.hint
        advised = int(caught.value.hint.partition("micro_batch = ")[2].split()[0])
        assert advised <= (micro_batch or 64)
        check_ranks([cell(whole, advised)], gpus)


def test_a_training_function_has_one_gpu(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="training function, which has one GPU"):
        check_ranks(Functions(tmp_path).cells, 2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(gpus=2, gpus_per_trial=4), "a pack needs as many, and --gpus gives 2"),
        (Settings(gpus=4, gpus_per_trial=4, workers=2), "2 packs at once need 8 GPUs, and --gpus gives 4"),
        (Settings(gpus=0, gpus_per_trial=2), "--gpus gives 0"),
    ],
)
def test_more_gpus_than_there_are_are_refused(settings: Settings, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        machine_slots(settings)
    assert machine_slots(replace(settings, ray_address="auto")).gpus == settings.gpus_per_trial


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["plan", "tiny.toml", "--gpus-per-trial", "2"], "no micro_batch cuts a batch of 64 of tiny/adam/bs64"),
        (["plan", "tiny.toml", "--gpus-per-trial", "3"], "one of 1, 2, 4, 8"),
        (["launch", "cut.toml", "--gpus-per-trial", "8", "--gpus", "8"], "into 4, and GPUs share the parts evenly"),
        (["launch", "cut.toml", "--gpus-per-trial", "4", "--gpus", "2"], "a pack needs as many, and --gpus gives 2"),
    ],
)
def test_what_cannot_be_is_one_error(
    command: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "machine_gpus", lambda: 8)
    (tmp_path / "tiny.toml").write_text(SPACE)
    (tmp_path / "cut.toml").write_text(CUT)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 or isinstance(result.exception, UsageError)
    assert words in f"{result.output} {result.exception}"


def test_a_pack_is_as_many_times_as_fast_as_its_device_time_says(tmp_path: Path) -> None:
    """So a launch on four GPUs that learns from trials of one, or the other way around, is not misled."""
    for found in tiny_cells(tmp_path, CUT):
        trained = TrialOutcome(key="a", outcome="complete", epochs=found.task.epochs, summary={"seconds": 80.0})
        times = []
        for devices in (1, 4):
            speeds = Speeds(devices=devices)
            speeds.add(found, "search", [trained])
            times.append(speeds.seconds(found, "search", found.search_trials[:1]))
        assert times == pytest.approx([80.0, 20.0])
