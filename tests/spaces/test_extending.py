"""A space that extends another is that space with what its file changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lawn_tune.planning.plan import plan
from search_spaces.loader import load_space
from search_spaces.space import SearchSpace, SpaceError
from tests.helpers.space_text import VALID

BATCH = "\n[optimizers.adam.batch.512]\nweight_decay = [0.2, 0.4]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.toml").write_text(VALID + BATCH)
    return tmp_path


def child(folder: Path, text: str, name: str = "child") -> SearchSpace:
    path = folder / f"{name}.toml"
    path.write_text(f'extends = "base"\n{text}')
    return load_space(path)


def test_nothing_changed_plans_the_same_trials(folder: Path) -> None:
    same = [plan(space) for space in (load_space(folder / "base.toml"), child(folder, ""))]
    keys = [[trial.key for cell in cells for trial in cell.search_trials] for cells in same]
    assert keys[0] == keys[1]
    assert {cell.name.space for cell in same[1]} == {"child"}


def test_keys_replace_and_tables_merge(folder: Path) -> None:
    base, mine = load_space(folder / "base.toml"), child(folder, 'description = "mine"\n[model]\nwidth = 4\n')
    assert (mine.description, mine.model) == ("mine", {"name": "small-vgg", "width": 4})
    assert (mine.grids, mine.budgets, mine.search_seeds) == (base.grids, base.budgets, base.search_seeds)


def test_notes_belong_to_the_description_of_the_same_file(folder: Path) -> None:
    noted = 'notes = """\nFirst\nline.\n\n  Second.\n"""\n' + VALID
    (folder / "base.toml").write_text(noted)
    assert child(folder, "").about == ("a valid space", "First line.", "Second.")
    assert child(folder, 'description = "mine"').about == ("mine",)
    assert child(folder, 'description = "mine"\nnotes = "Mine."').about == ("mine", "Mine.")


def test_methods_and_batch_sizes_are_chosen_in_their_order(folder: Path) -> None:
    mine = child(folder, 'methods = ["adam-lawn", "adam"]\nbatch_sizes = [512]\n')
    assert list(mine.grids) == ["adam-lawn", "adam"]
    assert [budget.batch_size for budget in mine.budgets] == [512]
    assert mine.grid("adam", 512).values["weight_decay"] == (0.2, 0.4)
    without = child(folder, "batch_sizes = [64]\n")
    assert not without.overrides, "levels of a batch size that it has not are left out"
    assert without.grids == load_space(folder / "base.toml").grids


def test_a_method_of_its_own_replaces_that_of_the_base(folder: Path) -> None:
    own = "[optimizers.adam]\npeak_lr = [0.5]\nwarmup_epochs = [0]\nweight_decay = [0]\n"
    mine = child(folder, own)
    assert mine.grids["adam"].values["peak_lr"] == (0.5,)
    assert not mine.overrides
    assert "adam-lawn" in mine.grids


def test_a_built_in_space_can_be_extended_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "digits"\nmethods = ["adam", "adam-lawn"]\n')
    assert list(load_space(tmp_path / "mine.toml").grids) == ["adam", "adam-lawn"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('methods = ["adm"]', "child.toml: methods: must be chosen from adam, adam-lawn, each once, got 'adm'"),
        ('methods = ["adam", "adam"]', "methods: must be chosen from adam, adam-lawn, each once, got 'adam'"),
        ('methods = "adam"', 'Write it as ["adam"].'),
        ("methods = 3", "methods: must be a list with at least one value, got 3"),
        ("methods = []", 'got []. Write a list such as ["adam", "adam-lawn"].'),
        ('batch_sizes = ["64"]', "each once, got '64'. Choose from these."),
        ("batch_sizes = [65]", "batch_sizes: must be chosen from 64, 512, each once, got 65"),
        ("batch_sizes = []", "batch_sizes: must be a list with at least one value"),
        ("batch_sizes = [[64]]", "batch_sizes: must be chosen from 64, 512"),
        ("budgets = 3", "child.toml: budgets: must be a list"),
        ("optimizers = 3", "child.toml: optimizers: must be a table"),
        ("wdith = 3", "child.toml: wdith: unknown key"),
        ('method = ["adam"]', "Did you mean 'methods'?"),
        ('methods = ["adam"]\n[optimizers.adm]\npeak_lr = [1]', "optimizers.adm: must be one of the methods"),
    ],
)
def test_what_breaks_the_form_is_named_with_its_file(folder: Path, text: str, words: str) -> None:
    with pytest.raises(SpaceError) as caught:
        child(folder, text + "\n")
    assert words in str(caught.value)


def test_pairs_of_the_base_go_with_its_methods_and_those_of_the_file_must_fit(folder: Path) -> None:
    pair = '\n[[compare]]\nchallenger = "adam-lawn"\nbaseline = "adam"\n'
    (folder / "base.toml").write_text(VALID + pair)
    assert child(folder, 'methods = ["adam"]\n').compare == ()
    with pytest.raises(SpaceError, match=r"compare\[0\]\.challenger: must be one of adam, got 'adam-lawn'"):
        plan(child(folder, f'methods = ["adam"]\n{pair}'))


def test_an_error_of_the_base_names_the_base(folder: Path) -> None:
    (folder / "base.toml").write_text(VALID.replace('loss = "cross-entropy"', "loss = 3"))
    with pytest.raises(SpaceError, match=r"base\.toml: loss: must be a non-empty string"):
        child(folder, "")


@pytest.mark.parametrize("text", ['extends = "nothing"\n', "extends = 3\n", 'extends = "child"\n', 'extends = "up"\n'])
def test_a_base_must_exist_and_lead_nowhere_back(folder: Path, text: str) -> None:
    (folder / "up.toml").write_text('extends = "child"\n')
    path = folder / "child.toml"
    path.write_text(text)
    with pytest.raises(SpaceError, match=r"extends: must (be the name of a space|not lead back)"):
        load_space(path)
