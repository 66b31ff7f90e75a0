"""The planner: order, filters, caps and seeds, and that every key of a space counts."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lawn_tune.cells import Cell
from lawn_tune.comparison.compare import compare
from lawn_tune.errors import UsageError
from lawn_tune.planning.plan import plan, plan_all, unconstrained_points
from lawn_tune.planning.spaces import find_space
from search_spaces.space import Budget, Grid, Pairing, SearchSpace
from trainables.catalogue.methods import METHODS
from trainables.tasks import trial_key

BASE = replace(find_space("quickstart"), source=Path("mine.toml"))


def keys(space: SearchSpace) -> set[str]:
    return {trial.key for cell in plan(space) for trial in cell.search_trials}


def dicts(space: SearchSpace) -> list[object]:
    return [cell.to_dict() for cell in plan(space)]


def names(cells: tuple[Cell, ...]) -> list[str]:
    return [str(cell.name) for cell in cells]


def test_order_is_optimizers_as_in_the_file_then_batch_sizes_rising() -> None:
    space = replace(BASE, budgets=BASE.budgets[::-1], grids=dict(list(BASE.grids.items())[::-1]))
    assert names(plan(space)) == [
        "quickstart/adam-lawn/bs64",
        "quickstart/adam-lawn/bs512",
        "quickstart/adam/bs64",
        "quickstart/adam/bs512",
    ]


def test_keys_are_unique_and_do_not_hang_on_any_order() -> None:
    trials = [trial for cell in plan(BASE) for trial in cell.search_trials]
    assert len(keys(BASE)) == len(trials) == sum(grid.size for grid in BASE.grids.values()) * len(BASE.budgets)
    turned = {
        name: Grid({key: levels[::-1] for key, levels in list(grid.values.items())[::-1]})
        for name, grid in list(BASE.grids.items())[::-1]
    }
    assert keys(replace(BASE, budgets=BASE.budgets[::-1], grids=turned)) == keys(BASE)


def test_planning_twice_is_the_same() -> None:
    assert dicts(BASE) == dicts(find_space("quickstart"))


def test_a_cell_survives_its_round_trip() -> None:
    for cell in plan(BASE, max_epochs=7, seeds=5):
        assert Cell.from_dict(cell.to_dict()) == cell


OTHER = {
    "dataset": "synthetic",
    "model": {"name": "small-vgg", "width": 4},
    "schedule": "cosine",
    "constrain": "final",
    "precision": "bfloat16",
    "search_seeds": (7,),
    "budgets": (Budget(batch_size=65, epochs=20), Budget(batch_size=192, epochs=21)),
    "grids": {"sgd": Grid({"peak_lr": (1.0,), "warmup_epochs": (1.0,), "weight_decay": (0.0,)})},
}
"""Keys that change what is trained, with another value each."""

PROTOCOL = {"selection": "test", "reported": "best", "margin": 0.2, "confirm_seeds": (5, 6)}
"""Keys that change what is read from it."""

COUPLED = {"loss": "bce", "metric": "ndcg@10"}
"""Keys that have another value on another data set only."""


TESTED_BELOW = ("overrides", "compare", "catalogue")
TESTED_WITH_FUNCTIONS = ("trainable", "workload", "sources", "examples", "data", "classes")
"""In tests/functions."""


def test_the_tables_hold_every_key_that_is_not_for_people() -> None:
    counted = {*OTHER, *PROTOCOL, *COUPLED, *TESTED_BELOW, *TESTED_WITH_FUNCTIONS}
    assert counted == {field.name for field in fields(SearchSpace)} - {"name", "source", "description", "notes"}


@pytest.mark.parametrize("key", OTHER)
def test_every_training_key_changes_the_keys_of_trials(key: str) -> None:
    small = replace(BASE, budgets=(Budget(batch_size=64, epochs=20), Budget(batch_size=192, epochs=20)))
    changed = keys(replace(small, **{key: OTHER[key]}))  # type: ignore[arg-type]
    assert changed
    assert not changed & keys(small)


def test_a_micro_batch_is_part_of_the_key_only_where_there_is_one() -> None:
    whole, parts = (
        replace(BASE, budgets=(Budget(batch_size=64, epochs=20, micro_batch=micro_batch),))
        for micro_batch in (None, 16)
    )
    assert not keys(whole) & keys(parts)
    assert "micro_batch" not in str(dicts(whole))
    cell = plan(parts)[0]
    assert cell.task.at_once == 16
    assert Cell.from_dict(cell.to_dict()) == cell
    assert "each step adds up micro-batches of 16" in str(compare([cell], [], {}).cells[0].notes)


@pytest.mark.parametrize("key", PROTOCOL)
def test_every_protocol_key_changes_the_plan_but_no_trial_of_the_search(key: str) -> None:
    space = replace(BASE, **{key: PROTOCOL[key]})  # type: ignore[arg-type]
    assert dicts(space) != dicts(BASE)
    assert keys(space) == keys(BASE)


def test_loss_and_metric_count_where_they_can_differ() -> None:
    task = plan(BASE)[0].task
    point = plan(BASE)[0].grid.point(0)
    assert trial_key(task, 0, point) != trial_key(replace(task, loss=COUPLED["loss"]), 0, point)
    movies = find_space("movielens_100k")
    other = replace(movies, metric=COUPLED["metric"])
    assert {cell.protocol.metric for cell in plan(other)} == {"ndcg@10"}
    assert keys(other) == keys(movies)


@pytest.mark.parametrize("optimizer", METHODS)
def test_every_hyperparameter_changes_the_keys(optimizer: str) -> None:
    values = dict.fromkeys(METHODS[optimizer].required, (1.0,)) | {"peak_lr": (0.1,)}
    for key in METHODS[optimizer].hyperparameters:
        one, two = (replace(BASE, grids={optimizer: Grid({**values, key: (level,)})}) for level in (0.25, 0.5))
        assert not keys(one) & keys(two), key


def test_a_default_written_out_is_the_same_training() -> None:
    grid = BASE.grids["adam"]
    space = replace(BASE, grids={**BASE.grids, "adam": Grid({**grid.values, "beta1": (0.9,)})})
    assert keys(space) == keys(BASE)


# --- filters, caps, seeds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["adam/*"], ["adam/bs64", "adam/bs512"]),
        (["adam*/bs64"], ["adam/bs64", "adam-lawn/bs64"]),
        (["*/bs512", "adam/bs64"], ["adam/bs64", "adam/bs512", "adam-lawn/bs512"]),
        (["quickstart/adam-lawn/bs64"], ["adam-lawn/bs64"]),
        (["quickstart/*"], ["adam/bs64", "adam/bs512", "adam-lawn/bs64", "adam-lawn/bs512"]),
        (["adam/bs[56]*"], ["adam/bs64", "adam/bs512"]),
    ],
)
def test_patterns_choose_cells_in_plan_order(patterns: list[str], expected: list[str]) -> None:
    assert names(plan(BASE, cells=patterns)) == [f"quickstart/{name}" for name in expected]


@pytest.mark.parametrize("pattern", ["adam", "bs64", "ADAM/*", "adam/bs6", "digits/adam/bs64", ""])
def test_a_pattern_that_matches_nothing_is_an_error_that_lists_the_cells(pattern: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan(BASE, cells=["adam/*", pattern])
    assert f"--cells '{pattern}' matches no cell of: quickstart/adam/bs64, " in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_of_several_spaces_a_pattern_has_to_match_in_one() -> None:
    spaces = (BASE, find_space("digits"))
    assert names(plan_all(spaces, cells=["lamb/bs32"])) == ["digits/lamb/bs32"]
    assert names(plan_all(spaces)) == names(plan(spaces[0])) + names(plan(spaces[1]))
    with pytest.raises(UsageError, match="'lamb/bs64' matches no cell"):
        plan_all(spaces, cells=["lamb/bs64"])


@given(st.integers(3, 40))
def test_a_cap_lowers_epochs_and_nothing_else(cap: int) -> None:
    for free, capped in zip(plan(BASE), plan(BASE, max_epochs=cap), strict=True):
        assert capped.task == replace(free.task, epochs=min(free.task.epochs, cap))
        assert (capped.grid, capped.protocol, capped.name) == (free.grid, free.protocol, free.name)
        assert capped.protocol.full_epochs == free.task.epochs


@pytest.mark.parametrize("cap", [1, 2])
def test_a_cap_within_the_warm_up_is_an_error(cap: int) -> None:
    with pytest.raises(UsageError) as caught:
        plan(BASE, max_epochs=cap)
    assert f"--max-epochs {cap} ends quickstart/adam/bs64" in caught.value.message
    assert "mine.toml: optimizers.adam.warmup_epochs has 2" in caught.value.message
    assert "above 2" in str(caught.value.hint)
    assert f"the warm-up in the file; of its levels, those below {cap} fit: none." in str(caught.value.hint)


def test_a_cap_names_the_levels_that_fit_and_spares_built_in_files() -> None:
    with pytest.raises(UsageError) as caught:
        plan(find_space("digits"), max_epochs=3)
    assert "in a copy of the file" in str(caught.value.hint)
    levels = find_space("digits").grids["sgd"].values["warmup_epochs"]
    fitting = ", ".join(f"{level:g}" for level in levels if level < 3) or "none"
    assert f"those below 3 fit: {fitting}." in str(caught.value.hint)


@given(st.integers(3, 40))
def test_points_whose_free_phase_fills_the_training_are_counted(cap: int) -> None:
    for cell in plan(BASE, max_epochs=cap):
        levels = cell.grid.values.get("free_epochs", ())
        share = sum(level >= cell.task.epochs for level in levels)
        assert unconstrained_points(cell) * max(len(levels), 1) == cell.grid.size * share


def test_a_cap_concerns_chosen_cells_only() -> None:
    slow = Grid({**BASE.grids["adam-lawn"].values, "warmup_epochs": (10.0,)})
    space = replace(BASE, grids={**BASE.grids, "adam-lawn": slow})
    assert len(plan(space, cells=["adam/*"], max_epochs=5)) == 2
    with pytest.raises(UsageError, match="adam-lawn"):
        plan(space, max_epochs=5)


@given(st.integers(1, 12))
def test_confirm_seeds_are_the_files_then_count_on(count: int) -> None:
    space = replace(BASE, search_seeds=(104, 0), confirm_seeds=(106, 101, 103))
    seeds = plan(space, seeds=count)[0].protocol.confirm_seeds
    assert seeds == (106, 101, 103, 105, 107, 108, 109, 110, 111, 112, 113, 114)[:count]


def test_confirm_seeds_step_over_search_seeds() -> None:
    space = replace(BASE, search_seeds=(104,), confirm_seeds=(101, 103))
    assert plan(space, seeds=5)[0].protocol.confirm_seeds == (101, 103, 105, 106, 107)


@pytest.mark.parametrize("value", [0, -1])
def test_numbers_below_one_are_errors(value: int) -> None:
    with pytest.raises(UsageError, match=f"--max-epochs must be a whole number from 1, got {value}"):
        plan(BASE, max_epochs=value)
    with pytest.raises(UsageError, match=f"--seeds must be a whole number from 1, got {value}"):
        plan(BASE, seeds=value)


# --- a grid per cell, declared comparisons, rows of a space's own ----------------------------------------------------


def test_a_batch_size_overrides_levels_of_its_own_cell_only() -> None:
    levels: dict[str, tuple[float, ...]] = {"peak_lr": (0.5, 1.0), "weight_decay": (0.3,)}
    space = replace(BASE, overrides={"adam": {512: levels}})
    for changed, plain in zip(plan(space), plan(BASE), strict=True):
        expected = {**plain.grid.values, **levels} if str(plain.name).endswith("/adam/bs512") else plain.grid.values
        assert changed.grid.values == expected
        assert list(changed.grid.values) == list(plain.grid.values)
        shared = {trial.key for trial in plain.search_trials} & {trial.key for trial in changed.search_trials}
        assert bool(shared) == (expected == plain.grid.values)


def test_lawn_is_compared_with_weight_decay_unless_the_space_declares_more() -> None:
    assert {cell.name.optimizer: cell.baselines for cell in plan(BASE)} == {"adam": (), "adam-lawn": ("adam",)}
    turned = replace(BASE, compare=(Pairing(challenger="adam", baseline="adam-lawn"),))
    assert {cell.name.optimizer: cell.baselines for cell in plan(turned)} == {"adam": ("adam-lawn",), "adam-lawn": ()}
    assert keys(turned) == keys(BASE)


ROWS: dict[str, dict[str, dict[str, Any]]] = {
    "losses": {"hinge": {"label": "hinge", "targets": "classes", "function": "nowhere:hinge"}},
    "controls": {"shrink": {"label": "shrinking", "hook": "nowhere:Shrink", "hyperparameters": [{"name": "rate"}]}},
    "methods": {"adam-shrink": {"label": "Adam, shrinking", "rule": "adam", "control": "shrink", "baseline": "adam"}},
}
OWN = replace(
    BASE,
    loss="hinge",
    grids={**BASE.grids, "adam-shrink": Grid({"peak_lr": (0.1,), "warmup_epochs": (1.0,), "rate": (0.1, 0.2)})},
    catalogue=ROWS,
)


def test_a_cell_carries_the_rows_that_are_not_built_in_and_survives_json() -> None:
    for cell in plan(OWN):
        again = Cell.from_dict(json.loads(json.dumps(cell.to_dict())))
        assert again == cell
        assert [trial.key for trial in again.search_trials] == [trial.key for trial in cell.search_trials]
        assert again.task.loss_row.function == "nowhere:hinge"
    last = plan(OWN)[-1]
    assert last.method.label == "Adam, shrinking"
    assert last.baselines == ("adam",)
    assert last.method.names("control") == ("rate",)
    assert all(not cell.task.rows for cell in plan(BASE))


@pytest.mark.parametrize(
    ("kind", "name", "key", "value", "trains"),
    [
        ("losses", "hinge", "function", "nowhere:other", True),
        ("controls", "shrink", "hook", "nowhere:Other", True),
        ("losses", "hinge", "label", "other", False),
        ("methods", "adam-shrink", "label", "other", False),
        ("methods", "adam-shrink", "baseline", "", False),
    ],
)
def test_what_a_row_trains_is_part_of_the_key_and_what_it_shows_is_not(
    kind: str, name: str, key: str, value: str, trains: bool
) -> None:
    rows = {**ROWS, kind: {name: {**ROWS[kind][name], key: value}}}
    one, other = (plan(space, cells=["adam-shrink/*"]) for space in (OWN, replace(OWN, catalogue=rows)))
    changed = [a.search_trials != b.search_trials for a, b in zip(one, other, strict=True)]
    assert changed == [trains] * len(one)
