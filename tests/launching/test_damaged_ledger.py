"""A launch into a damaged ledger fixes what a plan can fix, names what it cannot, and trains nothing twice."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lawn_tune.cli.main import app
from lawn_tune.ledger import open_ledger
from lawn_tune.results import DamagedCells, TrialRow
from tests.helpers.tiny import SPACE


def launch(folder: Path) -> Result:
    command = ["launch", str(folder / "tiny.toml"), "--storage", f"sqlite:///{folder}/ledger.db"]
    return CliRunner().invoke(app, [*command, "--executor", "inline", "--gpus", "0", "--pack-size", "1"])


def trials(folder: Path) -> list[TrialRow]:
    with open_ledger(f"sqlite:///{folder}/ledger.db", create=False) as ledger:
        return list(ledger.trials("tiny"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger in which nothing is missing."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.toml").write_text(SPACE)
    assert launch(folder).exit_code == 0
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def change(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "ledger.db")
    with connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement
    connection.close()


def test_a_damaged_cell_is_rewritten(whole: Path, copy: Path) -> None:
    change(copy, "UPDATE lawn_cells SET definition = '{'")
    with pytest.raises(DamagedCells), open_ledger(f"sqlite:///{copy}/ledger.db", create=False) as ledger:
        ledger.cells("tiny")
    assert launch(copy).exit_code == 0
    assert trials(copy) == trials(whole)


@pytest.mark.parametrize(
    "damage",
    ["hyperparameters = '{'", "seed = 99", "seed = 'x'", "total_epochs = 0", "phase = 'later'"],
)
@pytest.mark.parametrize("phase", ["search", "confirm"])
def test_a_damaged_plan_is_rewritten(whole: Path, copy: Path, damage: str, phase: str) -> None:
    change(copy, f"UPDATE lawn_plan SET {damage} WHERE phase = '{phase}'")
    assert trials(copy) != trials(whole)
    done = launch(copy)
    assert (done.exit_code, "nothing to train" in done.output) == (0, True)
    assert trials(copy) == trials(whole)


@pytest.mark.parametrize("keys", ["{", '["another"]'])
def test_a_damaged_pack_is_one_clear_error(copy: Path, keys: str) -> None:
    change(copy, f"UPDATE lawn_packs SET keys = '{keys}'", *forgotten("'search'"))
    result = launch(copy)
    assert result.exit_code == 3
    assert "damaged in the ledger: pack" in result.output
    assert "delete that row from lawn_packs" in result.output


def test_what_may_have_finished_is_not_trained_again(copy: Path) -> None:
    before = trials(copy)
    change(
        copy, "UPDATE lawn_trials SET outcome = 'zz' WHERE pack IN (SELECT id FROM lawn_packs WHERE phase = 'search')"
    )
    result = launch(copy)
    assert result.exit_code == 3
    assert "unknown outcome 'zz'" in result.output
    assert "put back a copy of the ledger" in result.output
    assert [row.attempts for row in trials(copy)] == [row.attempts for row in before]


def test_damaged_results_are_named_and_come_back_as_the_hint_says(whole: Path, copy: Path) -> None:
    change(copy, "UPDATE lawn_trials SET summary = '{'")
    for command in ("launch", "status"):
        result = (
            launch(copy)
            if command == "launch"
            else CliRunner().invoke(app, ["status", "--storage", f"sqlite:///{copy}/ledger.db"])
        )
        assert result.exit_code == 0
        for row in trials(copy):
            assert row.key in result.output
        assert "put back a copy of the ledger, or delete the trial's rows" in result.output
    result = CliRunner().invoke(app, ["compare", "tiny", "--storage", f"sqlite:///{copy}/ledger.db"])
    assert result.exit_code == 3
    assert "no result of space 'tiny' can be read, 3 are damaged" in result.output
    change(copy, *forgotten("'search', 'confirm'"))
    assert launch(copy).exit_code == 0
    assert [lasting(row) for row in trials(copy)] == [lasting(row) for row in trials(whole)]


def checked(folder: Path) -> Result:
    return CliRunner().invoke(app, ["ledger", "check", "--storage", f"sqlite:///{folder}/ledger.db"])


def test_a_check_of_a_whole_ledger_finds_nothing(whole: Path) -> None:
    result = checked(whole)
    assert result.exit_code == 0, result.output
    assert "rows read, none damaged" in result.output


KEY = "(SELECT min(key) FROM lawn_trials)"


@pytest.mark.parametrize(
    ("statement", "row", "why", "repair"),
    [
        ("UPDATE lawn_cells SET definition = '{'", "its definition", "not JSON", "rewrites its cells"),
        (f"UPDATE lawn_plan SET seed = 'x' WHERE key = {KEY}", "planned trial", "an integer", "rewrites its plan"),
        (f"UPDATE lawn_plan SET phase = 'y' WHERE key = {KEY}", "planned trial", "phase 'y'", "rewrites its plan"),
        (
            f"UPDATE lawn_trials SET outcome = 'zz' WHERE key = {KEY}",
            "trial",
            "outcome 'zz'",
            "delete the trial's rows",
        ),
        (f"UPDATE lawn_trials SET summary = '[]' WHERE key = {KEY}", "trial", "not a table", "delete the trial's rows"),
        ("UPDATE lawn_packs SET keys = '{'", "pack", "not JSON", "delete that row from lawn_packs"),
        (f"UPDATE lawn_curves SET data = x'00' WHERE key = {KEY}", "curve", "damaged curve", "delete the trial's rows"),
        ("UPDATE lawn_examples SET count = 1000000", "examples", "as many outcomes", "delete the trial's rows"),
    ],
)
def test_a_check_names_what_is_damaged_and_how_to_repair_it(
    copy: Path, statement: str, row: str, why: str, repair: str
) -> None:
    change(copy, statement)
    result = checked(copy)
    assert result.exit_code == 1, result.output
    (line, *_) = result.output.splitlines()
    assert line.startswith("tiny/adam/bs")
    assert f": {row}" in line
    assert why in line
    assert repair in result.output
    assert "rows read, none damaged" not in result.output


def forgotten(phases: str) -> list[str]:
    """Returns what deletes the trials of some phases, as the hint says."""
    keys = f"key IN (SELECT key FROM lawn_plan WHERE phase IN ({phases}))"
    examples = [f"DELETE FROM lawn_examples WHERE {keys}"] if "confirm" in phases else []
    return [*examples, f"DELETE FROM lawn_curves WHERE {keys}", f"DELETE FROM lawn_trials WHERE {keys}"]


def lasting(row: TrialRow) -> object:
    """Returns what two trainings of a trial have in common."""
    measured = ("seconds", "peak_memory_bytes")
    return row.key, row.outcome, {name: value for name, value in row.summary.items() if name not in measured}
