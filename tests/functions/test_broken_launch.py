"""One broken trial of a launch: its cell waits for a repair, the other is confirmed, and its output is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dashboards.figures.heat_map import heat_map_figure, heat_map_info
from lawn_tune.cli.main import app
from lawn_tune.comparison.compare import compare_space
from lawn_tune.ledger import open_ledger
from tests.helpers.functions import SPACE, Functions

SOURCE = """\
def train(trial):
    tau = trial.hyperparameters["tau"]
    print("tau is", tau)
    assert (trial.data_dir / "repaired").exists() or trial.method == "new" or tau < 2, "too large"
    for epoch in range(trial.epochs):
        trial.report(epoch + 1, validation=tau, test=tau)
"""
PAIR = '[[compare]]\nchallenger = "new"\nbaseline = "old"\n'
METHODS = f"[optimizers.old]\ntau = [1, 2]\n[optimizers.new]\ntau = [1, 2]\n{PAIR}"


def test_others_are_trained_and_the_end_of_its_output_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Functions(tmp_path, SOURCE, SPACE[: SPACE.index("[optimizers.adam]")] + METHODS)
    command = ["launch", "own.toml", "--executor", "inline", "--retries", "0", "--data-dir", str(tmp_path)]
    launched = CliRunner().invoke(app, command)
    assert launched.exit_code == 5
    assert "1 trial failed: train.py:train: AssertionError: too large" in launched.output
    assert "✗ old/bs1 search, 1 trial: train.py:train: AssertionError: too large" in launched.output
    assert "next:" not in launched.output
    trials = json.loads(CliRunner().invoke(app, ["export", "own", "--format", "json"]).stdout)
    found = trials if isinstance(trials, list) else trials["trials"]
    assert sorted(trial["outcome"] for trial in found) == ["complete"] * 5 + ["failed"]
    (error,) = (trial["error"] for trial in found if trial["outcome"] == "failed")
    assert error.endswith("The end of its output:\ntau is 2.0")
    (tmp_path / "repaired").touch()
    again = CliRunner().invoke(app, command)
    assert "trained 3 trials" in again.output
    assert "next: lawn-tune compare own" in again.output
    with open_ledger(f"sqlite:///{tmp_path}/lawn-tune.db", create=False) as ledger:
        comparison = compare_space(ledger, "own")
    (pair,) = comparison.pairs
    assert pair.difference is not None
    assert pair.difference.mean == 0
    info = heat_map_info(comparison, pair.baseline)
    assert (info.x, info.y, info.panels[0].values) == ("tau", "", ((1.0, 2.0),))
    assert heat_map_figure(info).data
