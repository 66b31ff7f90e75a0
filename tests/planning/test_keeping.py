"""A level that another batch size decides: the number of its winner, whichever command asks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lawn_tune.cells import Cell
from lawn_tune.cli.main import app
from lawn_tune.comparison.compare import compare, compare_space
from lawn_tune.ledger import open_ledger
from lawn_tune.planning.extending import extended
from lawn_tune.planning.plan import plan
from lawn_tune.planning.selection import Winner, winner
from lawn_tune.planning.smoke import smoke_cells
from search_spaces.loader import load_space
from search_spaces.space import SpaceError
from tests.helpers.tiny import tiny_space

SPACE = f"""{
    tiny_space(
        "a rate of another batch size",
        width=2,
        confirm=[7],
        batch_size=48,
        epochs=2,
        peak_lr=[0.001, 0.02],
        weight_decay=[0.1],
        free_epochs=[1],
    )
}
[[budgets]]
batch_size = 96
epochs = 2

[optimizers.adam-lawn.batch.96]
peak_lr = {{ from_batch = 48 }}
warmup_epochs = [0.5, 1]
"""


def cells_of(folder: Path, text: str = SPACE) -> dict[str, Cell]:
    (folder / "own.toml").write_text(text)
    cells = plan(load_space(folder / "own.toml"))
    return {f"{cell.name.optimizer}/bs{cell.name.batch_size}": cell for cell in cells}


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("from_batch = 48", "from = 48", "batch.96.peak_lr.from: unknown key; known keys are from_batch"),
        ("from_batch = 48", "", "batch.96.peak_lr.from_batch: missing key"),
        ("from_batch = 48", "from_batch = 0.5", "peak_lr.from_batch: must be a whole number from 1"),
        ("from_batch = 48", "from_batch = 64", "from_batch: must be another batch size .*, got 64. Choose one of 48"),
        ("from_batch = 48", "from_batch = 96", "from_batch: must be another batch size of the space"),
        ("warmup_epochs = [0.5, 1]", "warmup_epochs = { from_batch = 48 }", "must be for one of peak_lr, got 'warmup"),
        ("warmup_epochs = [0.5, 1]", "free_epochs = { from_batch = 48 }", "must be for one of peak_lr, got 'free_ep"),
        ("warmup_epochs = [0.5, 1]", "rate = { from_batch = 48 }", "must be for one of peak_lr, got 'rate'"),
        ("peak_lr = [0.001, 0.02]", "peak_lr = { from_batch = 48 }", "peak_lr: must be a list, .* Move from_batch"),
        (
            "[optimizers.adam-lawn.batch.96]",
            "[optimizers.adam-lawn.batch.48]\npeak_lr = { from_batch = 96 }\n[optimizers.adam-lawn.batch.96]",
            "from_batch: must be another batch size .*, got 96. Give its levels as a list",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_one_error(old: str, new: str, error: str, tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=error):
        cells_of(tmp_path, SPACE.replace(old, new, 1))


def test_until_it_is_known_it_is_one_level_which_no_trial_is_trained_with(tmp_path: Path) -> None:
    cells = cells_of(tmp_path)
    kept = cells["adam-lawn/bs96"]
    assert kept.pending
    assert kept.grid.size == 2
    assert [cell.pending for cell in cells.values()].count(True) == 1
    assert Cell.from_dict(json.loads(json.dumps(kept.to_dict()))) == kept
    assert all(level["peak_lr"] > 0 for cell in smoke_cells([kept]) for level in [cell.grid.point(0)])
    explicit = cells_of(tmp_path, SPACE.replace("{ from_batch = 48 }", "[0.02]"))["adam-lawn/bs96"]
    settled = kept.keeping({"peak_lr": 0.02})
    assert not settled.pending
    assert settled.search_trials == explicit.search_trials
    assert not {trial.key for trial in kept.search_trials} & {trial.key for trial in settled.search_trials}
    assert Cell.from_dict(json.loads(json.dumps(settled.to_dict()))) == settled


def ran(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return result.output


LAUNCH = ("launch", "own.toml", "--executor", "inline")


def test_a_launch_trains_the_other_cell_first_and_then_takes_its_winner_s_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells_of(tmp_path)
    before = ran("plan", "own.toml")
    assert "adam-lawn/bs96: peak_lr will be that of the winner at batch size 48, which is trained first" in before
    assert "unequal" not in before
    text = ran(*LAUNCH, "--cells", "adam-lawn/bs96", code=2)
    assert (
        "own/adam-lawn/bs96 takes peak_lr from the winner of own/adam-lawn/bs48, whose search is not complete" in text
    )
    notice = ("--notify", "tee notice.json")
    text = ran(*LAUNCH, *notice)
    assert "trained 9 trials" in text
    assert "trained 3 trials" in text
    counts = json.loads((tmp_path / "notice.json").read_text())["trials"]
    assert (counts["trained"], counts["found"]) == (12, 0)
    with open_ledger("sqlite:///lawn-tune.db", create=False) as ledger:
        rows = ledger.trials("own")
        lawn = {cell.name.batch_size: cell for cell in ledger.cells("own") if cell.name.optimizer == "adam-lawn"}
        won = winner(lawn[48], rows)
        assert won
        assert lawn[96].grid.values["peak_lr"] == (won.hyperparameters["peak_lr"],)
        value = f"peak_lr {won.hyperparameters['peak_lr']:g} is that of the winner at batch size 48, and not tuned here"
        comparison = compare_space(ledger, "own")
        other = next(x for x in (0.001, 0.02) if x != won.hyperparameters["peak_lr"])
        stale = [cell.keeping({"peak_lr": other}) if cell.kept else cell for cell in ledger.cells("own")]
        outdated = compare(stale, rows, {})
    noted = [note.text for result in comparison.cells for note in result.notes]
    assert noted.count(value) == 1
    assert not any("launch again to train" in text for text in noted)
    assert any(
        f"has peak_lr = {won.hyperparameters['peak_lr']:g} by now, and these trials {other:g}" in note.text
        for result in outdated.cells
        for note in result.notes
    )
    assert value in ran("plan", "own.toml")
    assert "is that of the winner at batch size 48" in ran("compare", "own")
    assert "nothing to train: all 12 trials are in the ledger" in ran(*LAUNCH)


def test_the_cell_alone_is_trained_once_the_other_s_winner_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells_of(tmp_path)
    assert "trained 3 trials" in ran(*LAUNCH, "--cells", "adam-lawn/bs48")
    assert "trained 3 trials" in ran(*LAUNCH, "--cells", "adam-lawn/bs96")


def test_a_cell_whose_other_one_has_no_winner_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells_of(
        tmp_path,
        SPACE.replace(
            "lawn]\npeak_lr = [0.001, 0.02]\nwarmup_epochs = [1]", "lawn]\npeak_lr = [1e30]\nwarmup_epochs = [0]"
        ),
    )
    text = ran(*LAUNCH, "--cells", "adam-lawn/*", code=5)
    assert "winner of own/adam-lawn/bs48, which has none: all of its points diverged" in text


def test_an_extension_leaves_the_level_alone_and_gives_one_of_its_own_instead(tmp_path: Path) -> None:
    cells = cells_of(
        tmp_path, SPACE.replace("free_epochs = [1]", "free_epochs = [1, 2, 4]").replace("epochs = 2\n", "epochs = 9\n")
    )
    rivals = [cells["adam/bs96"], cells["adam-lawn/bs96"].keeping({"peak_lr": 0.001})]
    rivals[0] = replace(
        rivals[0], grid=replace(rivals[0].grid, values={**rivals[0].grid.values, "weight_decay": (0.1, 0.2, 0.4)})
    )
    won = {
        rivals[0].name: Winner(
            hyperparameters={"peak_lr": 0.02, "warmup_epochs": 1, "weight_decay": 0.2},
            keys=(),
            value=1,
            edges=("peak_lr",),
        ),
        rivals[1].name: Winner(
            hyperparameters={"peak_lr": 0.001, "warmup_epochs": 1, "free_epochs": 2}, keys=(), value=1, edges=()
        ),
    }
    grown = {cell.name.optimizer: cell for cell in extended(rivals, won)}
    assert len(grown["adam"].grid.values["peak_lr"]) == 3
    assert grown["adam-lawn"].grid.values["peak_lr"] == (0.001,)
    assert len(grown["adam-lawn"].grid.values["free_epochs"]) == 4
    assert grown["adam"].grid.size / rivals[0].grid.size == 3 / 2
