"""The benchmark of GPUs runs to its end on one; tests/benchmarks has its tests on the CPU."""

from __future__ import annotations

import pytest

from benchmarks import gpu
from tests.gpu.conftest import device_of


@pytest.mark.gpu
@pytest.mark.timeout(600)
def test_every_part_of_the_benchmark_is_measured() -> None:
    device_of("cuda")
    found = gpu.run(minutes=5, sizes=gpu.TRIAL)
    assert not [part for part, results in found.items() if "not measured" in results], found
    assert all(case["same bits"] and case["replays"]["graphs"] for case in found["graphs"].values())
