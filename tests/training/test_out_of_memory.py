"""What means that memory ran out; `tests/gpu/test_launches.py` has what follows from it."""

from __future__ import annotations

import pytest
import torch

from trainables.training.peak_memory import memory_ended
from trainables.workloads.own_errors import WorkloadError, users


def test_what_torch_raises_without_memory_is_known_as_such() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**46)
    assert memory_ended(caught.value)
    assert memory_ended(MemoryError())
    assert not memory_ended(RuntimeError("shapes cannot be multiplied"))
    assert not memory_ended(FileNotFoundError(2, "No such file"))


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA driver error: out of memory",
        "Triton Error [CUDA]: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_a_gpu_without_memory_is_known_by_whatever_finds_none(text: str) -> None:
    assert memory_ended(RuntimeError(text))
    assert not memory_ended(ValueError(text))


def test_memory_that_ends_in_a_users_function_is_no_fault_of_it() -> None:
    with pytest.raises(RuntimeError) as caught, users("loss"):
        torch.empty(2**46)
    assert memory_ended(caught.value)
    with pytest.raises(WorkloadError), users("loss"):
        raise RuntimeError("shapes cannot be multiplied")
