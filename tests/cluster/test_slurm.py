"""The scripts of docs/slurm.md, as they are printed there, under a real SLURM of two nodes.

Ray is a stand-in and the launch trains in its own process: tested is who gets which signal, and what comes back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lawn_tune.ledger import open_ledger
from lawn_tune.results import FINISHED
from tests.helpers import slurm
from tests.helpers.slurm import Slurm, wait_for
from tests.helpers.tiny import tiny_space

PAGE = (Path(__file__).parents[2] / "docs/slurm.md").read_text()
STUDY, WORKER = (re.sub(r"#SBATCH --gpus.*\n", "", text) for text in re.findall(r"```bash\n(.+?)```", PAGE, re.DOTALL))
SPACE = tiny_space("one cell", width=2, confirm=[1], batch_size=64, epochs=40, peak_lr=[0.01], weight_decay=[0.1])

pytestmark = pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing() or "-")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    started = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture
def folder(tmp_path: Path, cluster: Slurm, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a space; checkpoints are written after every epoch."""
    (tmp_path / "tiny.toml").write_text(SPACE)
    (cluster.folder / "ray.log").unlink(missing_ok=True)
    monkeypatch.setenv("LAWN_TUNE_CHECKPOINT_SECONDS", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return tmp_path


def training(folder: Path) -> bool:
    """Whether a pack is in training."""
    return bool(list(folder.glob(".lawn-tune/checkpoints/*.safetensors")))


def finished(folder: Path) -> dict[str, dict[str, object]]:
    """The provenance of what is trained, by phase."""
    with open_ledger(f"sqlite:///{folder}/lawn-tune.db", create=False) as ledger:
        rows = [row for row in ledger.trials("tiny") if row.outcome in FINISHED]
    return {row.phase: dict(row.provenance) for row in rows}


def ended(cluster: Slurm, job: str, state: str) -> bool:
    """Whether a job is in its last state, which must be the given one."""
    found = cluster.state(job)["JobState"]
    assert found in (state, "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED")
    return found == state


def test_a_job_near_its_time_limit_is_queued_again_and_continues_from_its_checkpoint(
    cluster: Slurm, folder: Path
) -> None:
    job = cluster.submit(folder, STUDY, "tiny.toml", options=("--nodes=2",))
    wait_for(lambda: training(folder))
    cluster.ask("scancel", "--batch", "--signal=USR1", job)  # what --signal sends before the time limit
    wait_for(lambda: cluster.state(job)["Restarts"] == "1")
    wait_for(lambda: ended(cluster, job, "COMPLETED"), 150)
    found = finished(folder)
    assert found.keys() == {"search", "confirm"}
    assert found["search"]["resumed from epoch"]
    calls = cluster.rays()
    heads, workers = (sum(call.startswith(f"start --{kind}") for call in calls) for kind in ("head", "address"))
    assert (heads, workers, calls.count("ended")) == (2, 2, 2), "Ray on both machines, twice; srun kills its one"
    assert not cluster.ray_processes()
    assert not (folder / "lawn-tune.address").exists()


def test_a_cancelled_study_stops_cleanly_and_is_not_queued_again(cluster: Slurm, folder: Path) -> None:
    job = cluster.submit(folder, STUDY, "tiny.toml")
    wait_for(lambda: training(folder))
    cluster.ask("scancel", job)
    wait_for(lambda: ended(cluster, job, "CANCELLED"))
    assert cluster.state(job)["Restarts"] == "0"
    assert training(folder), "its checkpoint is kept"
    assert cluster.rays()[-1] == "ended"
    with open_ledger(f"sqlite:///{folder}/lawn-tune.db", create=False) as ledger:
        assert not ledger.leases()


def test_the_exit_code_of_a_launch_is_that_of_its_job(cluster: Slurm, folder: Path) -> None:
    job = cluster.submit(folder, STUDY, "nowhere.toml")
    wait_for(lambda: ended(cluster, job, "FAILED"))
    assert cluster.state(job)["ExitCode"] == "2:0"
    assert cluster.state(job)["Restarts"] == "0"


def test_workers_join_leave_when_cancelled_and_end_with_the_study(cluster: Slurm, folder: Path) -> None:
    first, second = (cluster.submit(folder, WORKER) for _ in range(2))
    wait_for(lambda: all(cluster.state(job)["JobState"] == "RUNNING" for job in (first, second)))
    (folder / "lawn-tune.address").write_text("head:1234\n")
    join = "start --address=head:1234 --num-cpus=1 --num-gpus=0 --block"
    wait_for(lambda: cluster.rays().count(join) == 2)
    cluster.ask("scancel", first)
    wait_for(lambda: ended(cluster, first, "CANCELLED"))
    assert cluster.rays().count("ended") == 1
    (folder / "lawn-tune.address").unlink()
    assert cluster.state(second)["JobState"] == "RUNNING"
    (pid,) = cluster.ray_processes()
    cluster.ask("kill", pid)  # the head is gone
    wait_for(lambda: ended(cluster, second, "COMPLETED"))
