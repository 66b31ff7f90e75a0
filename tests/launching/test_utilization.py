"""How busy a job kept its device: by the clocks of the process, or by what the GPU's driver reports."""

from __future__ import annotations

import os
import time

import pytest
import torch

from lawn_tune.executors.utilization import Utilization

Patch = pytest.MonkeyPatch


@pytest.mark.parametrize(("cpu", "share"), [(0.0, 0.0), (5.0, 0.25), (20.0, 1.0), (30.0, 1.0)])
def test_a_cpu_is_busy_by_the_time_of_process_and_children_over_that_of_its_threads(
    cpu: float, share: float, monkeypatch: Patch
) -> None:
    now = {"wall": 100.0, "cpu": 7.0}
    monkeypatch.setattr(time, "monotonic", lambda: now["wall"])
    monkeypatch.setattr(os, "times", lambda: (now["cpu"] / 2, 0.0, now["cpu"] / 4, now["cpu"] / 4, now["wall"]))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    found = Utilization(torch.device("cpu"))
    assert found.share() is None, "no time has passed"
    now["wall"] += 10.0
    now["cpu"] += cpu
    assert found.share() == pytest.approx(share)


class NVMLError(Exception):
    """As of the package that asks the driver, whose errors are of no other class."""


@pytest.mark.parametrize("error", [ModuleNotFoundError("pynvml"), NVMLError("Not Supported"), IndexError()])
def test_a_gpu_is_asked_until_its_driver_cannot_be(error: Exception, monkeypatch: Patch) -> None:
    answers = iter([50, 100, None, 0])

    def ask(device: torch.device) -> int:
        answer = next(answers)
        if answer is None:
            raise error
        return answer

    monkeypatch.setattr(torch.cuda, "utilization", ask)
    found = Utilization(torch.device("cuda"))
    assert found.share() is None
    for _ in range(4):
        found.look()
    assert found.share() == pytest.approx(0.75)
    assert next(answers) == 0, "not asked again"
