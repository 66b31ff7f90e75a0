"""Several launches of one space at once share its work, and none trains what another did."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.helpers.drivers import Results, Study, assert_same, assert_trained_once

StudyAt = Callable[[str], Study]


@pytest.mark.parametrize(("count", "database"), [(2, "sqlite"), (8, "sqlite"), (8, "postgresql")])
def test_simultaneous_launches_train_every_key_once(
    count: int, database: str, request: pytest.FixtureRequest, study_at: StudyAt, undisturbed: Results
) -> None:
    study = study_at(request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[database]))
    drivers = [study.start() for _ in range(count)]
    assert [driver.end() for driver in drivers] == [0] * count, [driver.errors for driver in drivers]
    found = assert_same(study, undisturbed)
    assert_trained_once(study)
    assert set(found.attempts.values()) == {1}
    if count == 2:
        assert all(study.trained_by(driver) for driver in drivers), "the work is shared"
