"""The spaces that come with the service: they plan, their grids are fair, and their headers are correct."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

import search_spaces
from lawn_tune.cells import Cell
from lawn_tune.comparison.published import paper_dataset, published_curve
from lawn_tune.planning.plan import plan, plan_all, twins
from lawn_tune.planning.spaces import builtin_spaces, find_space, find_spaces, in_group
from search_spaces.published import load_tables
from search_spaces.space import SpaceError
from trainables.catalogue.methods import METHODS

FOLDER = Path(search_spaces.__file__).parent
SPACES = builtin_spaces()
PAPER = ("sgd", "adam", "adam-lawn", "lamb", "lamb-lawn")


def header(name: str) -> str:
    lines = (FOLDER / f"{name}.toml").read_text().splitlines()
    return "\n".join(line.removeprefix("#") for line in lines if line.startswith("#"))


def bases(name: str) -> list[str]:
    """The spaces that a built-in space extends."""
    base = tomllib.loads((FOLDER / f"{name}.toml").read_text()).get("extends")
    return [base, *bases(base)] if base else []


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
        # Rates of different rules have different scales, so those of SGD are others than Adam's.
        for shared in ("warmup_epochs", *(["peak_lr"] if base.method.rule == challenger.method.rule else [])):
            own, theirs = challenger.grid.values[shared], base.grid.values[shared]
            assert shared in challenger.kept or (set(own) >= set(theirs) if challenger.kept else own == theirs)


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
    units = "".join(header(known).partition("Units")[2] for known in [name, *bases(name)])
    keys = {key for cell in cells for key in cell.grid.values} | {"batch_size", "epochs"}
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\b", units)] == []


def planned(group: str) -> tuple[Cell, ...]:
    return plan_all(find_spaces([group]))


def test_a_group_is_every_space_of_a_table() -> None:
    assert {cell.name.space for cell in planned("table4")} == {name for name in SPACES if name.startswith("table4_")}
    assert {cell.name.space for cell in planned("paper")} == {name for name in SPACES if name.startswith("table")}
    assert not any(in_group(name) for name in ("table", "table9", "digits"))


def test_every_published_cell_is_planned() -> None:
    """Of all tables: dataset, loss, method, batch size, where the paper gives it, and epochs."""
    have = {
        (task.dataset_row.published or task.dataset, task.loss, task.optimizer, size, task.epochs)
        for task in (cell.task for cell in planned("paper"))
        for size in (task.batch_size, None)
    }
    wanted = {
        (value.dataset, value.loss, value.method, value.batch_size, value.epochs)
        for table in load_tables()
        for value in table.values
    }
    recommenders, images, imagenet = 60 + 4 + 12, 2 * (15 + 4 + 12 + 2), 10
    assert len(wanted) == recommenders + images + imagenet
    assert wanted <= have


@pytest.mark.parametrize(
    ("figure", "table"),
    [("2a", "table3_cifar10"), ("2b", "table3_cifar100"), ("2c", "table4_movielens_1m"), ("2d", "table1_imagenet")],
)
def test_a_panel_of_figure_2_has_trials_of_its_table_and_a_published_curve(figure: str, table: str) -> None:
    keys, trained = (
        {trial.key for cell in plan(find_space(name)) for trial in cell.search_trials}
        for name in (f"figure{figure}", table)
    )
    assert keys <= trained
    for cell in plan(find_space(f"figure{figure}")):
        sizes = {budget.batch_size for budget in find_space(table).budgets}
        curve = published_curve(
            paper_dataset(cell.task), cell.name.optimizer, metric=cell.protocol.metric, loss=cell.task.loss
        )
        assert {value.batch_size for value in curve} == sizes


def test_what_tables_share_is_planned_once() -> None:
    paper = planned("paper")
    shared = {str(name): str(first) for name, first in twins(paper).items()}
    for method in ("adam", "adam-lawn"):
        for size in (10_000, 100_000):
            cell = f"{method}/bs{size}"
            assert shared[f"table4_movielens_1m/{cell}"] == f"table2_movielens_1m/{cell}"
            for images in ("cifar10", "cifar100"):
                cells = [f"table{table}_{images}/{method}/bs10000" for table in (2, 3, 6)]
                assert [shared.get(cell) for cell in cells] == [None, cells[0], cells[0]]
    assert len(shared) == 4 + 2 * (2 * 3 + 2 * 2)
    by_name = {str(cell.name): cell for cell in paper}
    for name, first in shared.items():
        keys = [[trial.key for trial in by_name[cell].search_trials] for cell in (name, first)]
        assert keys[0] == keys[1]


@pytest.mark.parametrize("name", [name for name in SPACES if name.startswith("table")])
def test_decay_spans_three_decades_in_the_papers_tables(name: str) -> None:
    for cell in plan(find_space(name)):
        levels = cell.grid.values.get("weight_decay")
        assert levels is None or max(levels) / min(levels) >= 1000 * (1 - 1e-9)


def test_most_trials_of_movielens_100k_are_those_of_its_table() -> None:
    keys = [
        {trial.key for cell in plan(find_space(name)) for trial in cell.search_trials}
        for name in ("movielens_100k", "table4_movielens_100k")
    ]
    all_rates, three_of_four = 24, 18
    assert len(keys[0] & keys[1]) == 2 * (all_rates + three_of_four) + 4 * (all_rates + 3 * three_of_four)


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
def test_an_unknown_name_shows_the_nearest_and_where_all_are_listed(name: str, near: str) -> None:
    with pytest.raises(SpaceError) as caught:
        find_space(name)
    message = str(caught.value)
    assert f"'{name}'" in message
    assert f"Did you mean '{near}'?" in message
    listed = (FOLDER.parent / "docs" / "spaces.md").read_text()
    papers = [known for known in SPACES if known.startswith(("table", "figure"))]
    assert all(known in message for known in SPACES if known not in papers)
    assert "docs/spaces.md" in message
    assert all(f"`{known}`" in listed for known in papers)


def test_a_name_may_be_given_once(tmp_path: Path) -> None:
    copy = tmp_path / "digits.toml"
    copy.write_text((FOLDER / "digits.toml").read_text())
    assert [space.name for space in find_spaces(["digits", "quickstart"])] == ["digits", "quickstart"]
    for beside in ((), ("table4",)):
        with pytest.raises(SpaceError, match="every space needs a name of its own, 'digits'"):
            find_spaces(["digits", *beside, copy])
        with pytest.raises(SpaceError, match="every space needs a name of its own, 'digits'"):
            find_spaces([*beside, "digits", "digits"])
    names = {space.name for space in find_spaces(["table4"])}
    assert {space.name for space in find_spaces(["table4_pinterest", "table4", "table4_pinterest", "paper"])} > names
