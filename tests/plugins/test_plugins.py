"""A separately installed package brings a rule, a control, a loss, a model and a data set to the whole service."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import dedent
from urllib.request import urlopen

import pytest

from lawn_tune.ledger import open_ledger
from lawn_tune.words import hyperparameter
from trainables.catalogue.plugins import KINDS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SPACE = """\
description = "stripes by a plug-in"
dataset = "stripes"
loss = "tempered"
metric = "error"

[model]
name = "linear"
scale = 0.2

[seeds]
search = [0]
confirm = [101, 102]

[[budgets]]
batch_size = 16
epochs = 3

[optimizers.signum-shrink]
peak_lr = [0.01, 0.03]
warmup_epochs = [1]
shrink_rate = [0.0, 0.5]
temperature = [1.0, 2.0]

[optimizers.signum-lawn]
peak_lr = [0.01, 0.03]
warmup_epochs = [1]
free_epochs = [0, 1, 1.5, 2]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of packages that the toy package is installed in, by pip and apart from everything else."""
    folder = tmp_path_factory.mktemp("site")
    source = shutil.copytree(HERE / "toy_package", tmp_path_factory.mktemp("source") / "toy_package")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def broken(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same packages, none of which can be imported."""
    folder = shutil.copytree(installed, tmp_path_factory.mktemp("broken") / "site")
    for file in (folder / "toy").glob("*.py"):
        file.write_text("raise RuntimeError('a plug-in was executed')\n")
    shutil.rmtree(folder / "toy" / "__pycache__", ignore_errors=True)
    return folder


def environment(packages: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(packages)]), "OMP_NUM_THREADS": "1"}


def lawn_tune(packages: Path, folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "lawn_tune.cli.main", *words]
    done = subprocess.run(
        command, cwd=folder, env=environment(packages), capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def studied(installed: Path, broken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space and its ledger, planned where the plug-in cannot run and trained where it can."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "toy_space.toml").write_text(SPACE)
    assert "16 search + 4 confirm trials" in lawn_tune(broken, folder, "plan", "toy_space.toml")
    lawn_tune(installed, folder, "launch", "toy_space.toml", "--executor", "inline")
    return folder


def test_every_trial_was_trained(studied: Path, broken: Path) -> None:
    trials = json.loads(lawn_tune(broken, studied, "export", "toy_space", "--format", "json"))
    assert len(trials) == 20
    assert {trial["outcome"] for trial in trials} == {"complete"}
    finals = [trial["metrics"]["last/train_loss"] for trial in trials]
    assert len(set(finals)) > 15, "each hyperparameter, the loss's temperature too, changes what is trained"


def test_comparisons_read_labels_and_directions_without_the_package(studied: Path, broken: Path) -> None:
    compared = lawn_tune(broken, studied, "compare", "toy_space", "--format", "md")
    assert "Signum-LAWN − Signum, shrinking" in compared
    assert "not comparable" not in compared
    assert "error" in compared
    found = json.loads(lawn_tune(broken, studied, "compare", "toy_space", "--format", "json"))
    assert found["protocol"]["direction"] == "minimize"
    (pair,) = found["pairs"]
    assert pair["challenger"] == "toy_space/signum-lawn/bs16"


def test_the_report_shows_the_plug_ins_names_and_color(studied: Path, broken: Path) -> None:
    lawn_tune(broken, studied, "report", "toy_space", "--output", "report.html")
    page = (studied / "report.html").read_text()
    for text in ("Signum-LAWN", "Signum, shrinking", "#7a4fbf"):
        assert text in page
    with open_ledger(f"sqlite:///{studied}/lawn-tune.db", create=False) as ledger:
        ledger.cells("toy_space")
    assert hyperparameter("shrink_rate") == "shrink rate", "on axes, inside compressed figures"


def test_the_dashboard_serves_it_without_the_package(studied: Path, broken: Path) -> None:
    command = [sys.executable, "-u", "-m", "lawn_tune.cli.main", "dashboard", "--port", "0"]
    with subprocess.Popen(
        command, cwd=studied, env=environment(broken), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            assert server.stdout is not None
            line = next(line for line in server.stdout if "http://" in line)
            address = "http://" + line.split("http://")[1].split()[0]
            with urlopen(address, timeout=60) as answer:
                assert answer.status == 200
        finally:
            server.terminate()


@pytest.mark.long
@pytest.mark.ray
def test_ray_trains_the_same_numbers(studied: Path, installed: Path, tmp_path: Path) -> None:
    (tmp_path / "toy_space.toml").write_text(SPACE)
    lawn_tune(installed, tmp_path, "launch", "toy_space.toml", "--executor", "ray", "--workers", "2")
    trained = [
        {
            trial["key"]: trial["metrics"]["last/train_loss"]
            for trial in json.loads(lawn_tune(installed, folder, "export", "toy_space", "--format", "json"))
        }
        for folder in (studied, tmp_path)
    ]
    assert trained[0] == trained[1]


def test_a_space_may_bring_the_same_rows_itself(installed: Path, tmp_path: Path) -> None:
    """By `module:attribute` in its table [catalogue], from modules on the path, with no package installed."""
    modules = tmp_path / "modules"
    shutil.copytree(installed / "toy", modules / "toy")
    rows = (installed / "toy" / "catalogue.toml").read_text()
    inline = "\n".join(f"[catalogue.{line[1:]}" if line.startswith("[") else line for line in rows.splitlines())
    (tmp_path / "own.toml").write_text(f"{SPACE}\n{inline}\n")
    assert tomllib.loads((tmp_path / "own.toml").read_text())["catalogue"].keys() == tomllib.loads(rows).keys()
    lawn_tune(modules, tmp_path, "launch", "own.toml", "--executor", "inline", "--max-epochs", "2")
    assert "Signum-LAWN" in lawn_tune(tmp_path, tmp_path, "compare", "own", "--format", "md")


def test_the_documented_rows_are_those_that_run_here() -> None:
    ours = tomllib.loads((HERE / "toy_package" / "toy" / "catalogue.toml").read_text())
    text = (ROOT / "docs" / "plugins.md").read_text()
    blocks = [tomllib.loads(dedent(block)) for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
    rows = [(kind, name, row) for block in blocks for kind in KINDS for name, row in block.get(kind, {}).items()]
    assert {kind for kind, _, _ in rows} == set(KINDS)
    assert all(ours[kind][name] == row for kind, name, row in rows)
