"""A ledger behind a real pgbouncer that pools transactions: no transaction may count on the connection of another."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from benchmarks import big_ledger
from lawn_tune.cli.doctor.database import ledger as doctor_of
from lawn_tune.ledger import open_ledger
from lawn_tune.ledger.copying import copy_ledger
from lawn_tune.settings import resolve
from tests.helpers.bouncer import PGBOUNCER, bouncer
from tests.helpers.drivers import Results, Study, assert_same, assert_trained_once

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed: apt-get install pgbouncer")

StudyAt = Callable[[str], Study]


@pytest.fixture
def pooled_url(postgres_url: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="lawn-tune-bouncer-") as folder:
        Path(folder).chmod(0o755)
        with bouncer(postgres_url, Path(folder)) as url:
            yield url


def test_two_launches_share_a_pool_of_three_connections(
    pooled_url: str, postgres_url: str, study_at: StudyAt, undisturbed: Results
) -> None:
    study = study_at(pooled_url)
    drivers = [study.start() for _ in range(2)]
    assert [driver.end() for driver in drivers] == [0, 0], [driver.errors for driver in drivers]
    assert_same(study, undisturbed)
    assert_trained_once(study)
    assert all("waiting for it" not in driver.errors for driver in drivers), "no connection failed on the way"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert server.execute(held).fetchone() == (0,), "a lock would stay with the pool forever"


def test_a_copy_and_the_doctor_work_through_a_pool(pooled_url: str, tmp_path: Path) -> None:
    source = f"sqlite:///{tmp_path}/source.db"
    big_ledger.write(source, trials=12, epochs=2)
    there = copy_ledger(source, pooled_url, lambda *progress: None)
    back = copy_ledger(pooled_url, f"sqlite:///{tmp_path}/back.db", lambda *progress: None)
    assert there.digest == back.digest
    assert {check.state for check in doctor_of(resolve({"storage": pooled_url}, environ={}))} == {"ok"}


def test_two_programs_take_turns_on_a_connection_and_leave_nothing_on_it(pooled_url: str) -> None:
    with open_ledger(pooled_url) as one, open_ledger(pooled_url) as other:
        for _ in range(10):
            assert one.leases() == other.leases() == {}
    with psycopg.connect(pooled_url, autocommit=True, prepare_threshold=None) as client:
        for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
            assert client.execute(f"SHOW {name}").fetchone() == ("0",)
        assert client.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
