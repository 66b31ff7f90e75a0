"""`ray job submit` as docs/cluster.md has it: a head with its dashboard on loopback runs the launch as a job."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from lawn_tune.ledger import open_ledger
from lawn_tune.results import TrialRow
from tests.helpers.cluster_space import LAUNCH, SPACE, TRIALS
from tests.helpers.machines import Cluster, environment

JOBS = (
    "--include-dashboard=true",
    "--dashboard-host=127.0.0.1",
    "--dashboard-port=0",
    "--dashboard-agent-listen-port=0",
    "--num-cpus=2",
    "--memory=600000000",
)
"""What a head needs to take jobs, on ports that the system chooses; two cores, and less memory than a pack asks for."""

LIMIT = 100


def dashboard(cluster: Cluster) -> str:
    """The address that the head says it takes jobs at."""
    found = re.search(r"http://127\.0\.0\.1:\d+", (cluster.folder / "head.log").read_text())
    assert found is not None
    return found[0]


def submit(cluster: Cluster, folder: Path, storage: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs the documented command from a machine that only reaches the dashboard, and waits for the job's end."""
    launch = [sys.executable, "-m", "lawn_tune.cli.main", *LAUNCH, "--ray-address", "auto", "--storage", storage]
    command = ["ray", "job", "submit", "--address", dashboard(cluster), "--working-dir", str(folder), "--", *launch]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=LIMIT, check=False)


def trials(storage: str) -> tuple[TrialRow, ...]:
    ledger = open_ledger(storage)
    try:
        return ledger.trials("tiny")
    finally:
        ledger.close()


@pytest.mark.ray
def test_a_launch_that_is_submitted_as_a_job_fills_the_ledger_once(tmp_path: Path, sqlite_url: str) -> None:
    folder = tmp_path / "submitted"
    folder.mkdir()
    (folder / "tiny.toml").write_text(SPACE.replace("epochs = 80", "epochs = 20"))
    with Cluster(*JOBS) as cluster:
        strange = submit(cluster, folder, sqlite_url, environment("0" * 64))
        assert strange.returncode != 0, "a stranger's job"
        assert "Authentication" in strange.stderr
        assert not (tmp_path / "ledger.db").exists()
        first = submit(cluster, folder, sqlite_url, cluster.environment)
        assert first.returncode == 0, first.stdout + first.stderr
        rows = trials(sqlite_url)
        assert len({row.key for row in rows}) == len(rows) == TRIALS
        assert {row.outcome for row in rows} == {"complete"}
        spans = sorted((row.provenance["started"], row.provenance["ended"]) for row in rows)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans)), "memory for one pack at a time"
        again = submit(cluster, folder, sqlite_url, cluster.environment)
        assert again.returncode == 0, again.stdout + again.stderr
        assert f"nothing to train: all {TRIALS} trials are in the ledger" in again.stdout
        assert trials(sqlite_url) == rows
    assert not list(folder.glob("*.db")), "the job works in a copy of the folder"
    assert [file.name for file in folder.iterdir()] == ["tiny.toml"]
