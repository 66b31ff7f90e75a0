"""Studies that suffer, and one that does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.drivers import Results, Study


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What the tiny study comes to when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    study = Study(folder, f"sqlite:///{folder}/ledger.db")
    study.launch()
    return study.results()


@pytest.fixture
def study_at(tmp_path: Path) -> Iterator[Callable[[str], Study]]:
    """Makes a study with its ledger at a URL; none of its processes survives the test."""
    made: list[Study] = []

    def make(url: str) -> Study:
        made.append(Study(tmp_path / f"study{len(made)}", url))
        return made[-1]

    yield make
    for study in made:
        study.stop_all()
