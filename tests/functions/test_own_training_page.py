"""The page on training functions shows the files of the example, and these run as it says, inline and under Ray."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lawn_tune.cli.main import app
from tests.helpers.functions import Functions, end_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/own_training.md").read_text()
FILES = {"train.py": "python", "regression.toml": "toml"}


def block(language: str) -> str:
    found: str = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[0]
    return found


@pytest.mark.parametrize("name", FILES)
def test_the_page_shows_the_files_of_the_example(name: str) -> None:
    assert block(FILES[name]) == (ROOT / "examples/regression" / name).read_text()


@pytest.mark.parametrize("place", [0, 1])
def test_a_trial_of_the_example_learns(place: int, tmp_path: Path) -> None:
    own = Functions(tmp_path, block("python"), block("toml"))
    said = own.run(own.job(place))
    (outcome,) = end_of(said)["outcomes"]
    assert outcome["summary"]["last/validation/mse"] < 0.6, "the mean of all targets has 0.9"
    assert not [text for message in said for text in message.get("warnings", ())]


def values(folder: Path) -> dict[str, float]:
    exported = CliRunner().invoke(app, ["export", "regression", "--format", "json"])
    return {trial["key"]: trial["metrics"]["last/train_loss"] for trial in json.loads(exported.stdout)}


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_commands_of_the_page_end_with_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT)]))
    found = []
    for executor in ("inline", "ray"):
        (folder := tmp_path / executor).mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setenv("LAWN_TUNE_EXECUTOR", executor)
        for name, language in FILES.items():
            Path(name).write_text(block(language))
        for line in block("sh").splitlines():
            words = line.partition("#")[0].split()[1:]
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, result.output
        assert "Adam-LAWN is" in result.output
        found.append(values(folder))
    assert len(found[0]) == 28
    assert found[0] == found[1]
