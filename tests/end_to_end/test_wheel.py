"""The wheel, installed outside of the checkout, holds everything and runs what the pages show."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("search_spaces", "trainables", "lawn_tune", "dashboards")
ALONE = {"PYTHONPATH": "", "OMP_NUM_THREADS": "1", "LAWN_TUNE_EXECUTOR": "inline", "COLUMNS": "200"}

pytestmark = pytest.mark.timeout(600)


def run(*words: str | Path, folder: Path, path: Path | None = None) -> str:
    """Runs a command in a folder, with the commands of another one if it is given; returns what it prints."""
    variables = os.environ | ALONE | ({"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"} if path else {})
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
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


class Page(NamedTuple):
    """What is run of a page.

    Args:
        runs: languages of the blocks that are.
        changes: texts that are replaced in its blocks, so that it takes seconds.
        shows: texts in what its commands print.
        makes: files that it leaves.
        after: page whose folder it continues in.
        needs: files of the checkout, below the folder.
    """

    runs: tuple[str, ...] = ("sh",)
    changes: Mapping[str, str] = {}
    shows: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    after: str = ""
    needs: tuple[str, ...] = ()


BUNDLE = "movielens_100k_five_searches"
PAGES = {
    "README.md": Page(runs=("python",)),  # its commands are those of the other pages, and download data
    "docs/own_training.md": Page(changes={"epochs = 20": "epochs = 5"}, shows=("trials of 3 epochs", "Adam-LAWN is")),
    "docs/own_workload.md": Page(changes={"epochs = 15": "epochs = 5"}, shows=("Adam-LAWN is",)),
    "docs/importing.md": Page(shows=("mine is 1.85 points better than adam",)),
    "docs/automation.md": Page(
        runs=("sh", "python"),
        changes={"launch quickstart": "launch quickstart --max-epochs 3"},
        shows=("finished",),
        makes=("public/index.html", "quickstart.bundle", "restored.db", "trials.csv"),
    ),
    "docs/bundles.md": Page(after="docs/automation.md", shows=("Adam-LAWN is",)),
    "docs/results.md": Page(
        changes={"NAME": BUNDLE, "lawn-tune launch": "lawn-tune plan", "--fetch-data --ray-address auto": ""},
        shows=("1.04 points worse", "270 search + 20 confirm trials"),
        needs=(f"docs/results/{BUNDLE}.bundle", f"docs/results/{BUNDLE}.toml"),
    ),
    "docs/spaces.md": Page(
        changes={f"lawn-tune {name}": "true" for name in ("launch", "reproduce")}, shows=("table4",)
    ),
}
"""Those whose blocks are run, with the files that they show."""

NOT_RUN = {
    "docs/recipes.md": "minutes, as each trial imports Lightning: tests/functions/test_recipes_page.py",
    "docs/plugins.md": "parts of files, which tests/plugins installs and trains",
    "docs/data.md": "a part of a file",
    "docs/several_gpus.md": "needs GPUs",
    "docs/cluster.md": "needs a cluster: tests/cluster",
    "docs/slurm.md": "needs SLURM: tests/cluster/test_slurm.py",
    "docs/dashboard.md": "needs servers: tests/dashboards/test_proxies.py",
}
"""Pages with other blocks, and why those are not."""

BLOCK = re.compile(r"(?:`([\w/-]+\.\w+)`:\n\n)?^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
"""A block, after the name of the file that it shows if it is one."""


@pytest.fixture(scope="module")
def follow(commands: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, str]]:
    """Does what a page shows, once; returns its folder and what its commands print."""

    @cache
    def followed(page: str) -> tuple[Path, str]:
        shown, printed = PAGES[page], ""
        folder = followed(shown.after)[0] if shown.after else tmp_path_factory.mktemp("page")
        for name in shown.needs:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        for name, language, text in BLOCK.findall((ROOT / page).read_text()):
            for before, after in shown.changes.items():
                text = text.replace(before, after)
            if name:
                (folder / name).write_text(text)
            elif language in shown.runs:
                words = (commands / "python", "-c") if language == "python" else ("sh", "-ec")
                printed += run(*words, text, folder=folder, path=commands)
        return folder, printed

    return followed


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        assert files - set(archive.namelist()) == set()


def test_the_installed_packages_are_those_of_the_wheel(commands: Path, tmp_path: Path) -> None:
    where = "import trainables; print(trainables.__file__)"
    assert run(commands / "python", "-c", where, folder=tmp_path).startswith(str(commands.parent))
    version = run(commands / "lawn-tune", "--version", folder=tmp_path)
    assert run(commands / "python", "-m", "lawn_tune", "--version", folder=tmp_path) == version


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_runs_with_it(page: str, follow: Callable[[str], tuple[Path, str]]) -> None:
    folder, printed = follow(page)
    assert not [text for text in PAGES[page].shows if text not in printed]
    assert not [name for name in PAGES[page].makes if not (folder / name).exists()]


def test_every_page_with_blocks_is_run_or_has_a_reason_not_to_be() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert {page.relative_to(ROOT).as_posix() for page in pages if BLOCK.search(page.read_text())} == {
        *PAGES,
        *NOT_RUN,
    }
