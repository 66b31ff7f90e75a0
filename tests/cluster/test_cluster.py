"""The commands of docker-compose.yml as real processes over PostgreSQL: work on two machines, one of which dies."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from sqlalchemy import create_engine, text

from lawn_tune.ledger import open_ledger
from lawn_tune.results import TrialRow
from tests.helpers.cluster_space import LAUNCH, SPACE, TRIALS
from tests.helpers.machines import Cluster, end

LIMIT = 100


class Study:
    """A folder with a space in it, and a ledger."""

    def __init__(self, folder: Path, storage: str, environment: dict[str, str]) -> None:
        self.folder, self.storage = folder, storage
        self.environment = environment | {"LAWN_TUNE_STORAGE": storage, "LAWN_TUNE_CHECKPOINT_SECONDS": "0.2"}
        folder.mkdir()
        (folder / "tiny.toml").write_text(SPACE)

    def start(self, *command: str) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, start_new_session=True, **pipes)

    def trials(self) -> tuple[TrialRow, ...]:
        ledger = open_ledger(self.storage)
        try:
            return ledger.trials("tiny")
        finally:
            ledger.close()

    def curves(self) -> dict[str, bytes]:
        engine = create_engine(self.storage.replace("postgresql://", "postgresql+psycopg://"))
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT key, data FROM lawn_curves")).all()
        engine.dispose()
        return {key: bytes(data) for key, data in rows}


def node(row: TrialRow) -> str:
    return str(row.provenance.get("node", "")).partition(" ")[0]


def check_dashboard(study: Study, cluster: Cluster) -> None:
    """The dashboard's own command serves what was trained to whoever has the token in its file."""
    command = cluster.command("dashboard", "--host=0.0.0.0", "--host=127.0.0.1")
    process = study.start(*command, "--port=0")
    try:
        assert process.stdout is not None
        address = re.search(r"http://\S+", "".join(process.stdout.readline() for _ in range(2)))
        assert address is not None, process.communicate()[1]
        with pytest.raises(HTTPError, match="401"):
            urlopen(address[0], timeout=30)
        token = (cluster.secrets / "dashboard_token").read_text()
        with urlopen(Request(address[0], headers={"Authorization": f"Bearer {token}"}), timeout=30) as answer:
            assert answer.status == 200
    finally:
        process.terminate()
        process.communicate(timeout=30)


def halfway(study: Study) -> list[str]:
    """The keys of trials in the middle of their training."""
    return [row.key for row in study.trials() if row.outcome == "running" and 5 <= row.epochs <= 50]


def wait_for(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not ready():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.ray
def test_a_pack_whose_machine_dies_goes_on_elsewhere_with_the_same_bits(tmp_path: Path, postgres_url: str) -> None:
    plain = os.environ | {"LAWN_TUNE_EXECUTOR": "inline", "LAWN_TUNE_WORKERS": str(os.cpu_count())}
    undisturbed = Study(tmp_path / "undisturbed", f"sqlite:///{tmp_path}/undisturbed.db", plain)
    alone = undisturbed.start(sys.executable, "-m", "lawn_tune.cli.main", *LAUNCH)
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster())
        cluster.join("first", "--num-gpus=1")
        cluster.join("second", "--num-gpus=1")
        assert alone.wait(LIMIT) == 0, alone.communicate()[1]
        alone.communicate()
        study = Study(tmp_path / "study", postgres_url, cluster.environment)
        lawn_tune = cluster.command("lawn-tune")[:-1]
        process = study.start(*lawn_tune, *LAUNCH, "--ray-address", cluster.address, "--retries", "0")
        stack.callback(end, process.pid)
        wait_for(process, lambda: {node(row) for row in study.trials()} >= {"first", "second"})
        saved = study.folder / ".lawn-tune" / "checkpoints"
        wait_for(process, lambda: len(list(saved.glob("*.safetensors"))) == len(halfway(study)) == 2)
        before = halfway(study)
        cluster.kill("second")
        _, said = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, said
        assert "the machine that trained it was lost — trying again" in said
        check_dashboard(study, cluster)
        assert "not the folder that the launch sees" not in said, "the machines share this folder"
    rows = {row.key: row for row in study.trials()}
    assert len(rows) == TRIALS
    assert {row.outcome for row in rows.values()} == {"complete"}
    assert {node(row) for row in rows.values()} == {"first", "second"}
    resumed = {row.key: row.provenance.get("resumed from epoch", 0) for row in rows.values()}
    again = {key for key, epoch in resumed.items() if epoch}
    assert len(again) == 1, "the other machine's pack went on undisturbed"
    assert again <= set(before)
    assert study.curves() == undisturbed.curves()
    assert not list(saved.iterdir()), "checkpoints of finished packs go"
    assert "token" not in json.dumps([dict(row.provenance) for row in rows.values()])
