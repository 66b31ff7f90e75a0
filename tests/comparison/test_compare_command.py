"""Laws of `lawn-tune compare`, over a ledger in memory."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lawn_tune.cli import compare as command
from lawn_tune.cli import source as opening
from lawn_tune.comparison.renderers import RENDERERS, Format
from lawn_tune.comparison.renderers.race import SCHEMA
from lawn_tune.errors import UsageError
from lawn_tune.planning.spaces import find_space
from tests.helpers.memory_source import MemorySource, demo_source, make_cell


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> MemorySource:
    """The ledger that the command opens."""
    source = demo_source(epochs=20)
    source.planned.append(make_cell(space="untouched"))

    @contextmanager
    def reading(storage: str | None) -> Iterator[MemorySource]:
        yield source
        source.close()

    monkeypatch.setattr(opening, "reading", reading)
    return source


@pytest.mark.parametrize("format", [*RENDERERS])
def test_it_prints_each_text_format(source: MemorySource, capsys: pytest.CaptureFixture[str], format: Format) -> None:
    command.compare("movielens_100k", format=format)
    assert capsys.readouterr().out == RENDERERS[format](command.comparison_of(source, "movielens_100k"))
    assert source.closed


def test_it_prints_tables_without_cutting_them(source: MemorySource, capsys: pytest.CaptureFixture[str]) -> None:
    command.compare("movielens_100k")
    printed = capsys.readouterr().out
    assert "Adam-LAWN" in printed
    assert "95 % interval" in printed
    assert "…" not in printed
    assert "paper 66.01" in printed
    assert len(re.findall(r"paper (?!prints)", printed)) == printed.count("paper 6"), "none without its value"


def test_a_space_may_be_given_by_its_file(source: MemorySource, capsys: pytest.CaptureFixture[str]) -> None:
    command.compare(str(find_space("movielens_100k").source), format="json")
    assert json.loads(capsys.readouterr().out)["space"] == "movielens_100k"


def test_cells_that_the_file_of_a_space_plans_and_no_launch_began_are_named(
    source: MemorySource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(find_space("movielens_100k").source, tmp_path / "movielens_100k.toml")
    command.compare(f"{tmp_path}/movielens_100k.toml", format="md")
    text = capsys.readouterr().out
    assert "Not begun: SGD at batch 1,000, 10,000 and 100,000; " in text
    assert "SGD, Adam, Adam-LAWN, LAMB and LAMB-LAWN at batch 400,000." in text
    command.compare("movielens_100k", format="md")
    assert "Not begun" not in capsys.readouterr().out


def test_its_commands_name_the_ledger_that_was_read(source: MemorySource, capsys: pytest.CaptureFixture[str]) -> None:
    command.compare("movielens_100k", format="json", storage="sqlite:///my.db")
    steps = [step for pair in json.loads(capsys.readouterr().out)["pairs"] for step in pair["to_decide"]]
    assert steps
    assert all(step["command"].endswith(" --storage sqlite:///my.db") for step in steps if step["command"])


def test_it_writes_a_file_and_prints_nothing(
    source: MemorySource, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command.compare("movielens_100k", format="md", output=tmp_path / "table.md")
    assert capsys.readouterr().out == ""
    assert (tmp_path / "table.md").read_text() == RENDERERS["md"](command.comparison_of(source, "movielens_100k"))


@pytest.mark.parametrize(
    ("space", "words", "hint"),
    [
        ("untouched", "no results yet", "lawn-tune launch path/to/untouched.toml"),
        ("unknown", "there is no space 'unknown'", "Give one of these names"),
    ],
)
def test_a_space_without_results_is_one_line_and_what_to_type(
    source: MemorySource, space: str, words: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        command.compare(space)
    assert "\n" not in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("space", ["untouched", "digits"])
def test_what_to_type_names_the_ledger_that_was_read(source: MemorySource, space: str) -> None:
    for given in (space, str(find_space("digits").source.with_name(f"{space}.toml")))[: 1 + (space == "digits")]:
        with pytest.raises(UsageError) as caught:
            command.compare(given, storage="sqlite:///other.db")
        assert str(caught.value.hint).endswith(" --storage sqlite:///other.db")


def test_rich_tables_go_to_no_file_and_a_bad_path_is_named(source: MemorySource, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--format rich"):
        command.compare("movielens_100k", output=tmp_path / "table")
    with pytest.raises(UsageError, match="cannot write"):
        command.compare("movielens_100k", format="csv", output=tmp_path / "nowhere" / "table.csv")


def test_times_to_target_have_their_own_formats(source: MemorySource, capsys: pytest.CaptureFixture[str]) -> None:
    command.compare("movielens_100k", format="json", times=True)
    assert json.loads(capsys.readouterr().out)["schema"] == SCHEMA
    command.compare("movielens_100k", times=True)
    assert "Performance profile" in capsys.readouterr().out
    with pytest.raises(UsageError, match="--format latex"):
        command.compare("movielens_100k", format="latex", times=True)
    source.series.clear()
    with pytest.raises(UsageError, match="nothing has a time"):
        command.compare("movielens_100k", times=True)
