"""The spaces that come with the service: they plan, their grids are fair, and their headers are correct."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

import search_spaces
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import builtin_spaces, find_space, find_spaces
from search_spaces.space import SpaceError
from trainables.catalogue.methods import METHODS

FOLDER = Path(search_spaces.__file__).parent
SPACES = builtin_spaces()
PAPER = ("sgd", "adam", "adam-lawn", "lamb", "lamb-lawn")


def header(name: str) -> str:
    lines = (FOLDER / f"{name}.toml").read_text().splitlines()
    return "\n".join(line.removeprefix("#") for line in lines if line.startswith("#"))


def test_every_file_of_the_folder_is_built_in() -> None:
    assert tuple(sorted(path.stem for path in FOLDER.glob("*.toml"))) == SPACES
    assert {"quickstart", "digits", "fashion_mnist", "movielens_100k"} <= set(SPACES)


@pytest.mark.parametrize("name", SPACES)
def test_it_plans(name: str) -> None:
    space = find_space(name)
    cells = plan(space)
    assert space.name == name
    assert [(cell.name.optimizer, cell.name.batch_size) for cell in cells] == [
        (optimizer, budget.batch_size) for optimizer in space.grids for budget in space.budgets
    ]


@pytest.mark.parametrize("name", SPACES)
def test_rivals_have_grids_of_equal_size(name: str) -> None:
    cells = {(cell.name.optimizer, cell.name.batch_size): cell for cell in plan(find_space(name))}
    for size in {size for _, size in cells}:
        assert len({cell.grid.size for (_, other), cell in cells.items() if other == size}) == 1
    pairs = [(cell, cells[base, size]) for (_, size), cell in cells.items() for base in cell.baselines]
    assert pairs, "a space without a pair compares nothing"
    for challenger, base in pairs:
        for shared in ("peak_lr", "warmup_epochs"):
            assert base.grid.values[shared] == challenger.grid.values[shared]


@pytest.mark.parametrize("name", SPACES)
def test_its_header_gives_the_command_the_size_the_source_and_every_unit(name: str) -> None:
    text = header(name)
    cells = plan(find_space(name))
    search = sum(len(cell.search_trials) for cell in cells)
    confirm = sum(len(cell.protocol.confirm_seeds) for cell in cells)
    assert f"lawn-tune launch {name}\n" in text
    assert f"= {search} search trials" in text
    assert f"{len(cells)} winners" in text
    assert f"= {confirm} trials" in text
    assert re.search(r"(?m)^ Source +\w", text)
    units = text.partition("Units")[2]
    keys = {key for cell in cells for key in cell.grid.values} | {"batch_size", "epochs"}
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\b", units)] == []


@pytest.mark.parametrize(
    ("name", "optimizers", "batch_sizes"),
    [
        ("quickstart", ("adam", "adam-lawn"), (64, 512)),
        ("digits", ("sgd", "sgd-lawn", "adam", "adam-lawn", "lamb", "lamb-lawn"), (32, 128, 512)),
        ("digits_methods", [name for name in METHODS if not name.startswith("sgd")], (128,)),
        ("fashion_mnist", PAPER, (256, 4096, 10_000)),
        ("movielens_100k", PAPER, (1000, 10_000, 100_000, 400_000)),
    ],
)
def test_it_has_these_optimizers_and_batch_sizes(
    name: str, optimizers: Sequence[str], batch_sizes: Sequence[int]
) -> None:
    space = find_space(name)
    assert tuple(space.grids) == tuple(optimizers)
    assert tuple(budget.batch_size for budget in space.budgets) == tuple(batch_sizes)


def test_the_papers_epochs_on_movielens() -> None:
    assert [budget.epochs for budget in find_space("movielens_100k").budgets] == [300, 300, 500, 500]


def test_a_space_is_found_by_name_or_by_path(tmp_path: Path) -> None:
    copy = tmp_path / "mine.toml"
    copy.write_text((FOLDER / "digits.toml").read_text())
    assert find_space(str(copy)).grids == find_space(copy).grids == find_space("digits").grids
    assert find_space(copy).name == "mine"


@pytest.mark.parametrize(("name", "near"), [("digit", "digits"), ("movielens-100k", "movielens_100k")])
def test_an_unknown_name_lists_the_known_ones_and_the_nearest(name: str, near: str) -> None:
    with pytest.raises(SpaceError) as caught:
        find_space(name)
    message = str(caught.value)
    assert f"'{name}'" in message
    assert f"Did you mean '{near}'?" in message
    assert all(known in message for known in SPACES)


def test_a_name_may_be_given_once(tmp_path: Path) -> None:
    copy = tmp_path / "digits.toml"
    copy.write_text((FOLDER / "digits.toml").read_text())
    assert [space.name for space in find_spaces(["digits", "quickstart"])] == ["digits", "quickstart"]
    with pytest.raises(SpaceError, match="every space needs a name of its own, 'digits'"):
        find_spaces(["digits", copy])
