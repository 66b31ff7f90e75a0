"""The wheel, installed outside of the checkout, holds everything and runs what README and own_training.md show."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("search_spaces", "trainables", "lawn_tune", "dashboards")
ALONE = {"PYTHONPATH": "", "OMP_NUM_THREADS": "1", "LAWN_TUNE_EXECUTOR": "inline", "COLUMNS": "200"}

pytestmark = pytest.mark.timeout(600)


def run(*words: str | Path, folder: Path) -> str:
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=os.environ | ALONE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *options, source, folder=source)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def commands(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a virtual environment with `lawn-tune[all]`, which finds other packages where the tests do."""
    place = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", place, folder=place)
    (packages,) = (place / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", place / "bin" / "python")
    run(*pip, "install", "--quiet", "--no-index", "--ignore-installed", "--no-deps", wheel, folder=place)
    run(*pip, "install", "--quiet", "--no-index", f"{wheel}[all]", folder=place)  # nothing of [all] is missing
    return place / "bin"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        assert files - set(archive.namelist()) == set()


def test_the_example_of_the_readme_runs_with_it(commands: Path, tmp_path: Path) -> None:
    where = "import trainables; print(trainables.__file__)"
    assert run(commands / "python", "-c", where, folder=tmp_path).startswith(str(commands.parent))
    run(commands / "python", "-c", blocks("README.md", "python")[0], folder=tmp_path)


def test_a_new_user_gets_a_verdict_on_an_own_function(commands: Path, tmp_path: Path) -> None:
    page = "docs/own_training.md"
    (tmp_path / "train.py").write_text(blocks(page, "python")[0])
    (tmp_path / "regression.toml").write_text(blocks(page, "toml")[0])
    for line in blocks(page, "sh")[0].splitlines():
        command, *words = line.partition("#")[0].split()
        shown = run(commands / command, *words, folder=tmp_path)
    assert "Adam-LAWN is" in shown
    run(commands / "lawn-tune", "report", "regression", folder=tmp_path)
    assert "Adam-LAWN" in (tmp_path / "lawn-report-regression.html").read_text()
