"""The benchmark of GPUs does what it measures; here on a CPU and at small sizes, so its numbers say nothing."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu, optimizer_step
from tests.helpers.graphs import StandIn, stand_in

__all__ = ["stand_in"]

SMALL = gpu.Sizes(users=9, items=8, factors=2, large=16, small=(4,), packs=(1, 2), images=2, width=1, copied=64)


def test_every_part_is_measured(monkeypatch: pytest.MonkeyPatch, stand_in: StandIn) -> None:
    monkeypatch.setattr(optimizer_step, "SHAPES", [(4, 3), (5,)])
    found = gpu.run(minutes=0, device="cpu", sizes=SMALL)
    assert found["optimizer_step"]["parameters"] == 17
    assert found["optimizer_step"]["ratio_to AdamW fused"]["AdamLawn constrained"]["n"] >= 5
    assert set(found["ncf_large_batch"]["examples_per_second"]) == {"float32", "tf32", "bfloat16"}
    assert found["packs"]["batch 4"]["speed_up_over K=1"]["K=2"]["median"] > 0
    assert found["vgg19"]["ratio_to plain loop"]["pack"]["median"] > 0
    assert set(found["graphs"]) == {f"{name} K={rows}" for name in ("adam-lawn", "adam-l2") for rows in (1, 2)}
    for case in found["graphs"].values():
        assert case["ratio_to launches"]["graphs"]["n"] >= 5
        assert case["replays"]["graphs"] >= 5
        assert case["replays"]["launches"] == 0
        assert case["same bits"]


def test_launches_are_calls_and_not_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [("cudaLaunchKernelExC", 3), ("cudaGraphLaunch", 2), ("void add_kernel()", 50), ("cuLaunchKernelEx", 1)]
    profile = nullcontext(SimpleNamespace(key_averages=lambda: [SimpleNamespace(key=k, count=n) for k, n in events]))
    monkeypatch.setattr(torch.profiler, "profile", lambda **options: profile)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    assert gpu._launches(lambda: None, torch.device("cuda")) == 6
    assert gpu._launches(lambda: None, torch.device("cpu")) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    command = [sys.executable, "-m", "benchmarks", "gpu"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "benchmark gpu needs a CUDA device" in result.stderr
