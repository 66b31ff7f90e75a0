"""The check of a space against its data set, model and optimizers: one clear error each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lawn_tune.planning.check import MAX_POINTS, catalogue_of
from lawn_tune.planning.check import check as check_against
from lawn_tune.planning.spaces import find_space
from search_spaces.space import Budget, Grid, Pairing, SearchSpace, SpaceError
from search_spaces.table import LARGEST
from trainables.catalogue.rows import Option, Value

BASE = replace(find_space("quickstart"), source=Path("mine.toml"))
ADAM = BASE.grids["adam"].values
LAWN = BASE.grids["adam-lawn"].values
SINGLE = {"warmup_epochs": (1.0,), "weight_decay": (0.1,)}
Change = Callable[[], SearchSpace]


def check(space: SearchSpace) -> None:
    check_against(*catalogue_of(space))


def grid(optimizer: str, values: dict[str, tuple[float, ...]]) -> Change:
    return lambda: replace(BASE, grids={optimizer: Grid(values)})


def set_to(**values: object) -> Change:
    return lambda: replace(BASE, **values)  # type: ignore[arg-type]


def without(values: object, key: str) -> dict[str, tuple[float, ...]]:
    assert isinstance(values, dict)
    return {name: levels for name, levels in values.items() if name != key}


MOVIES = replace(find_space("movielens_100k"), source=Path("mine.toml"))

ERRORS: dict[str, tuple[Change, list[str]]] = {
    "unknown data set": (
        set_to(dataset="digit"),
        ["mine.toml: dataset: must be one of", "movielens-100k", "got 'digit'", "Did you mean 'digits'?"],
    ),
    "unknown model": (
        set_to(model={"name": "smal-vgg"}),
        [
            "mine.toml: model.name: must be one of small-vgg, vgg-19, resnet-50, ncf",
            "got 'smal-vgg'",
            "Did you mean 'small-vgg'?",
        ],
    ),
    "model that does not fit": (
        set_to(model={"name": "ncf"}),
        ["mine.toml: model.name: must fit the dataset digits, which takes small-vgg", "got 'ncf'"],
    ),
    "unknown model option": (
        set_to(model={"name": "small-vgg", "widht": 8}),
        ["mine.toml: model.widht: unknown option; small-vgg has width", "got 8", "Did you mean 'width'?"],
    ),
    "model option of the wrong type": (
        set_to(model={"name": "small-vgg", "width": 8.0}),
        ["mine.toml: model.width: must be a whole number from 1", "got 8.0"],
    ),
    "model option true": (
        set_to(model={"name": "small-vgg", "width": True}),
        ["mine.toml: model.width: must be a whole number from 1", "got True"],
    ),
    "model option zero": (
        set_to(model={"name": "small-vgg", "width": 0}),
        ["mine.toml: model.width: must be a whole number from 1", "got 0"],
    ),
    "model option outside its values": (
        lambda: replace(MOVIES, model={"name": "ncf", "init": "normal"}),
        ["mine.toml: model.init: must be one of normal-0.01, xavier", "got 'normal'"],
    ),
    "unknown loss": (set_to(loss="mse"), ["mine.toml: loss: must be one of cross-entropy, bce", "got 'mse'"]),
    "loss that does not fit": (
        set_to(loss="bce"),
        ["mine.toml: loss: must fit the dataset digits, which takes cross-entropy", "got 'bce'"],
    ),
    "unknown metric": (
        set_to(metric="acuracy"),
        ["mine.toml: metric: must be one of accuracy, accuracy@5, hr@10", "got 'acuracy'", "Did you mean 'accuracy'?"],
    ),
    "metric that does not fit": (
        set_to(metric="hr@10"),
        ["mine.toml: metric: must fit the dataset digits, which takes accuracy", "got 'hr@10'"],
    ),
    "unknown selection": (
        set_to(selection="train"),
        ["mine.toml: selection: must be one of validation, test", "got 'train'"],
    ),
    "unknown report": (set_to(reported="first"), ["mine.toml: reported: must be one of last, best", "got 'first'"]),
    "unknown schedule": (
        set_to(schedule="cosin"),
        ["mine.toml: schedule: must be one of linear, cosine", "got 'cosin'", "Did you mean 'cosine'?"],
    ),
    "unknown constraint": (
        set_to(constrain="none"),
        ["mine.toml: constrain: must be one of all, final", "got 'none'"],
    ),
    "model of infinite width": (
        set_to(model={"name": "small-vgg", "width": 10**400}),
        ["mine.toml: model.width: must be a whole number from 1 to 2147483647", "got 1000"],
    ),
    "method that does not fit the loss": (
        lambda: replace(grid("adam-lsr", without(ADAM, "weight_decay"))(), loss="focal-2"),
        [
            "mine.toml: optimizers.adam-lsr: must be a method that fits the loss focal-2",
            "got 'smoothing'. Choose another loss.",
        ],
    ),
    "unknown precision": (
        set_to(precision="float16"),
        ["mine.toml: precision: must be one of float32, bfloat16", "got 'float16'"],
    ),
    "batch larger than the data": (
        set_to(budgets=(Budget(batch_size=64, epochs=20), Budget(batch_size=1294, epochs=20))),
        ["mine.toml: budgets[1].batch_size: must be at most the 1293 training examples of digits", "got 1294"],
    ),
    "unknown optimizer": (
        grid("adamw", dict(ADAM)),
        ["mine.toml: optimizers.adamw: must be one of sgd, sgd-lawn, adam,", "got 'adamw'", "Did you mean 'adam'?"],
    ),
    "unknown hyperparameter": (
        grid("adam", {**ADAM, "peak_rl": (1.0,)}),
        ["mine.toml: optimizers.adam.peak_rl: unknown hyperparameter; adam has", "[1.0]", "Did you mean 'peak_lr'?"],
    ),
    "field of another optimizer": (
        grid("adam", {**ADAM, "momentum": (0.9,)}),
        ["mine.toml: optimizers.adam.momentum: unknown hyperparameter; adam has", "[0.9]"],
    ),
    "LAWN with weight decay": (
        grid("adam-lawn", {**LAWN, "weight_decay": (0.1,)}),
        ["mine.toml: optimizers.adam-lawn.weight_decay", "[0.1]", "its control is LAWN, which has free_epochs. "],
    ),
    "base optimizer with a free phase": (
        grid("adam", {**ADAM, "free_epochs": (1.0,)}),
        [
            "mine.toml: optimizers.adam.free_epochs",
            "[1.0]",
            "its control is decoupled weight decay, which has weight_decay. ",
        ],
    ),
    "weight decay without a control": (
        grid("adam-no-decay", dict(ADAM)),
        ["unknown hyperparameter; adam-no-decay has peak_lr, warmup_epochs, beta1, beta2, eps, got [", "]. Rename or"],
    ),
    "rate of zero": (
        grid("adam", {**ADAM, "peak_lr": (0.0, 0.1)}),
        ["mine.toml: optimizers.adam.peak_lr: must contain only finite numbers above 0, got 0.0"],
    ),
    "epsilon of zero": (
        grid("adam", {**ADAM, "eps": (0.0,)}),
        ["mine.toml: optimizers.adam.eps: must contain only finite numbers above 0, got 0.0"],
    ),
    "override of no batch size": (
        set_to(overrides={"adam": {65: {"peak_lr": (0.1,)}}}),
        ["mine.toml: optimizers.adam.batch.65: must be one of the batch sizes of [[budgets]], 64, 512", "got 65"],
    ),
    "unknown key in an override": (
        set_to(overrides={"adam": {64: {"peak_rl": (0.1,)}}}),
        ["mine.toml: optimizers.adam.batch.64.peak_rl: unknown hyperparameter", "Did you mean 'peak_lr'?"],
    ),
    "too long a warm-up in an override": (
        set_to(overrides={"adam": {64: {"warmup_epochs": (99.0,)}}}),
        ["mine.toml: optimizers.adam.batch.64.warmup_epochs: must be below the 20 epochs of batch size 64", "got 99.0"],
    ),
    "comparison with a method that is not there": (
        set_to(compare=(Pairing(challenger="adam-lawn", baseline="sgd"),)),
        ["mine.toml: compare[0].baseline: must be one of adam, adam-lawn", "got 'sgd'"],
    ),
    "comparison with itself": (
        set_to(compare=(Pairing(challenger="adam", baseline="adam"),)),
        ["mine.toml: compare[0]: must be a pair of two methods, each pair once", "got 'adam'"],
    ),
    "baseline that is not there": (
        set_to(
            catalogue={"methods": {"mine": {"label": "mine", "rule": "adam", "baseline": "adm"}}},
            grids={"mine": Grid(without(ADAM, "weight_decay"))},
        ),
        ["mine.toml: catalogue.methods.mine.baseline: must be one of sgd, ", "got 'adm'", "Did you mean 'adam'?"],
    ),
    "row without a label": (
        set_to(catalogue={"methods": {"mine": {"rule": "adam"}}}),
        ["mine.toml: catalogue: methods.mine.label: missing key"],
    ),
    "no rate": (
        grid("adam", without(ADAM, "peak_lr")),
        ["mine.toml: optimizers.adam.peak_lr: missing key", "adam requires peak_lr, warmup_epochs, weight_decay"],
    ),
    "no warm-up": (
        grid("adam", without(ADAM, "warmup_epochs")),
        ["mine.toml: optimizers.adam.warmup_epochs: missing key", "Add it"],
    ),
    "no decay": (
        grid("adam", without(ADAM, "weight_decay")),
        ["mine.toml: optimizers.adam.weight_decay: missing key", "Add it"],
    ),
    "no free phase": (
        grid("adam-lawn", without(LAWN, "free_epochs")),
        ["mine.toml: optimizers.adam-lawn.free_epochs: missing key", "adam-lawn requires peak_lr, warmup_epochs, free"],
    ),
    "an average that never forgets": (
        grid("adam", {**ADAM, "beta2": (0.99, 1.0)}),
        ["mine.toml: optimizers.adam.beta2: must contain only numbers >= 0 and below 1", "got 1.0"],
    ),
    "warm-up as long as a budget": (
        grid("adam", {**ADAM, "warmup_epochs": (2.0, 20.0)}),
        ["mine.toml: optimizers.adam.warmup_epochs: must be below the 20 epochs of batch size 64", "got 20.0"],
    ),
    "a grid that is not coarse": (
        grid(
            "adam",
            {**ADAM, "peak_lr": tuple(float(i) for i in range(1, 102)), "beta1": tuple(i / 99 for i in range(99))},
        ),
        [f"mine.toml: optimizers.adam: must have at most {MAX_POINTS} points", f"got {101 * 99 * 3}"],
    ),
    "an override that is not coarse": (
        set_to(overrides={"adam": {64: {"peak_lr": tuple(float(i) for i in range(1, MAX_POINTS + 2))}}}),
        [f"mine.toml: optimizers.adam.batch.64: must have at most {MAX_POINTS} points"],
    ),
}


@pytest.mark.parametrize(("change", "parts"), ERRORS.values(), ids=ERRORS)
def test_each_misfit_is_one_clear_error(change: Change, parts: list[str]) -> None:
    with pytest.raises(SpaceError) as caught:
        check(change())
    message = str(caught.value)
    assert [part for part in parts if part not in message] == []
    assert message.endswith(".")


@pytest.mark.parametrize("default", [16, 0.5, False, "wide"])
@pytest.mark.parametrize("value", [1, LARGEST, 0, LARGEST + 1, -1, 0.5, math.inf, math.nan, True, False, "", "narrow"])
def test_a_model_s_option_is_a_usable_value_of_its_default_s_type(default: Value, value: Value) -> None:
    space, known = catalogue_of(replace(BASE, model={"name": "small-vgg", "size": value}))
    model = replace(known.models["small-vgg"], options=(Option(name="size", default=default),))
    known = replace(known, models={**known.models, "small-vgg": model})
    usable = 1 <= value <= LARGEST if type(value) is int else not isinstance(value, float) or math.isfinite(value)
    if usable and type(value) is type(default):
        check_against(space, known)
    else:
        with pytest.raises(SpaceError, match=r"model\.size: must be (a whole number|a finite number|of type)"):
            check_against(space, known)


def test_the_shortest_budget_bounds_the_warm_up() -> None:
    budgets = (Budget(batch_size=64, epochs=20), Budget(batch_size=512, epochs=5))
    fits = replace(BASE, budgets=budgets)
    check(fits)
    with pytest.raises(SpaceError, match="below the 2 epochs of batch size 512, got 2"):
        check(replace(BASE, budgets=(budgets[0], replace(budgets[1], epochs=2))))


def test_what_is_unusual_but_right_passes() -> None:
    check(replace(BASE, model={"name": "small-vgg"}))
    check(replace(BASE, selection="test", reported="best", schedule="cosine", constrain="final", precision="bfloat16"))
    never_constrained = Grid({**LAWN, "free_epochs": (0.0, 0.5, 1000.0)})
    check(replace(BASE, grids={"adam-lawn": never_constrained}))
    check(replace(BASE, grids={"adam": Grid({**ADAM, "warmup_epochs": (0.0, 19.5), "eps": (1e-10,)})}))
    check(replace(BASE, budgets=(Budget(batch_size=1293, epochs=20),)))
    check(replace(BASE, grids={"adam": Grid({**ADAM, "peak_lr": tuple(map(float, range(1, 10_001))), **SINGLE})}))
    check(replace(MOVIES, metric="ndcg@10", model={"name": "ncf", "init": "xavier", "factors": 8}))
