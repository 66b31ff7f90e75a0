"""What means that memory ran out, and when it is free again; `tests/gpu/test_launches.py` has what follows from it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lawn_tune.errors import ExecutionError
from lawn_tune.executors.worker import work
from tests.helpers import tasks
from tests.helpers.jobs import a_job, settings
from trainables.out_of_memory import memory_ended
from trainables.training.loop import Training
from trainables.training.pack import Pack
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
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
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


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[weakref.ref[Pack]]]:
    """All packs that are made in the test, without a collection of garbage that nobody asked for."""
    made, found = Training._build_pack, list[weakref.ref[Pack]]()

    def noted(training: Training) -> Pack:
        pack = made(training)
        found.append(weakref.ref(pack))
        return pack

    monkeypatch.setattr(Training, "_build_pack", noted)
    gc.disable()
    yield found
    gc.enable()


def test_a_pack_that_has_ended_holds_no_memory(packs: list[weakref.ref[Pack]]) -> None:
    tasks.run(tasks.pack(tasks.task("adam-lawn"), tasks.eight_points("adam-lawn")[:3]))
    assert [pack() for pack in packs] == [None]


ERRORS = {
    "memory": torch.OutOfMemoryError("CUDA out of memory"),
    "error": RuntimeError("GET was unable to find an engine to execute this computation"),
    None: None,
}


@pytest.mark.parametrize("reason", ERRORS)
def test_a_job_gives_its_memory_back_before_its_end_is_reported(
    reason: str | None, packs: list[weakref.ref[Pack]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the device, as drivers, libraries and other jobs get none of what torch keeps."""
    error, train, events = ERRORS[reason], Training.steps, list[object]()

    def steps(training: Training) -> Iterator[None]:
        yield from train(training)
        if error:
            raise type(error)(*error.args)

    monkeypatch.setattr(Training, "steps", steps)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: events.extend(pack() for pack in packs))
    work(a_job(), settings(str(tmp_path)), lambda message: events.append(message.get("reason", message["kind"])))
    assert events[-2:] == [None, reason or "finished"]
    assert events.count(None) == 1


def test_a_process_that_lost_its_gpu_trains_no_other_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA repeats such an error at every call: Ray replaces a process that raises, and without Ray the launch ends."""

    def lost(*given: object) -> Iterator[None]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    events: list[object] = []
    monkeypatch.setattr(Training, "steps", lost)
    monkeypatch.setattr(torch.cuda, "empty_cache", lost)
    with pytest.raises(ExecutionError, match="cannot use its GPU any more: CUDA error: an illegal"):
        work(a_job(), settings(str(tmp_path)), lambda message: events.append(message.get("reason")))
    assert events[-1] == "error"
