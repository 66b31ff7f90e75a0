"""The recipes for accelerate and Lightning end with a verdict, resume with the same bits, and see what diverges."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lawn_tune.cli.main import app
from tests.helpers.functions import Functions, end_of
from trainables.functions.host import host

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/recipes.md").read_text()
FUNCTIONS, SPACES = (re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) for language in ("python", "toml"))
NAMES = ("accelerate", "lightning")
SLURM = {"JOB_ID": "5", "JOB_NAME": "study", "NTASKS": "4", "PROCID": "1", "LOCALID": "1", "NODEID": "0"}
SMALL = (
    ("0.01, 0.03, 0.1]", "0.03]"),
    ("0.01, 0.1, 1.0", "0.1"),
    ("0, 1, 4", "1"),
    ("epochs = 20", "epochs = 4"),
    (", 103, 104, 105", ""),
)

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(params=NAMES)
def own(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Functions:
    """A recipe next to the example with one point a method, in a shell that both libraries would misunderstand."""
    for name, value in SLURM.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    host().close()  # the next one has these variables
    space = (ROOT / "examples/regression/regression.toml").read_text()
    for old, new in SMALL:
        assert old in space
        space = space.replace(old, new)
    (tmp_path / "regression.toml").write_text(space)
    (tmp_path / "train.py").write_text((ROOT / "examples/regression/train.py").read_text())
    place = NAMES.index(request.param)
    return Functions(tmp_path, FUNCTIONS[place], SPACES[place], f"with_{request.param}.py")


def test_its_space_ends_with_a_verdict_and_an_interrupted_trial_with_the_same_bits(
    own: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own.folder)
    launched = CliRunner().invoke(app, ["launch", "own.toml", "--executor", "inline"])
    assert launched.exit_code == 0, launched.output
    assert "trained 6 trials" in launched.output
    assert "Adam-LAWN is" in CliRunner().invoke(app, ["compare", "own"]).output
    job = own.job(place=1)
    assert end_of(own.run(job, stop=lambda messages: messages >= 2))["reason"] == "stopped"
    again = own.run(job)
    assert "resumed from epoch" in end_of(again)["provenance"]
    assert not [text for message in again for text in message.get("warnings", ())]
    (outcome,) = end_of(again)["outcomes"]
    exported = json.loads(CliRunner().invoke(app, ["export", "own", "--format", "json"]).stdout)
    (undisturbed,) = (trial["metrics"] for trial in exported if trial["key"] == outcome["key"])
    for name in ("last/train_loss", "last/validation/mse", "last/test/mse"):
        assert outcome["summary"][name] == undisturbed[name], name


@pytest.mark.parametrize("own", ["lightning"], indirect=True)  # which catches what a callback raises
def test_a_loss_that_is_not_finite_is_a_diverged_trial(own: Functions) -> None:
    file = own.folder / "train.py"
    file.write_text(file.read_text().replace("y = 2 *", "y = torch.inf *"))
    assert end_of(own.run(own.job()))["outcomes"][0]["outcome"] == "diverged"
