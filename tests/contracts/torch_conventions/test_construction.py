"""What an optimizer is made of: parameters in every form that torch takes, and what torch refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.conventions import (
    OPTIMIZERS,
    PHASES,
    Case,
    assert_close,
    assert_same,
    each_class,
    each_optimizer,
    every,
    parameters,
    through_both,
    through_disk,
    train,
)

GIVEN: Mapping[str, Callable[[list[Tensor]], Any]] = {
    "list": lambda ps: ps,
    "tuple": tuple,
    "generator": lambda ps: (p for p in ps),
    "parameter list": lambda ps: nn.ParameterList(ps).parameters(),
    "named": lambda ps: [(f"p{i}", p) for i, p in enumerate(ps)],
    "named generator": lambda ps: nn.ParameterList(ps).named_parameters(),
    "items of a dict": lambda ps: {f"p{i}": p for i, p in enumerate(ps)}.items(),
    "group": lambda ps: [{"params": ps}],
    "group of a generator": lambda ps: [{"params": (p for p in ps)}],
    "groups of one": lambda ps: [{"params": p} for p in ps],
    "named group": lambda ps: [{"params": nn.ParameterList(ps).named_parameters()}],
}


@pytest.mark.parametrize("given", GIVEN)
@through_both
def test_parameters_come_in_every_form_that_torch_takes(case: Case, given: str) -> None:
    ps, plain = parameters(), parameters()
    optimizer = case(GIVEN[given](ps))
    assert [p for group in optimizer.param_groups for p in group["params"]] == ps
    assert ("param_names" in optimizer.param_groups[0]) == ("named" in given or "items" in given)
    train(ps, optimizer, range(5))
    train(plain, case(plain), range(5))
    assert_close(ps, plain)


@pytest.mark.parametrize(
    ("params", "error", "text"),
    [
        ([], ValueError, "optimizer got an empty parameter list"),
        (torch.ones(2, 2), TypeError, "params argument given to the optimizer should be an iterable"),
        ([{"params": {torch.ones(2, 2)}}], TypeError, "need to be organized in ordered collections"),
        ([1.0], TypeError, "optimizer can only optimize Tensors"),
        ([torch.ones(2, 2, requires_grad=True) * 2], ValueError, "can't optimize a non-leaf Tensor"),
        ([("a", torch.ones(2, 2)), torch.ones(2)], ValueError, "all optimizer params should be with/without names"),
    ],
)
@each_optimizer
def test_what_torch_refuses_is_refused_with_its_words(
    case: Case, params: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        case(params)


@each_optimizer
def test_a_parameter_is_in_one_group(case: Case) -> None:
    ps = parameters()
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        case([{"params": ps}, {"params": ps[:1]}])
    optimizer = case(ps)
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        optimizer.add_param_group({"params": ps[1]})
    assert len(optimizer.param_groups) == 1


@every
def test_a_duplicate_parameter_is_warned_of_and_does_no_harm(case: Case) -> None:
    ps, plain = parameters(), parameters()
    with pytest.warns(UserWarning, match="a parameter group with duplicate parameters"):
        optimizer = case([*ps, ps[0]])
    train(ps, optimizer, range(5))
    train(plain, case(plain), range(5))
    if case.own:  # torch's own optimizers step a duplicate twice
        assert_close(ps, plain)
    assert all(p.isfinite().all() for p in ps)


@pytest.mark.parametrize("option", ["maximize", "foreach", "capturable", "weight_decays"])
@each_class
def test_an_option_that_does_not_exist_is_a_type_error(case: Case, option: str) -> None:
    with pytest.raises(TypeError, match=option):
        case(parameters(), **{option: True})


@pytest.mark.parametrize("integer", [np.int64(3), np.int32(3), np.uint8(3)])
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "lamb"])
def test_free_steps_may_be_a_numpy_integer(name: str, integer: Any) -> None:
    ps, plain = parameters(), parameters()
    optimizer = OPTIMIZERS[name](ps, lr=0.0625, free_steps=integer)
    assert optimizer.free_steps == 3
    train(ps, optimizer, range(5))
    train(plain, Case(name, "switching")(plain), range(5))
    assert_same(ps, plain)
    assert through_disk(optimizer.state_dict())["param_groups"][0]["free_steps"] == 3


@every
def test_it_can_be_printed(case: Case) -> None:
    ps = parameters()
    optimizer = case([{"params": ps[:1]}, {"params": ps[1:], "lr": 0.5}])
    for _ in range(2):
        shown = repr(optimizer)
        assert shown.startswith(f"{type(optimizer).__name__} (\nParameter Group 0\n")
        assert "Parameter Group 1" in shown
        assert "    lr: 0.5\n" in shown
        if case.lawn:
            assert f"    phase: {'constrained' if optimizer.constrained else 'free'}\n" in shown
            assert f"    free_steps: {PHASES[case.phase]}\n" in shown
        train(ps, optimizer, range(5))
