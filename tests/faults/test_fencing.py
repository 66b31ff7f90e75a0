"""A dead driver's cells are taken over; one that comes back to life cannot damage what another did meanwhile."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from tests.helpers.drivers import Results, Study, assert_same, assert_trained_once
from tests.helpers.sufferings import slow, slow_elsewhere

StudyAt = Callable[[str], Study]


def test_a_dead_driver_of_this_machine_is_replaced_at_once(
    sqlite_url: str, study_at: StudyAt, undisturbed: Results
) -> None:
    study = study_at(sqlite_url)
    dead = study.start(change=slow, lease=3600.0)
    study.wait_for(lambda: study.epochs() > 20)
    study.kill(dead)
    study.launch(lease=3600.0)
    assert_same(study, undisturbed)
    assert_trained_once(study)


def test_a_dead_driver_of_another_machine_is_replaced_when_its_lease_ends(
    sqlite_url: str, study_at: StudyAt, undisturbed: Results
) -> None:
    study = study_at(sqlite_url)
    dead = study.start(change=slow_elsewhere, lease=5.0)
    study.wait_for(lambda: study.epochs() > 0)
    study.kill(dead)
    killed = time.monotonic()
    study.launch(lease=5.0)
    assert time.monotonic() - killed > 5.0 * 3 / 4 - 1, "what was renewed at a quarter of the lease lasts three more"
    assert_same(study, undisturbed)
    assert_trained_once(study)


def test_a_driver_that_slept_through_its_lease_leaves_the_cell_to_who_took_it(
    ledger_url: str, study_at: StudyAt, undisturbed: Results
) -> None:
    study = study_at(ledger_url)
    sleeper = study.start(change=slow, lease=1.0)
    study.wait_for(lambda: study.epochs() > 0)
    sleeper.signal(signal.SIGSTOP)
    other = study.start(change=slow_elsewhere, lease=1.0)
    study.wait_for(lambda: len(study.trainings()) > 0 and study.trained_by(other) > 0)
    sleeper.signal(signal.SIGCONT)
    assert (other.end(), sleeper.end()) == (0, 0), (other.errors, sleeper.errors)
    assert "failed" not in sleeper.errors + other.errors
    assert_same(study, undisturbed)
    assert_trained_once(study, but=2)  # the pack that it slept in
    assert not study.leases()
