"""Launches on a device: packs that do not fit are halved, and jobs share a GPU, with the results of one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from lawn_tune.ledger import open_ledger
from tests.helpers.drivers import Results, Study, assert_same, assert_trained_once
from tests.helpers.sufferings import small_memory

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def on(device: torch.device) -> tuple[str, str]:
    return "--gpus", "1" if device.type == "cuda" else "0"


@pytest.fixture(scope="module")
def undisturbed(device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What the tiny study comes to, one pack of two at a time."""
    folder = tmp_path_factory.mktemp("undisturbed")
    study = Study(folder, f"sqlite:///{folder}/ledger.db")
    study.launch(*on(device))
    return study.results()


@pytest.fixture
def study(tmp_path: Path, sqlite_url: str) -> Iterator[Study]:
    made = Study(tmp_path / "study", sqlite_url)
    yield made
    made.stop_all()


def test_a_pack_that_does_not_fit_is_halved_with_equal_results(
    study: Study, device: torch.device, undisturbed: Results
) -> None:
    driver = study.launch("--pack-size", "4", *on(device), change=partial(small_memory, device.type))
    assert len(re.findall(rf", 4 trials: {device.type}\S* memory: ", driver.errors)) == 4, driver.errors
    found = assert_same(study, undisturbed)
    assert_trained_once(study)
    assert found.packs["split"] == 4


@pytest.mark.ray
def test_two_jobs_at_once_share_a_gpu_with_the_results_of_one_after_the_other(
    study: Study, device: torch.device, undisturbed: Results
) -> None:
    """Ray gives each half of it; without a GPU each has a core."""
    driver = study.start("--workers", "2", *on(device), executor="ray")
    assert driver.end(500) == 0, driver.errors
    with open_ledger(study.url, create=False) as ledger:
        rows = ledger.trials("tiny")
    assert {row.provenance["device"].partition(":")[0] for row in rows} == {device.type}
    assert len({row.provenance["optimizer kernels"] for row in rows}) == 1
    assert_same(study, undisturbed)
    if device.type == "cuda":
        times = [(row.provenance["started"], row.provenance["ended"]) for row in rows]
        assert any(one[0] < other[0] < one[1] for one in times for other in times), "at the same time"
