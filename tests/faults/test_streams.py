"""A display that cannot be written: training goes on, and the exit code tells what became of it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import sufferings
from tests.helpers.drivers import Results, Study, assert_same, assert_trained_once
from tests.helpers.tiny import ENDLESS

StudyAt = Callable[[str], Study]


@pytest.mark.parametrize(
    "change", [sufferings.full_display, sufferings.unread_display, sufferings.closed_streams], ids=lambda c: c.__name__
)
def test_training_goes_on(change: Callable[[], None], sqlite_url: str, study_at: StudyAt, undisturbed: Results) -> None:
    study = study_at(sqlite_url)
    assert study.start(change=change).end() == 0
    assert_same(study, undisturbed)
    assert_trained_once(study)


def test_a_pipe_that_ends_with_the_launch_costs_no_checkpoint(sqlite_url: str, tmp_path: Path) -> None:
    """As `2>&1 | tee log` and Ctrl-C, which ends `tee` first."""
    study = Study(tmp_path / "study", sqlite_url, ENDLESS)
    driver = study.start(change=sufferings.unread_display)
    try:
        study.wait_for(lambda: study.epochs() > 0)
        driver.signal(signal.SIGINT)
        assert driver.end() == 128 + signal.SIGINT
    finally:
        study.stop_all()
    assert list(study.folder.rglob("*.safetensors"))
    assert not study.leases()
