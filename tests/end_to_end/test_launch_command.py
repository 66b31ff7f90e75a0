"""The main job as a user runs it: real processes, real Ray, real SQLite; and processes that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tiny import tiny_space

SPACE = tiny_space(
    "Seconds a cell",
    width=4,
    confirm=[11, 12],
    batch_size=32,
    epochs=24,
    peak_lr=[0.003, 0.01],
    weight_decay=[0.01, 0.1],
    free_epochs=[1, 3],
)
LAUNCH = ("launch", "tiny.toml", "--pack-size", "2", "--workers", "2")
TRIALS = 2 * (4 + 2)
LIMIT = 330
"""Seconds that a launch under Ray may take; tests of two took 80 on a machine that ran other tests at the same time."""
pytestmark = pytest.mark.timeout(2 * LIMIT)


class Study:
    """A folder with a space in it, and the command run there."""

    def __init__(self, folder: Path, executor: str) -> None:
        self.folder, self.executor = folder, executor
        folder.mkdir()
        (folder / "tiny.toml").write_text(SPACE)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "lawn_tune.cli.main", *arguments]
        environment = os.environ | {"LAWN_TUNE_EXECUTOR": self.executor, "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=self.folder, env=environment, text=True, **pipes)  # type: ignore[call-overload,no-any-return]

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=LIMIT)
        return process.returncode, out, err

    def launch(self) -> str:
        code, _, err = self.run(*LAUNCH)
        assert code == 0, err
        return err

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        path = self.folder / "lawn-tune.db"
        if not path.exists():
            return []
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(statement).fetchall()
        except sqlite3.OperationalError:
            return []  # the ledger is being created
        finally:
            connection.close()

    def finished(self) -> int:
        return len(self.query("SELECT key FROM lawn_trials WHERE outcome IN ('complete', 'diverged')"))

    def epochs(self) -> int:
        return int(sum(row[0] or 0 for row in self.query("SELECT epochs FROM lawn_trials")))

    def comparison(self) -> dict[str, Any]:
        code, out, err = self.run("compare", "tiny", "--format", "json")
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)
        for cell in found["cells"]:
            assert cell.pop("seconds") > 0  # the only thing that may differ between two runs
        return found

    def curves(self) -> dict[str, bytes]:
        return dict(self.query("SELECT key, data FROM lawn_curves"))

    def optuna_keys(self) -> Counter[str]:
        rows = self.query(
            "SELECT value_json FROM trial_user_attributes JOIN trials USING (trial_id)"
            " WHERE key = 'key' AND state IN ('COMPLETE', 'PRUNED')"
        )
        return Counter(json.loads(row[0]) for row in rows)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = Study(tmp_path_factory.mktemp("studies") / "undisturbed", "ray")
    study.launch()
    return study


def check_whole(study: Study, undisturbed: Study) -> None:
    """Every key exactly once complete, in our tables and in Optuna; curves and comparison bit for bit the same."""
    rows = study.query("SELECT key, outcome FROM lawn_trials")
    assert len(rows) == len({key for key, _ in rows}) == TRIALS
    assert {outcome for _, outcome in rows} == {"complete"}
    assert study.optuna_keys() == Counter(key for key, _ in rows)
    assert study.curves() == undisturbed.curves()
    assert study.comparison() == undisturbed.comparison()


@pytest.mark.ray
def test_launch_through_ray_trains_all_and_then_nothing(undisturbed: Study) -> None:
    assert undisturbed.finished() == TRIALS
    check_whole(undisturbed, undisturbed)
    started = time.monotonic()
    assert f"nothing to train: all {TRIALS} trials are in the ledger" in undisturbed.launch()
    assert time.monotonic() - started < 60
    assert not list((undisturbed.folder / ".lawn-tune").rglob("*.safetensors")), "checkpoints of finished packs go"


def test_the_inline_executor_gives_the_same_bits_as_ray(undisturbed: Study, tmp_path: Path) -> None:
    study = Study(tmp_path / "inline", "inline")
    study.launch()
    check_whole(study, undisturbed)


def training_workers(driver: int) -> list[int]:
    """The processes below a driver in which Ray runs our training, by what the system says of every process."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    below = {driver}
    while grown := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= grown
    names = {}
    for pid in below:
        with contextlib.suppress(OSError):
            names[pid] = Path(f"/proc/{pid}/cmdline").read_text()
    return [pid for pid, name in names.items() if name.startswith("ray::ImplicitFunc")]


def wait_for(process: subprocess.Popen[str], ready: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT
    while not ready():
        assert process.poll() is None, "the launch ended before it could be disturbed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGKILL)
    return process.communicate(timeout=30)[1]


@pytest.mark.ray
def test_drivers_and_a_worker_killed_under_ray_change_no_bit(undisturbed: Study, tmp_path: Path) -> None:
    """A driver in its first packs; a worker of the next one, and that driver near the confirmation."""
    study = Study(tmp_path / "killed", "ray")
    first = study.start(*LAUNCH)
    wait_for(first, study.epochs)
    kill(first)
    second, before = study.start(*LAUNCH), study.epochs()
    wait_for(second, lambda: study.epochs() > before and training_workers(second.pid))
    os.kill(training_workers(second.pid)[0], signal.SIGKILL)
    wait_for(second, lambda: study.finished() >= TRIALS // 2)
    assert "the worker process ended — trying again" in kill(second)
    assert study.finished() < TRIALS
    study.launch()
    check_whole(study, undisturbed)


def test_the_report_of_a_real_study_is_one_file(undisturbed: Study) -> None:
    code, _, err = undisturbed.run("report", "tiny", "--output", "report.html")
    assert code == 0, err
    text = (undisturbed.folder / "report.html").read_text()
    assert len(text) < 6_000_000
    assert "Adam-LAWN" in text
