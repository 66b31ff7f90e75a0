"""A damaged row breaks itself alone: pages, tables and commands go on, and state what is damaged."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import expect
from typer.testing import CliRunner

from benchmarks import big_ledger
from dashboards.report import report
from dashboards.web.snapshot import Snapshots
from lawn_tune.cli.main import app
from lawn_tune.comparison.compare import compare_space
from lawn_tune.comparison.flags import Flag
from lawn_tune.ledger import open_ledger
from lawn_tune.results import DamagedCells
from tests.helpers.browser import Browse

pytestmark = pytest.mark.long

SPACE = "big"
CELL = "big/adam/bs256"
EVIL = "<img src=x onerror=alert(1)>"
PAGES = ("/", "/compare", "/cell", "/dynamics", "/tuning-curve", "/progress")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ledger of two batch sizes."""
    path = tmp_path_factory.mktemp("whole") / "ledger.db"
    big_ledger.write(f"sqlite:///{path}", trials=200, epochs=8)
    return path


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copy(whole, tmp_path / "ledger.db"))


def change(path: Path, statement: str, *values: object) -> None:
    """Changes rows as no version of the service would."""
    connection = sqlite3.connect(path)
    with connection:
        assert connection.execute(statement, values).rowcount > 0
    connection.close()


def winner_key(path: Path) -> str:
    """Returns the search trial that won in the cell."""
    with open_ledger(f"sqlite:///{path}", create=False) as ledger:
        result = next(r for r in compare_space(ledger, SPACE).cells if str(r.cell.name) == CELL)
    assert result.winner is not None
    return result.winner.keys[0]


def run(*arguments: str, path: Path) -> tuple[int, str]:
    """Runs a command and returns its exit code and its output."""
    result = CliRunner().invoke(app, [*arguments, "--storage", f"sqlite:///{path}"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


def summary_without_numbers(path: Path, key: str) -> None:
    change(path, "UPDATE lawn_trials SET summary = ? WHERE key = ?", '{"last/validation/accuracy": 9', key)


def summary_of_text(path: Path, key: str) -> None:
    change(path, "UPDATE lawn_trials SET summary = ? WHERE key = ?", f'{{"seconds": "{EVIL}"}}', key)


def summary_with_nan(path: Path, key: str) -> None:
    change(path, "UPDATE lawn_trials SET summary = ? WHERE key = ?", '{"last/validation/accuracy": NaN}', key)


def provenance_as_list(path: Path, key: str) -> None:
    change(path, "UPDATE lawn_trials SET provenance = '[]' WHERE key = ?", key)


def strange_outcome(path: Path, key: str) -> None:
    change(path, "UPDATE lawn_trials SET outcome = ? WHERE key = ?", EVIL, key)


def epochs_in_words(path: Path, key: str) -> None:
    change(path, "UPDATE lawn_trials SET epochs = 'many' WHERE key = ?", key)


def summary_beyond_any_number(path: Path, key: str) -> None:
    change(path, "UPDATE lawn_trials SET summary = ? WHERE key = ?", '{"last/validation/accuracy": 1e999}', key)


def summary_larger_than_a_float(path: Path, key: str) -> None:
    change(path, "UPDATE lawn_trials SET summary = ? WHERE key = ?", f'{{"seconds": {10**400}}}', key)


def summary_of_nothing(path: Path, key: str) -> None:
    change(path, "UPDATE lawn_trials SET summary = '{}' WHERE key = ?", key)


def error_in_bytes(path: Path, key: str) -> None:
    change(path, "UPDATE lawn_trials SET error = X'00ff' WHERE key = ?", key)


def libraries_as_list(path: Path, key: str) -> None:
    change(path, "UPDATE lawn_trials SET provenance = '{\"libraries\": []}' WHERE key = ?", key)


def time_as_number(path: Path, key: str) -> None:
    change(path, "UPDATE lawn_trials SET provenance = '{\"ended\": 3}' WHERE key = ?", key)


def half_a_character(path: Path, key: str) -> None:
    change(path, 'UPDATE lawn_trials SET provenance = \'{"device": "\\ud800"}\' WHERE key = ?', key)


def negative_epochs(path: Path, key: str) -> None:
    change(path, "UPDATE lawn_trials SET epochs = -5 WHERE key = ?", key)


def strange_phase(path: Path, key: str) -> None:
    change(path, "UPDATE lawn_plan SET phase = 'later' WHERE key = ?", key)


def no_point(path: Path, key: str) -> None:
    change(path, "UPDATE lawn_plan SET hyperparameters = '{\"peak_lr\": null}' WHERE key = ?", key)


TRIAL_DAMAGE: Sequence[tuple[Callable[[Path, str], None], str]] = (
    (summary_without_numbers, "summary is not JSON"),
    (summary_of_text, "summary holds something that is not a number"),
    (summary_with_nan, "summary is not JSON"),
    (provenance_as_list, "provenance is not a table"),
    (strange_outcome, "unknown outcome"),
    (epochs_in_words, "epochs"),
    (no_point, "hyperparameters holds something"),
    (summary_beyond_any_number, "number is infinity"),
    (summary_larger_than_a_float, "number is infinity"),
    (summary_of_nothing, "empty"),
    (error_in_bytes, "must be text"),
    (libraries_as_list, "libraries is not a table"),
    (time_as_number, "a time is not text"),
    (half_a_character, "no low surrogate"),
    (negative_epochs, "too small"),
    (strange_phase, "unknown phase 'later'"),
)


@pytest.mark.parametrize(("damage", "why"), TRIAL_DAMAGE, ids=[damage.__name__ for damage, _ in TRIAL_DAMAGE])
def test_a_damaged_trial_is_left_out_and_named(copy: Path, damage: Callable[[Path, str], None], why: str) -> None:
    with open_ledger(f"sqlite:///{copy}", create=False) as ledger:
        before = {row.key: row for row in ledger.trials(SPACE)}
    key = winner_key(copy)
    damage(copy, key)
    with open_ledger(f"sqlite:///{copy}", create=False) as ledger:
        after = {row.key: row for row in ledger.trials(SPACE)}
        comparison = compare_space(ledger, SPACE)
    assert after[key].damaged
    assert why in after[key].error
    assert {k: row for k, row in after.items() if k != key} == {k: row for k, row in before.items() if k != key}
    assert [k for k in after if k != key] == [k for k in before if k != key]
    result = next(result for result in comparison.cells if str(result.cell.name) == CELL)
    assert result.winner is None or key not in result.winner.keys
    [note] = [note for note in result.notes if note.flag is Flag.DAMAGED]
    assert key in note.text
    assert "put back a copy" in note.text


def test_commands_flag_a_damaged_trial(copy: Path, tmp_path: Path) -> None:
    key = winner_key(copy)
    summary_with_nan(copy, key)
    code, output = run("compare", SPACE, "--format", "md", path=copy)
    assert (code, key in output) == (0, True)
    code, output = run("status", SPACE, path=copy)
    assert (code, "failed" in output) == (0, True)
    code, output = run("report", SPACE, "--format", "json", "--output", str(tmp_path / "report.json"), path=copy)
    assert code == 0
    assert key in json.dumps(json.loads((tmp_path / "report.json").read_text())["caveats"])
    code, output = run("export", SPACE, path=copy)
    [error] = [row["error"] for row in json.loads(output) if row["key"] == key]
    assert error.startswith(f"damaged in the ledger: trial {key}: summary is not JSON (")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"optimizer": "adam"', '"optimizer": "sofia"', "unknown optimizer 'sofia'"),
        ('"metric": "accuracy"', '"metric": "luck"', "unknown metric 'luck'"),
        ('"epochs": 8', '"epochs": "eight"', "must be an integer"),
        ('"task":', '"tusk":', "KeyError"),
        ('"direction": "maximize"', '"direction": "up"', "unknown direction 'up'"),
        ('"search_seeds": [0]', '"search_seeds": []', "no search seed"),
        ('"dataset": "fashion-mnist"', '"dataset": "dice"', "unknown dataset 'dice'"),
        ('"peak_lr": [', '"peak_lr": ["a", ', "its first grid must hold lists of numbers"),
        ('"peak_lr": [', '"peak_lr": [1e999, ', "number is infinity"),
        ("{", "[", "not JSON"),
        (CELL, "big/adam/bs257", "its definition is of cell 'big/adam/bs257'"),
    ],
)
def test_a_damaged_cell_is_one_clear_error_of_a_command(copy: Path, old: str, new: str, why: str) -> None:
    change(copy, "UPDATE lawn_cells SET definition = replace(definition, ?, ?) WHERE name = ?", old, new, CELL)
    for command in ("compare", "report", "status"):
        code, output = run(command, SPACE, path=copy)
        assert code == 3, output
        assert CELL in output
        assert why in output
        assert "Launch the whole space again" in output
        assert "Traceback" not in output


def test_a_damaged_curve_is_left_out_of_the_report(copy: Path) -> None:
    with open_ledger(f"sqlite:///{copy}", create=False) as ledger:
        result = next(r for r in compare_space(ledger, SPACE).cells if str(r.cell.name) == CELL)
        assert result.estimate is not None
        key, *_ = result.estimate.keys.values()
        for blob in ("substr(data, 1, length(data) / 2)", "substr(data, 1, 3)", "x''", "'text'", "x'0100000000'"):
            change(copy, f"UPDATE lawn_curves SET data = {blob} WHERE key = ?", key)
            with pytest.raises(ValueError, match="curve"):
                ledger.curves([key])
            text = report(ledger, compare_space(ledger, SPACE))
            assert re.findall(r"The curve of trial (\w+) is left out", text) == [key]


def test_damaged_outcomes_of_examples_leave_an_interval_over_seeds(copy: Path) -> None:
    for blob in ("x'ff'", "'text'"):
        change(copy, f"UPDATE lawn_examples SET data = {blob}")
        with open_ledger(f"sqlite:///{copy}", create=False) as ledger:
            pairs = [pair for pair in compare_space(ledger, SPACE).pairs if pair.difference]
        assert pairs
        assert all(pair.difference and pair.difference.examples is None for pair in pairs)
        assert all(Flag.SEEDS_ONLY in {note.flag for note in pair.notes} for pair in pairs)


def test_a_space_without_a_readable_cell_hides_no_other(copy: Path) -> None:
    insert = "INSERT INTO lawn_cells (name, space, position, definition, registered) VALUES (?, ?, 0, ?, '2026')"
    change(copy, insert, f"{EVIL}/adam/bs1", EVIL, "{}")
    with open_ledger(f"sqlite:///{copy}", create=False) as ledger:
        source = Snapshots(ledger)
        assert source.spaces() == (EVIL, SPACE)
        assert source.snapshot(SPACE).damage == ()
        with pytest.raises(DamagedCells, match="KeyError"):
            source.snapshot(EVIL)


# --- in a browser ----------------------------------------------------------------------------------------------------


def test_damaged_rows_break_no_page(browse: Browse, copy: Path) -> None:
    key = winner_key(copy)
    summary_of_text(copy, key)
    change(
        copy,
        "UPDATE lawn_cells SET definition = replace(definition, ?, ?) WHERE name = ?",
        '"optimizer": "sgd"',
        f'"optimizer": "{EVIL}"',
        "big/sgd/bs256",
    )
    insert = "INSERT INTO lawn_cells (name, space, position, definition, registered) VALUES (?, ?, 0, ?, '2026')"
    change(copy, insert, f"{EVIL}/adam/bs1", EVIL, "{}")
    with open_ledger(f"sqlite:///{copy}", create=False) as ledger:
        site = browse(ledger)
        for path in PAGES:
            page = site.open(f"{path}?space={SPACE}")
            output = page.locator(f"#{path.strip('/') or 'verdict'}-damage")
            expect(output).to_contain_text("big/sgd/bs256")
            expect(output).to_contain_text(EVIL)
            expect(output).to_contain_text(key)
            expect(output).to_contain_text("Launch the whole space again")
            expect(output).to_contain_text("lawn_trials")
            assert page.locator(".failure").count() == 0
            assert page.locator(".card .body:not(.none)").count() >= 2
        page = site.open(f"/?space={EVIL}")
        expect(page.get_by_role("alert")).to_contain_text(f"{EVIL}/adam/bs1")
        assert page.locator("img[onerror]").count() == 0


def test_a_damaged_curve_breaks_one_line_of_a_figure(browse: Browse, copy: Path) -> None:
    with open_ledger(f"sqlite:///{copy}", create=False) as ledger:
        rows = [row for row in ledger.trials(SPACE) if row.cell == CELL and row.outcome == "complete"]
        broken, sound = rows[0].key, rows[1].key
        change(copy, "UPDATE lawn_curves SET data = substr(data, 1, 4) WHERE key = ?", broken)
        page = browse(ledger).open(f"/dynamics?space={SPACE}&trial={broken}&trial={sound}")
        expect(page.locator("#dynamics-trials")).to_contain_text(f"curves of trial {broken} cannot be read")
        expect(page.locator("#dynamics-loss .scatterlayer .trace")).to_have_count(1)
