"""What is stored of where a trial ran."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest
import torch

from lawn_tune.executors.worker import provenance

SETTINGS = {
    "torch's defaults": ("", "matrix products off, convolutions on"),
    "products on": ("torch.backends.cuda.matmul.fp32_precision = 'tf32'", "matrix products on, convolutions on"),
    "convolutions off": ("torch.backends.cudnn.conv.fp32_precision = 'ieee'", "matrix products off, convolutions off"),
    "products on, older": ("torch.set_float32_matmul_precision('high')", "matrix products on, convolutions on"),
    "convolutions off, older": ("torch.backends.cudnn.allow_tf32 = False", "matrix products off, convolutions off"),
}


FORKS = """
import os, sys, torch
from lawn_tune.executors.worker import tf32
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


def test_tf32_is_kept_with_trials_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100")
    monkeypatch.setattr("lawn_tune.executors.worker.tf32", lambda: "as set")
    monkeypatch.setattr("lawn_tune.executors.worker.has_kernels", lambda device: False)
    found = provenance(torch.device("cuda"), datetime.now(UTC))
    assert (found["device"], found["tf32"]) == ("cuda: H100", "as set")
    assert "tf32" not in provenance(torch.device("cpu"), datetime.now(UTC))
