"""`lawn-tune status` over a ledger in memory or a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lawn_tune.ledger import Lease, open_ledger
from lawn_tune.planning.plan import plan
from search_spaces.loader import load_space
from tests.helpers.commands import read, run
from tests.helpers.memory_ledger import QUICKSTART, MemoryLedger, rows

pytestmark = pytest.mark.usefixtures("empty_folder")


def test_status_counts_each_cell_and_names_who_holds_it(ledger: MemoryLedger) -> None:
    first, second, third, fourth = QUICKSTART
    confirm = first.confirm_trials(first.search_trials[0].hyperparameters)
    ledger.rows += rows(first, first.search_trials) + rows(first, confirm)
    ledger.rows += rows(second, second.search_trials[:4], "diverged") + rows(
        second, second.search_trials[4:6], "failed"
    )
    ledger.rows += rows(third, third.search_trials[:2], "running")
    ledger.held[third.name] = Lease(owner="node-1:42", expires="2026-11-24T06:00:00+00:00", active=True)
    ledger.held[fourth.name] = Lease(owner="node-2:43", expires="2026-11-24T05:00:00+00:00", active=False)
    document = read("status", "quickstart", "--json")
    shown = {cell.pop("cell"): cell for cell in document["cells"]}
    assert list(shown) == [str(cell.name) for cell in QUICKSTART]
    assert shown[str(first.name)] == {
        **{"state": "finished", "planned": 12, "complete": 12, "diverged": 0, "failed": 0, "running": 0},
        **{"done": 12, "missing": 0, "finished_share": 1.0, "lease": None, "last_change": None},
        **{"device_hours": 12 * 1.5 / 3600, "left": {"trials": 0, "packs": 0, "device_hours": 0.0}},
    }
    assert [cell["state"] for cell in shown.values()] == ["finished", "failed", "running", "idle"]
    assert document["schema"] == "lawn-tune/status/2"
    assert document["state"] == "running"
    for name in ("planned", "done", "complete", "diverged", "running", "failed", "missing", "device_hours"):
        assert document["total"][name] == pytest.approx(sum(cell[name] for cell in shown.values())), name
    for name in ("trials", "packs", "device_hours"):
        assert document["total"]["left"][name] == pytest.approx(sum(cell["left"][name] for cell in shown.values()))
    for cell in shown.values():
        assert cell["left"]["trials"] == cell["planned"] - cell["done"]
    assert [shown[str(second.name)][key] for key in ("diverged", "failed", "missing")] == [4, 2, 6]
    assert shown[str(third.name)]["lease"]["owner"] == "node-1:42"
    text = run("status").stdout
    assert "4 cells, 16 of 48 trials finished" in text
    assert "node-1:42" in text
    assert "node-2:43 (gone)" in text
    assert text.endswith("next: lawn-tune dashboard\n")
    assert ledger.closed


def test_status_ends_with_what_to_do_next(ledger: MemoryLedger) -> None:
    assert run("status").stdout.endswith("next: lawn-tune launch quickstart --seeds 3\n")
    for cell in QUICKSTART:
        confirm = cell.confirm_trials(cell.search_trials[0].hyperparameters)
        ledger.rows += rows(cell, cell.search_trials) + rows(cell, confirm)
    assert run("status").stdout.endswith("next: lawn-tune compare quickstart\n")
    shown = run("status", "--storage", "sqlite:///other.db").stdout
    assert shown.endswith("next: lawn-tune compare quickstart --storage sqlite:///other.db\n")


def test_status_of_an_unknown_space_lists_the_known(ledger: MemoryLedger) -> None:
    result = run("status", "quikstart")
    assert result.exit_code == 2
    assert "there is no space 'quikstart': this ledger has: quickstart" in result.stderr
    assert "Did you mean 'quickstart'?" in result.stderr


@pytest.mark.parametrize("command", [["status"], ["export", "quickstart"]])
def test_without_a_ledger_reading_fails_with_the_next_step(command: list[str]) -> None:
    result = run(*command)
    assert result.exit_code == 3
    assert "there is no ledger at sqlite:///" in result.stderr
    assert "hint: Run 'lawn-tune launch' first" in result.stderr
    assert not list(Path().iterdir()), "reading makes no ledger"


def test_a_built_in_space_that_was_not_launched_is_to_be_trained(ledger: MemoryLedger) -> None:
    result = run("status", "digits")
    assert result.exit_code == 2
    assert "space 'digits' is not in this ledger, which has: quickstart" in result.stderr
    assert "hint: Train it first: lawn-tune launch digits\n" in result.stderr


def test_a_file_that_was_not_launched_is_to_be_trained(ledger: MemoryLedger, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").touch()
    assert "Train it first: lawn-tune launch mine.toml\n" in run("status", "mine.toml").stderr
    assert "there is no space 'other'" in run("status", "other.toml").stderr


def test_the_next_launch_names_the_file_that_was_given(tmp_path: Path) -> None:
    (tmp_path / "my folder").mkdir()
    file = tmp_path / "my folder" / "mine.toml"
    file.write_text('extends = "quickstart"\nmethods = ["adam"]\nbatch_sizes = [64]\n')
    with open_ledger("sqlite:///lawn-tune.db") as real:
        real.register(plan(load_space(file)))
    command = f"next: lawn-tune launch '{file}' --cells adam/bs64 --seeds 3\n"
    assert run("status", str(file)).stdout.endswith(command)
    assert run("status", "mine").stdout.endswith(command.replace(f"'{file}'", "path/to/mine.toml"))


def test_cells_of_several_launches_are_in_one_order() -> None:
    with open_ledger("sqlite:///lawn-tune.db") as real:
        for size in (512, 64):
            real.register([cell for cell in QUICKSTART if cell.name.batch_size == size])
    shown = [cell["cell"] for cell in read("status", "--json")["cells"]]
    assert shown == [str(cell.name) for cell in QUICKSTART]


def test_status_reads_a_real_ledger() -> None:
    with open_ledger("sqlite:///lawn-tune.db") as real:
        real.register(QUICKSTART)
    assert [cell["missing"] for cell in read("status", "--json")["cells"]] == [12] * 4


def test_status_answers_scripts_by_its_exit_code(ledger: MemoryLedger) -> None:
    for cell in QUICKSTART:
        assert run("status", "--check").exit_code == 1
        ledger.rows += rows(cell, cell.search_trials)
        ledger.rows += rows(cell, cell.confirm_trials(cell.search_trials[0].hyperparameters))
    done = run("status", "--check")
    assert done.exit_code == 0
    assert done.stdout == run("status").stdout
    assert read("status", "--json")["state"] == "finished"
    ledger.planned = ()
    assert run("status", "--check").exit_code == 1
