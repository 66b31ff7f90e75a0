"""A launch into a damaged ledger: it mends what a plan can mend, names what it cannot, and trains nothing twice."""

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


def test_a_damaged_cell_is_written_anew(whole: Path, copy: Path) -> None:
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
def test_a_damaged_plan_is_written_anew(whole: Path, copy: Path, damage: str, phase: str) -> None:
    change(copy, f"UPDATE lawn_plan SET {damage} WHERE phase = '{phase}'")
    assert trials(copy) != trials(whole)
    done = launch(copy)
    assert (done.exit_code, "nothing to train" in done.output) == (0, True)
    assert trials(copy) == trials(whole)


@pytest.mark.parametrize("keys", ["{", '["another"]'])
def test_a_damaged_pack_is_one_clear_error(copy: Path, keys: str) -> None:
    change(copy, f"UPDATE lawn_packs SET keys = '{keys}'", *forgotten("'search'"))
    said = launch(copy)
    assert said.exit_code == 3
    assert "damaged in the ledger: pack" in said.output
    assert "delete that row from lawn_packs" in said.output


def test_what_may_have_finished_is_not_trained_again(copy: Path) -> None:
    before = trials(copy)
    change(
        copy, "UPDATE lawn_trials SET outcome = 'zz' WHERE pack IN (SELECT id FROM lawn_packs WHERE phase = 'search')"
    )
    said = launch(copy)
    assert said.exit_code == 3
    assert "unknown outcome 'zz'" in said.output
    assert "put back a copy of the ledger" in said.output
    assert [row.attempts for row in trials(copy)] == [row.attempts for row in before]


def test_damaged_results_are_named_and_come_back_as_told(whole: Path, copy: Path) -> None:
    change(copy, "UPDATE lawn_trials SET summary = '{'")
    for command in ("launch", "status"):
        said = (
            launch(copy)
            if command == "launch"
            else CliRunner().invoke(app, ["status", "--storage", f"sqlite:///{copy}/ledger.db"])
        )
        assert said.exit_code == 0
        for row in trials(copy):
            assert row.key in said.output
        assert "put back a copy of the ledger, or delete the trial's rows" in said.output
    said = CliRunner().invoke(app, ["compare", "tiny", "--storage", f"sqlite:///{copy}/ledger.db"])
    assert said.exit_code == 3
    assert "no result of space 'tiny' can be read, 3 are damaged" in said.output
    change(copy, *forgotten("'search', 'confirm'"))
    assert launch(copy).exit_code == 0
    assert [lasting(row) for row in trials(copy)] == [lasting(row) for row in trials(whole)]


def forgotten(phases: str) -> list[str]:
    """Returns what deletes the trials of some phases, as the hint says."""
    keys = f"key IN (SELECT key FROM lawn_plan WHERE phase IN ({phases}))"
    examples = [f"DELETE FROM lawn_examples WHERE {keys}"] if "confirm" in phases else []
    return [*examples, f"DELETE FROM lawn_curves WHERE {keys}", f"DELETE FROM lawn_trials WHERE {keys}"]


def lasting(row: TrialRow) -> object:
    """Returns what two trainings of a trial have in common."""
    measured = ("seconds", "peak_memory_bytes")
    return row.key, row.outcome, {name: value for name, value in row.summary.items() if name not in measured}
