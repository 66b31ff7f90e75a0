"""The most memory that a process had is its own, not that of the process that started it."""

from __future__ import annotations

import subprocess
import sys

import torch

from trainables.memory import process_peak

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
    code = "from trainables.memory import process_peak; print(process_peak())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert int(found.stdout) < MEGABYTES * 2**20 < process_peak()
    assert len(block)
