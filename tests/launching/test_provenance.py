"""What is stored of where a trial ran."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from lawn_tune.executors.provenance import provenance
from lawn_tune.launching.commit import commit
from lawn_tune.launching.launch import Launch
from lawn_tune.ledger import Owner, open_ledger
from tests.helpers.fakes import FakeExecutor, Recorder
from tests.helpers.tiny import SPACE, tiny_cells

SETTINGS = {
    "torch's defaults": ("", "matrix products off, convolutions on"),
    "products on": ("torch.backends.cuda.matmul.fp32_precision = 'tf32'", "matrix products on, convolutions on"),
    "convolutions off": ("torch.backends.cudnn.conv.fp32_precision = 'ieee'", "matrix products off, convolutions off"),
    "products on, older": ("torch.set_float32_matmul_precision('high')", "matrix products on, convolutions on"),
    "convolutions off, older": ("torch.backends.cudnn.allow_tf32 = False", "matrix products off, convolutions off"),
}


FORKS = """
import os, sys, torch
from lawn_tune.executors.provenance import tf32
for setting in sys.argv[1:]:
    if not os.fork():
        exec(setting)
        print(tf32(), flush=True)
        os._exit(0)
    os.wait()
"""


def test_tf32_is_shown_as_torch_is_set() -> None:
    """In a process for each, as torch refuses to be set back from one kind of switch to the other."""
    command = [sys.executable, "-W", "error", "-c", FORKS, *(setting for setting, _ in SETTINGS.values())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == [shown for _, shown in SETTINGS.values()], done.stderr


def test_a_checkout_has_a_commit_and_an_installation_has_none(tmp_path: Path) -> None:
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b")
    assert commit(tmp_path) == ""
    (tmp_path / "installed").mkdir()
    (tmp_path / "code.py").touch()
    for words in (("init", "-q"), ("add", "code.py"), ("commit", "-qm", "first"), ("tag", "v1")):
        subprocess.run((*git, *words), check=True)
    head = subprocess.run((*git, "rev-parse", "HEAD"), capture_output=True, text=True, check=True).stdout
    commit.cache_clear()
    assert commit(tmp_path) == head[:12]
    assert commit(tmp_path / "installed") == ""
    (tmp_path / "code.py").write_text("changed")
    commit.cache_clear()
    assert commit(tmp_path) == f"{head[:12]}-dirty"


@pytest.mark.parametrize("known", ["0123456789ab", ""])
def test_the_commit_is_kept_with_trials_where_it_is_known(
    known: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lawn_tune.launching.launch.commit", lambda: known)
    cells = tiny_cells(tmp_path, SPACE)
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        ledger.register(cells)
        agenda = Launch(cells, ledger, Owner.current(), Recorder())
        FakeExecutor().run(agenda)
        agenda.close()
        found = {row.provenance.get("commit", "") for cell in cells for row in ledger.trials(cell.name.space)}
    assert found == {known}


def test_tf32_is_kept_with_trials_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100")
    monkeypatch.setattr("lawn_tune.executors.provenance.tf32", lambda: "as set")
    monkeypatch.setattr("lawn_tune.executors.provenance.has_kernels", lambda device: False)
    found = provenance(torch.device("cuda"), datetime.now(UTC))
    assert (found["device"], found["tf32"]) == ("cuda: H100", "as set")
    assert "tf32" not in provenance(torch.device("cpu"), datetime.now(UTC))
