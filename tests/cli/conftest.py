"""A folder without settings, and a ledger in memory that commands read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lawn_tune.cli.source
import lawn_tune.cli.status
from lawn_tune.settings import SETTINGS
from tests.helpers.memory_ledger import QUICKSTART, MemoryLedger


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory, in an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> MemoryLedger:
    """A ledger in memory that `status` and `export` read."""
    memory = MemoryLedger(QUICKSTART)

    @contextmanager
    def reading(storage: str | None) -> Iterator[MemoryLedger]:
        yield memory
        memory.close()

    monkeypatch.setattr(lawn_tune.cli.status, "reading", reading)
    monkeypatch.setattr(lawn_tune.cli.source, "reading", reading)
    return memory
