"""What means that memory ran out; `tests/gpu/test_launches.py` has what follows from it."""

from __future__ import annotations

import pytest
import torch

from trainables.training.peak_memory import memory_ended


def test_what_torch_raises_without_memory_is_known_as_such() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**46)
    assert memory_ended(caught.value)
    assert memory_ended(MemoryError())
    assert not memory_ended(RuntimeError("shapes cannot be multiplied"))
    assert not memory_ended(FileNotFoundError(2, "No such file"))
