"""A pack that does not fit the memory is halved, by torch's own error or by Ray's word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.helpers.drivers import Results, Study, assert_same, assert_trained_once
from trainables.training.peak_memory import memory_ended

StudyAt = Callable[[str], Study]


def small_memory() -> None:
    """A pack of more than two trials asks for more than the machine has; torch's allocator answers, really."""
    from trainables.training.loop import Training

    run = Training.steps

    def greedy(training: Training) -> Any:
        if len(training.config.members) > 2:
            torch.empty(2**46)
        return run(training)

    Training.steps = greedy  # type: ignore[method-assign,assignment]


def test_a_pack_that_does_not_fit_is_halved_with_equal_results(
    sqlite_url: str, study_at: StudyAt, undisturbed: Results
) -> None:
    study = study_at(sqlite_url)
    driver = study.launch("--pack-size", "4", change=small_memory)
    assert driver.errors.count("can't allocate memory") == 4, "once in each cell"
    found = assert_same(study, undisturbed)
    assert_trained_once(study)
    assert found.packs["split"] == 4


def test_what_torch_raises_without_memory_is_known_as_such() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**46)
    assert memory_ended(caught.value)
    assert memory_ended(MemoryError())
    assert not memory_ended(RuntimeError("shapes cannot be multiplied"))
    assert not memory_ended(FileNotFoundError(2, "No such file"))
