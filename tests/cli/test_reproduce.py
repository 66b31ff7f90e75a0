"""`lawn-tune reproduce`: trains as `launch` does, writes three files, and refuses what cannot work before it trains."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lawn_tune.cli.main import app
from lawn_tune.ledger import open_ledger
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import find_space
from tests.helpers.fabricated import published, write_data


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.long
def test_it_trains_what_is_missing_and_then_nothing(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    command = ["reproduce", "table4", "--out", "tables", "--executor", "inline", "--data-dir", "data"]
    cells = ["--cells", "table4_pinterest/sgd/bs1000000", "--max-epochs", "31"]
    with published(tmp_path / "data"):
        first = CliRunner().invoke(app, [*command, *cells])
        assert first.exit_code == 0, first.output
        again = CliRunner().invoke(app, [*command, *cells])
    assert "nothing to train" in again.output
    assert "1 of 60 printed values have a confirmed value of ours." in again.output
    assert sorted(file.name for file in Path("tables").iterdir()) == ["table4.html", "table4.md", "table4.tex"]
    before = Path("tables/table4.md").read_text()
    later = CliRunner().invoke(app, ["reproduce", "table4", "--no-launch", "--out", "tables"])
    assert later.exit_code == 0, later.output
    assert Path("tables/table4.md").read_text() == before


def test_results_of_other_spaces_do_not_count_and_the_command_that_trains_the_table_is_shown() -> None:
    with open_ledger("sqlite:///other.db") as ledger:
        ledger.register(plan(find_space("movielens_100k")))
    shown = CliRunner().invoke(app, ["reproduce", "table4", "--no-launch", "--storage", "sqlite:///other.db"])
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("0 of 60 printed values have a confirmed value of ours.")
    assert "table4_movielens_100k, table4_movielens_1m and table4_pinterest" in lines[1]
    assert lines[2] == "Train what is missing: lawn-tune reproduce table4 --out . --storage sqlite:///other.db"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table9"], "there are no spaces for 'table9'"),
        (["paper"], "Give one of table1, table2, table3, table4, table5, table6."),
        (["table4", "--no-launch", "--seeds", "3"], "--no-launch takes no option of launch, got --seeds"),
        (["table4", "--out", "file/tables"], "--out: cannot make the folder 'file/tables'"),
        (["table4", "--bad-option"], "No such option: --bad-option"),
        (["table4", "--cells", "adm*"], "--cells 'adm*' matches no cell"),
        (["table4", "--no-launch"], "there is no ledger"),
    ],
)
def test_what_cannot_work_is_one_error_before_anything_is_trained(arguments: list[str], words: str) -> None:
    Path("file").write_text("")
    result = CliRunner().invoke(app, ["reproduce", *arguments])
    assert result.exit_code in (2, 3), result.output
    assert words in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not list(Path().glob("*.db"))
