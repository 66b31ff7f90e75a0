"""Every folder of `examples/` is a space that plans as it stands, with the verdict that it ended with."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from benchmarks.examples import VERDICT
from lawn_tune.planning.plan import plan
from search_spaces.loader import load_space
from tests.helpers.functions import Functions, end_of
from tests.helpers.own_workload import summaries

ROOT = Path(__file__).parents[2]
SPACES = sorted((ROOT / "examples").glob("*/*.toml"))


def few_epochs(folder: Path, source: str, epochs: int) -> Functions:
    """An example's space and source in another folder, with fewer epochs."""
    (space,) = (ROOT / "examples" / folder.name).glob("*.toml")
    text = re.sub(r"epochs = \d+\n", f"epochs = {epochs}\n", space.read_text())
    return Functions(folder, (space.parent / source).read_text(), text, source)


@pytest.mark.parametrize("space", SPACES, ids=lambda path: path.stem)
def test_an_example_plans_a_pair_and_shows_its_verdict(space: Path) -> None:
    cells = plan(load_space(space))
    assert [cell.task.optimizer for cell in cells] == ["adam", "adam-lawn"]
    verdict = (space.parent / VERDICT).read_text()
    assert all(cell.method.label in verdict for cell in cells)
    assert f"{len(cells[0].protocol.confirm_seeds)} seeds" in verdict
    assert f"examples/{space.parent.name}" in (ROOT / "README.md").read_text()


def test_the_transformer_is_trained_in_packs(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    own = few_epochs(tmp_path / "text", "text.py", 3)
    first, second = summaries(end_of(own.run(own.job(1, trials=2))))
    assert first["last/train_loss"] < 2.5, "a guess has log 33 = 3.5"
    assert first["last/train_loss"] != second["last/train_loss"]


@pytest.mark.long
def test_a_trial_of_the_image_folder_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples/images/make_images.py"))
    (tmp_path / "images").mkdir()
    own = few_epochs(tmp_path / "images", "train.py", 2)
    said = own.run(own.job(), data_dir=str(tmp_path / "data"))
    (outcome,) = end_of(said)["outcomes"]
    assert outcome["example_count"] == 797
    assert outcome["summary"]["last/train_loss"] < 2
    assert not [text for message in said for text in message.get("warnings", ())]
