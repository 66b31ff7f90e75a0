"""The page on own workloads: its space runs as it says, inline and under Ray."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lawn_tune.cli.main import app
from tests.helpers.functions import Functions, end_of
from tests.helpers.own_workload import ROOT, SOURCE, SPACE, block, summaries


def test_a_pack_of_the_page_learns_in_as_many_lines_as_it_says(tmp_path: Path) -> None:
    own = Functions(tmp_path, SOURCE, SPACE.replace("epochs = 15", "epochs = 6"), "waves.py")
    (end,) = summaries(end_of(own.run(own.job(0))))
    assert end["last/validation/accuracy"] > 50, "a guess has 33"
    assert len(SOURCE.splitlines()) <= 40


def trained() -> dict[str, float]:
    exported = CliRunner().invoke(app, ["export", "waves", "--format", "json"])
    return {trial["key"]: trial["metrics"]["last/train_loss"] for trial in json.loads(exported.stdout)}


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_commands_of_the_page_end_with_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a folder of the user's, which is not on Python's path; packs of the same sizes end with the same bits."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT)]))
    monkeypatch.setenv("LAWN_TUNE_WORKERS", "2")
    found = []
    for executor in ("ray", "inline"):
        (folder := tmp_path / executor).mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setenv("LAWN_TUNE_EXECUTOR", executor)
        Path("waves.py").write_text(SOURCE)
        Path("waves.toml").write_text(SPACE)
        for line in block("sh").splitlines():
            words = line.partition("#")[0].split()[1:]
            result = CliRunner().invoke(app, words + (["--pack-size", "5"] if "launch" in words else []))
            assert result.exit_code == 0, result.output
        assert "Adam-LAWN is" in result.output
        assert "one at a time" not in result.output
        assert CliRunner().invoke(app, ["report", "waves", "--format", "md", "--output", "report.md"]).exit_code == 0
        assert "waves.py:Waves" in Path("report.md").read_text()
        found.append(trained())
    assert len(found[0]) == 28
    assert found[0] == found[1]


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_ray_trains_what_cannot_be_packed_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT)]))
    monkeypatch.chdir(tmp_path)
    Path("waves.py").write_text(SOURCE.replace("nn.BatchNorm1d(12)", "nn.Dropout(0.1)"))
    Path("waves.toml").write_text(SPACE.replace("epochs = 15", "epochs = 3"))
    launched = CliRunner().invoke(app, ["launch", "waves.toml", "--executor", "ray", "--workers", "2"])
    assert launched.exit_code == 0, launched.output
    line = "waves.py:Waves cannot be trained in packs, its trials are trained one at a time: it draws random numbers"
    assert launched.output.count(line) == 1
    trials = json.loads(CliRunner().invoke(app, ["export", "waves", "--format", "json"]).stdout)
    assert {(trial["outcome"], trial["provenance"]["packing"]["trials"]) for trial in trials} == {("complete", 1)}
