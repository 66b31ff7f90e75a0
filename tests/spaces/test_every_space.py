"""Every built-in space takes a few steps of all its cells, on small files in the formats of the published data."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lawn_tune.cli.main import app
from lawn_tune.planning.spaces import builtin_spaces, find_space
from tests.helpers.fabricated import published, write_data

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", builtin_spaces())
def test_a_smoke_run_passes(name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if find_space(name).model["name"] in ("vgg-19", "resnet-50"):  # as narrow as it gets, or a step takes seconds
        name = f"{name}_narrow.toml"
        Path(name).write_text(f'extends = "{name.removesuffix("_narrow.toml")}"\n[model]\nwidth = 1\n')
    with published(data):
        command = ["launch", name, "--smoke", "--executor", "inline", "--data-dir", str(data), "--pack-size", "2"]
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "an interrupted pack continued from" in result.output
    assert not list(tmp_path.glob("*.db"))
