"""Hooks of steps, of saving and of loading."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from tests.helpers.conventions import (
    Case,
    assert_same,
    equal,
    every,
    parameters,
    push,
    through_both,
    through_disk,
    train,
    values,
    with_tensors_for_numbers,
)


@every
def test_step_hooks_fire_once_a_step_with_the_optimizer_as_argument(case: Case) -> None:
    ps = parameters()
    optimizer = case(ps)
    fired: list[str] = []

    def noting(name: str) -> Any:
        def hook(given: Optimizer, args: Any, kwargs: Any) -> None:
            assert given is optimizer
            fired.append(name)

        return hook

    handles = [
        register_optimizer_step_pre_hook(noting("global pre")),
        optimizer.register_step_pre_hook(noting("pre")),
        optimizer.register_step_post_hook(noting("post")),
        register_optimizer_step_post_hook(noting("global post")),
    ]
    try:
        train(ps, optimizer, range(5))
        assert fired == ["global pre", "pre", "post", "global post"] * 5
        optimizer.load_state_dict(optimizer.state_dict())
        train(ps, optimizer, range(1))
        assert len(fired) == 6 * 4
    finally:
        for handle in handles:
            handle.remove()
    train(ps, optimizer, range(5))
    assert len(fired) == 6 * 4


@every
def test_a_pre_hook_may_change_gradients_and_arguments(case: Case) -> None:
    ps, plain = parameters(), parameters()
    optimizer = case(ps)

    def hook(_: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for p in ps:
            assert p.grad is not None
            p.grad.mul_(2)
        return (*args, lambda: 5.0), kwargs

    optimizer.register_step_pre_hook(hook)
    other = case(plain)
    for i in range(5):
        push(ps, i)
        push(plain, i)
        assert optimizer.step() == 5.0
        for p in plain:
            assert p.grad is not None
            p.grad.mul_(2)
        other.step()
    assert_same(ps, plain)


@every
def test_a_post_hook_sees_what_the_step_has_made(case: Case) -> None:
    ps = parameters()
    optimizer = case(ps)
    seen: list[list[Tensor]] = []
    optimizer.register_step_post_hook(lambda *_: seen.append(values(ps)))
    for i in range(5):
        train(ps, optimizer, [i])
        assert_same(seen[i], ps)


@every
def test_hooks_of_saving(case: Case) -> None:
    ps = parameters()
    optimizer = case(ps)
    train(ps, optimizer, range(5))
    plain = copy.deepcopy(optimizer.state_dict())
    seen: list[Any] = []

    def post(given: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        assert given is optimizer
        seen.append(copy.deepcopy(state_dict))
        return state_dict | {"mine": 1}

    def pre(given: Optimizer) -> None:
        seen.append("pre")

    handles = [optimizer.register_state_dict_post_hook(post), optimizer.register_state_dict_pre_hook(pre)]
    assert list(optimizer.state_dict()) == ["state", "param_groups", "mine"]
    assert seen[0] == "pre"
    assert equal(seen[1], plain)  # complete, norms included
    for handle in handles:
        handle.remove()
    assert equal(optimizer.state_dict(), plain)


@pytest.mark.parametrize("prepend", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
@through_both
def test_a_hook_of_loading_may_replace_the_state(case: Case, in_place: bool, prepend: bool) -> None:
    """Also with one that would be refused as it was given: the check is of what the hooks leave."""
    ps, qs = parameters(), parameters()
    saving, loading = case(ps), case(qs, lr=0.5)
    train(ps, saving, range(5))
    right = copy.deepcopy(saving.state_dict())

    def pre(given: Optimizer, state_dict: dict[str, Any]) -> Any:
        assert given is loading
        if in_place:
            state_dict.update(right)
            return None
        return right

    loading.register_load_state_dict_pre_hook(pre, prepend=prepend)
    wrong = {"state": {0: {"m": torch.ones(7)}}, "param_groups": []}
    loading.load_state_dict(wrong)
    assert list(wrong) == ["state", "param_groups"]
    assert wrong["param_groups"] == []
    assert equal(loading.state_dict(), saving.state_dict())


@pytest.mark.parametrize("prepend", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@through_both
def test_a_hook_after_loading_sees_the_final_state(case: Case, dtype: torch.dtype, prepend: bool) -> None:
    if not case.own:
        dtype = torch.float64
    ps, qs = parameters(dtype), parameters(dtype)
    saving, loading = case(ps), case(qs, lr=0.5)
    train(ps, saving, range(5))
    seen: list[dict[str, Any]] = []
    loading.register_load_state_dict_post_hook(
        lambda given: seen.append(copy.deepcopy(given.state_dict())), prepend=prepend
    )
    loading.load_state_dict(
        through_disk(with_tensors_for_numbers(saving.state_dict()) if case.own else saving.state_dict())
    )
    assert len(seen) == 1
    assert equal(seen[0], saving.state_dict())


@every
def test_loading_leaves_no_hooks_behind(case: Case) -> None:
    optimizer = case(parameters())

    def hooks() -> list[int]:
        return [len(value) for name, value in vars(optimizer).items() if name.endswith("_hooks")]

    before = hooks()
    optimizer.load_state_dict(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"loaded state dict|phase"):
        optimizer.load_state_dict({"state": {}, "param_groups": []})
    assert hooks() == before
