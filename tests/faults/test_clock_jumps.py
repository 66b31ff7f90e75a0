"""Leases are measured by the database's clock; when that jumps, work may change hands, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from lawn_tune.ledger import Owner, leases, open_ledger
from lawn_tune.planning.plan import plan
from search_spaces.loader import load_space
from tests.helpers.drivers import TRIALS, Results, Study, assert_same
from tests.helpers.sufferings import wrong_clock

StudyAt = Callable[[str], Study]
PACK = 2
DRIVERS = 2


def test_a_clock_that_jumps_by_days_loses_nothing_and_nobody_waits_for_ever(
    postgres_url: str, study_at: StudyAt, undisturbed: Results
) -> None:
    study = study_at(postgres_url)
    drivers = [study.start(lease=2.0, change=partial(wrong_clock, 1.0)) for _ in range(DRIVERS)]
    assert [driver.end() for driver in drivers] == [0] * DRIVERS, [driver.errors for driver in drivers]
    found = assert_same(study, undisturbed)
    assert set(found.attempts.values()) <= {1, 2}
    assert len(study.trainings()) == TRIALS


def test_a_lease_of_before_the_clock_was_set_back_ends(ledger_url: str, study_at: StudyAt) -> None:
    study = study_at(ledger_url)
    cells = plan(load_space(study.folder / "tiny.toml"))
    holder, other = replace(Owner.current(), host="elsewhere"), Owner.current()
    with open_ledger(study.url) as ledger:
        ledger.register(cells)
        cell = cells[0].name
        assert ledger.lease(cell, holder, leases.LONGEST * 60.0 + 3600)
        assert ledger.lease(cell, other, 60.0)
        assert ledger.lease(cell, other, 60.0)
        assert not ledger.lease(cell, holder, 60.0)
