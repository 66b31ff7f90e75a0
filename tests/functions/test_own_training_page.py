"""The page on training functions shows the files of the example, and these run as it says, inline and under Ray."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import examples
from lawn_tune.cli.main import app
from search_spaces.loader import load_space
from tests.helpers.functions import Functions, end_of

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/regression"
PAGE = (ROOT / "docs/own_training.md").read_text()
FILES = {"train.py": "python", "regression.toml": "toml"}


def block(language: str) -> str:
    found: str = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[0]
    return found


@pytest.mark.parametrize("name", FILES)
def test_the_page_shows_the_files_of_the_example(name: str) -> None:
    assert block(FILES[name]) == (EXAMPLE / name).read_text()


@pytest.mark.parametrize("place", [0, 1])
def test_a_trial_of_the_example_learns(place: int, tmp_path: Path) -> None:
    own = Functions(tmp_path, block("python"), block("toml"))
    said = own.run(own.job(place))
    (outcome,) = end_of(said)["outcomes"]
    assert outcome["summary"]["last/validation/mse"] < 0.6, "the mean of all targets has 0.9"
    assert not [text for message in said for text in message.get("warnings", ())]


def values(folder: Path) -> dict[str, float]:
    storage = f"sqlite:///{folder}/lawn-tune.db"
    exported = CliRunner().invoke(app, ["export", "regression", "--format", "json", "--storage", storage])
    return {trial["key"]: trial["metrics"]["last/train_loss"] for trial in json.loads(exported.stdout)}


def means(verdict: str) -> dict[str, float]:
    """Method → its value in the table of a verdict."""
    return {name: float(mean) for name, mean in re.findall(r"^\| ([\w-]+) \| \**([\d.]+) ± ", verdict, re.MULTILINE)}


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_commands_of_the_page_end_with_the_committed_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `make examples` runs them, under Ray, and typed from the page, inline."""
    (ray := tmp_path / "ray").mkdir()
    monkeypatch.setenv("LAWN_TUNE_EXECUTOR", "ray")
    verdict = examples.verdict(EXAMPLE, ray)
    monkeypatch.setenv("LAWN_TUNE_EXECUTOR", "inline")
    monkeypatch.chdir(tmp_path)
    for name, language in FILES.items():
        Path(name).write_text(block(language))
    for line in block("sh").splitlines():
        words = line.partition("#")[0].split()[1:]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    assert "Adam-LAWN is" in result.output
    found = values(tmp_path)
    assert len(found) == 28
    assert found == values(ray)
    committed = means((EXAMPLE / examples.VERDICT).read_text())
    assert committed.keys() == {"Adam", "Adam-LAWN"}
    margin = load_space(EXAMPLE / "regression.toml").margin
    assert means(verdict) == pytest.approx(committed, abs=margin), "other machines round differently"
