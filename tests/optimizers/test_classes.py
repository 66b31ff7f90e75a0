"""Torch optimizer classes: which are accepted, and what one is given of the hyperparameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from trainables.catalogue.methods import ADAM
from trainables.catalogue.rows import Hyperparameter
from trainables.optimizers import classes

NAMES = ("beta1", "beta2", "eps", "period", "nesterov", "absent")
"""Hyperparameters of the row; a class takes some of them."""


class Plain(torch.optim.Optimizer):
    """Accepts any arguments and keeps them."""

    def __init__(self, params: Any, lr: float, **given: Any) -> None:
        super().__init__(params, {"lr": lr, **given})


class Separate(Plain):
    def __init__(self, params: Any, lr: float, beta1: float = 0.5, beta2: float = 0.5, betas: Any = ()) -> None:
        super().__init__(params, lr, beta1=beta1, beta2=beta2, betas=betas)


class Undecided(Plain):
    def __init__(self, params: Any, lr: float, betas: Any = None) -> None:
        super().__init__(params, lr, betas=betas)


class Typed(Plain):
    def __init__(self, params: Any, lr: float, eps: float = 1.0, period: int = 10, nesterov: bool = False) -> None:
        super().__init__(params, lr, eps=eps, period=period, nesterov=nesterov)


class WithoutRate(torch.optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {})


class WithClosure(Plain):
    def step(self, closure: Any) -> None:  # type: ignore[override]
        """Makes no step."""


def built(name: str, values: dict[str, float]) -> dict[str, Any]:
    rule = replace(ADAM, optimizer=name, hyperparameters=tuple(Hyperparameter(name=name) for name in NAMES))
    (group,) = classes.build(rule, dict.fromkeys(NAMES, 0.75) | values, [torch.ones(1)]).param_groups
    return group


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("torch.optim:AdamW", {"beta1": 0.6, "beta2": 0.7}, {"lr": 0.25, "betas": (0.6, 0.7), "eps": 0.75}),
        (f"{__name__}:Undecided", {"beta1": 0.6, "beta2": 0.7}, {"betas": (0.6, 0.7)}),
        (f"{__name__}:Separate", {"beta1": 0.6, "beta2": 0.7}, {"beta1": 0.6, "beta2": 0.7, "betas": ()}),
        (f"{__name__}:Typed", {"period": 3.0, "nesterov": 1.0}, {"period": 3, "nesterov": True, "eps": 0.75}),
        (f"{__name__}:Typed", {"period": 3.5, "eps": 2.0}, {"period": 3.5, "eps": 2.0}),
    ],
)
def test_a_class_is_given_the_hyperparameters_it_takes(
    name: str, values: dict[str, float], expected: dict[str, Any]
) -> None:
    group = built(name, values | {"peak_lr": 0.25})
    found = {key: group[key] for key in expected}
    assert found == expected
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in expected.items()}


@pytest.mark.parametrize(
    ("name", "betas"), [("torch.optim:Adam", (0.9, 0.999)), (f"{__name__}:Undecided", (0.9, 0.999))]
)
@pytest.mark.parametrize("values", [{}, {"beta1": 0.6}, {"beta2": 0.7}])
def test_betas_that_a_grid_omits_keep_their_defaults(
    name: str, betas: tuple[float, float], values: dict[str, float]
) -> None:
    rule = replace(ADAM, optimizer=name)
    (group,) = classes.build(replace(rule, hyperparameters=()), values | {"peak_lr": 0.1}, [torch.ones(1)]).param_groups
    assert group["betas"] == (values.get("beta1", betas[0]), values.get("beta2", betas[1]))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere:Own", "cannot be imported: ModuleNotFoundError"),
        ("torch:Tensor", "must be a subclass of torch.optim.Optimizer, got <class 'torch.Tensor'>"),
        (f"{__name__}:WithoutRate", "must take the argument lr"),
        (f"{__name__}:WithClosure", "must make its step without a closure"),
    ],
)
def test_a_class_that_a_loop_cannot_use_is_named_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(classes.OptimizerClassError, match=f"^optimizer class {name} {reason}"):
        classes.class_of(replace(ADAM, optimizer=name))
