"""Whatever ends a launch from outside, the same command continues it."""

from __future__ import annotations

import signal
from collections.abc import Callable

from tests.helpers.drivers import Driver, Results, Study, assert_same, assert_trained_once
from tests.helpers.sufferings import slow, slow_under_nohup

StudyAt = Callable[[str], Study]


def signalled(study: Study, *numbers: int) -> Driver:
    """A launch that gets these signals at one moment, while it trains."""
    before = study.epochs()
    driver = study.start(change=slow)
    study.wait_for(lambda: study.epochs() > before + 10)
    driver.signal(signal.SIGSTOP)
    for number in numbers:
        driver.signal(number)
    driver.signal(signal.SIGCONT)
    return driver


def test_signals_stop_a_launch_and_the_same_command_continues(
    sqlite_url: str, study_at: StudyAt, undisturbed: Results
) -> None:
    study = study_at(sqlite_url)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        driver = signalled(study, number)
        assert driver.end() == 128 + number, driver.errors
        assert "Traceback" not in driver.errors
        assert ("the same command continues" in driver.errors) is (number != signal.SIGHUP), "nobody reads it"
        assert not study.leases(), "what it worked on is free at once"
    driver = signalled(study, signal.SIGINT, signal.SIGTERM)
    assert driver.end() in (-signal.SIGINT, -signal.SIGTERM), "the second one ends it at once"
    study.launch()
    assert_same(study, undisturbed)
    assert_trained_once(study, but=2)  # a pack that had ended and was not stored yet when the second signal came


def test_a_launch_outlives_its_terminal_under_nohup(sqlite_url: str, study_at: StudyAt, undisturbed: Results) -> None:
    study = study_at(sqlite_url)
    driver = study.start(change=slow_under_nohup)
    study.wait_for(lambda: study.epochs() > 0)
    driver.signal(signal.SIGHUP)
    assert driver.end() == 0, driver.errors
    assert_same(study, undisturbed)
