"""Every test here runs on the CPU with the other tests, and on a GPU by `make test-gpu`."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where the test trains."""
    return device_of(request.param)


@pytest.fixture(scope="session", params=["meta", pytest.param("cuda", marks=pytest.mark.gpu)])
def remote(request: pytest.FixtureRequest) -> torch.device:
    """A device whose values the host does not have; "meta" has none, so that asking for one is an error."""
    return device_of(request.param)


def device_of(kind: str) -> torch.device:
    """Returns a device, or skips."""
    if kind == "cuda" and not torch.cuda.is_available():
        pytest.skip(f"needs a CUDA device; torch {torch.__version__} sees none")
    return torch.device(kind)
