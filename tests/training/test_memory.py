"""The most memory that a process had is its own, not that of the process that started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.helpers.tasks import pack, point, task
from trainables.training.peak_memory import peak_memory, reset_peak_memory
from trainables.training.process_memory import keep_freed_memory, process_peak, reset_process_peak
from trainables.training.trial import PackRun

MEGABYTES = 200


def test_the_peak_grows_with_what_is_used_and_stays() -> None:
    before = process_peak()
    block = torch.ones(before // 4 + MEGABYTES * 2**18)
    high = process_peak()
    del block
    assert high >= before + MEGABYTES * 2**19
    assert process_peak() >= high - 2**22  # Linux counts in batches of pages


def test_a_small_process_has_a_small_peak_whoever_starts_it() -> None:
    block = torch.ones(2 * MEGABYTES * 2**18)
    code = "from trainables.training.process_memory import process_peak; print(process_peak())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert int(found.stdout) < MEGABYTES * 2**20 < process_peak()
    assert len(block)


TWO_PACKS = f"""
import torch
from tests.helpers.tasks import pack, point, run, task
from trainables.training.process_memory import process_peak
config = pack(task("sgd", epochs=1), [point("sgd")])
run(config)  # what the first pack brings stays: kernels, threads, data
block = torch.ones(4 * {MEGABYTES} * 2**18)
del block
high = process_peak()
_, ends = run(config)
print(high, int(ends[0].summary["peak_memory_bytes"]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lowers a process's peak")
def test_a_packs_peak_is_not_that_of_the_pack_before() -> None:
    """In a process of its own, as this one may have made glibc keep freed memory."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", TWO_PACKS], capture_output=True, text=True, env=environment, timeout=120, check=True
    )
    high, peak = map(int, done.stdout.split())
    assert peak < high - 2 * MEGABYTES * 2**20


def test_a_peak_that_cannot_be_lowered_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    before = process_peak()
    assert not reset_process_peak()
    assert process_peak() >= before - 2**22


def test_a_packs_peak_on_a_gpu_starts_afresh_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "init", lambda: done.append("init"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: done.append(device))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2**20)

    def build(*arguments: object) -> None:
        raise LookupError("built")

    monkeypatch.setattr("trainables.training.trial.resident_workload", build)
    with pytest.raises(LookupError, match="built"):
        next(iter(PackRun(pack(task(), [point("adam-lawn")]), data_dir=Path("nowhere"), device=device)))
    assert done == ["init", device]
    assert peak_memory(device) == 2**20


FREED = f"""
import ctypes, sys
from pathlib import Path
from trainables.training.process_memory import keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * {os.sysconf("SC_PAGESIZE")}

kept = keep_freed_memory() if sys.argv[1] == "keep" else None
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
size = {MEGABYTES} * 2**20
before = resident()
block = libc.malloc(size)
ctypes.memset(block, 1, size)
libc.free(block)
print(kept, resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_freed_memory_is_kept_where_it_was_asked_for() -> None:
    found = {}
    for mode in ("keep", "give back"):
        command = [sys.executable, "-c", FREED, mode]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        found[mode] = done.stdout.split()
    assert found["keep"][0] == "True"
    assert int(found["keep"][1]) > MEGABYTES * 2**19
    assert int(found["give back"][1]) < MEGABYTES * 2**18


@pytest.mark.parametrize("refused", [-1, -4, -8])
def test_a_c_library_that_takes_only_a_part_has_not_taken_it(refused: int, monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(mallopt=lambda name, value: int(name != refused))
    monkeypatch.setattr("trainables.training.process_memory.ctypes.CDLL", lambda name: library)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not keep_freed_memory()
    del library.mallopt
    assert not keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()


def test_a_packs_peak_on_a_cpu_starts_at_what_the_process_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr("trainables.training.peak_memory.reset_process_peak", lambda: done.append("reset"))
    reset_peak_memory(torch.device("cpu"))
    assert done == ["reset"]
