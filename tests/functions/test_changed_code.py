"""Results of changed code are never taken for those of the code before, unless by hand, and then it is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lawn_tune.cli.main import app
from tests.helpers.functions import LINE, SPACE, Functions

Command = Callable[..., Result]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(words), env={"COLUMNS": "400"})
        assert result.exit_code == code, result.output
        return result

    return run


def launch(command: Command, *options: str, code: int = 0) -> str:
    return command("launch", "own.toml", "--executor", "inline", *options, code=code).output


def test_changed_code_is_trained_again_and_kept_code_is_flagged(tmp_path: Path, command: Command) -> None:
    own = Functions(tmp_path, space=SPACE.replace("[0.02, 0.05]", "[0.05]").replace("epochs = 4", "epochs = 2"))
    assert "trained 6 trials" in launch(command)
    before = command("compare", "own", "--format", "md").output
    (tmp_path / "train.py").write_text(LINE.replace("0.1 * torch", "0.2 * torch"))
    changed = "train.py:train has changed: 6 finished trials of its earlier code are kept and not used"
    assert changed in command("plan", "own.toml").output
    part = launch(command, "--cells", "adam/*", code=2)
    assert "code is" in part
    assert "Launch the whole space, so that all of its cells are of one code" in part
    assert "trained 2 trials in" in (kept := launch(command, "--keep-code", "--seeds", "3"))
    assert "6 were in the ledger" in kept
    assert "1 of 4 trials ran changed code of train.py:train" in command("compare", "own", "--format", "md").output
    assert "has changed" not in command("status", "own").output, "all of them are used"
    again = launch(command)
    assert f"{changed} (--keep-code would)" in again.replace("8 finished", "6 finished")
    assert "trained 6 trials" in again
    after = command("compare", "own", "--format", "md").output
    assert "ran changed code" not in after
    assert "The ledger has trials of 1 other version of the source code" in after
    assert after.splitlines()[:12] != before.splitlines()[:12]
    assert "earlier code are kept and not used" in command("status", "own").output
    assert [cell.task.code for cell in own.cells] != [""] * 2
