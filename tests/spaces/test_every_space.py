"""Every built-in space takes a few steps, on small files in the formats of the published data.

Spaces share cells but for their grids: each of these is trained by the first space that has it, and by every space at
least one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lawn_tune.cli.main import app
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import builtin_spaces, find_space
from tests.helpers.fabricated import published, write_data

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


def new_cells() -> Iterator[tuple[str, list[str]]]:
    """Every space with its cells that no earlier one has, else with its first cell."""
    seen: set[tuple[object, ...]] = set()
    for name in builtin_spaces():
        kinds = {
            f"{cell.name.optimizer}/bs{cell.name.batch_size}": (
                *(cell.task.dataset, cell.task.model.name, cell.task.loss),
                *(cell.name.optimizer, cell.name.batch_size, cell.task.at_once),
            )
            for cell in plan(find_space(name))
        }
        yield name, [cell for cell, kind in kinds.items() if kind not in seen] or [*kinds][:1]
        seen.update(kinds.values())


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "cells"), list(new_cells()), ids=builtin_spaces())
def test_a_smoke_run_passes(
    name: str, cells: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if find_space(name).model["name"] in ("vgg-19", "resnet-50"):  # as narrow as it gets, or a step takes seconds
        name = f"{name}_narrow.toml"
        Path(name).write_text(f'extends = "{name.removesuffix("_narrow.toml")}"\n[model]\nwidth = 1\n')
    with published(data):
        options = ["--smoke", "--executor", "inline", "--data-dir", str(data), "--pack-size", "2"]
        command = ["launch", name, *options, *(word for cell in cells for word in ("--cells", cell))]
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "an interrupted pack continued from" in result.output
    assert not list(tmp_path.glob("*.db"))
