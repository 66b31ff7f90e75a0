"""Steps: with and without gradients, through closures, for gradients in any layout."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.conventions import (
    Case,
    assert_close,
    assert_same,
    equal,
    every,
    every_lawn,
    every_own,
    parameters,
    push,
    train,
    values,
)


@every
def test_a_step_without_any_gradient_is_no_step(case: Case) -> None:
    ps, plain = parameters(), parameters()
    optimizer = case(ps)
    start = values(ps)
    for _ in range(4):
        assert optimizer.step() is None
        assert optimizer.step(lambda: 2.0) == 2.0
    assert_same(ps, start)
    train(ps, optimizer, range(2))
    optimizer.zero_grad()
    optimizer.step()
    train(ps, optimizer, range(2, 6))
    train(plain, case(plain), range(6))
    assert_same(ps, plain)


@every
def test_gradients_of_zero_make_a_step_that_leaves_the_weights(case: Case) -> None:
    ps = parameters()
    optimizer = case(ps)
    start = values(ps)
    for i in range(5):
        for p in ps:
            p.grad = torch.zeros_like(p)
        optimizer.step()
        assert not case.lawn or optimizer.param_groups[0]["steps"] == i + 1
    torch.testing.assert_close(values(ps), start, rtol=1e-6, atol=0)
    if case.lawn:
        assert optimizer.constrained == (case.phase != "free")


@every
def test_a_parameter_without_gradient_is_left_alone(case: Case) -> None:
    """As experts, frozen layers and unused heads are; it is as if it were not there."""
    ps, unused, plain = parameters(), parameters(seed=1), parameters()
    start = values(unused)
    optimizer = case([*unused, *ps])
    train(ps, optimizer, range(6))
    train(plain, case(plain), range(6))
    assert_close(ps, plain)
    assert_same(unused, start)


@every
def test_a_closure_is_called_once_with_gradients_on(case: Case) -> None:
    ps, plain = parameters(), parameters()
    optimizer = case(ps)
    losses = [torch.tensor(float(i)) for i in range(5)]

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        push(ps, len(returned))
        return losses[len(returned)]

    returned: list[Any] = []
    with torch.no_grad():
        while len(returned) < 5:
            returned.append(optimizer.step(closure=closure) if len(returned) % 2 else optimizer.step(closure))
    assert all(a is b for a, b in zip(returned, losses, strict=True))
    train(plain, case(plain), range(5))
    assert_same(ps, plain)


@every
def test_an_error_in_the_closure_changes_nothing(case: Case) -> None:
    def closure() -> float:
        raise RuntimeError("out of data")

    ps, plain = parameters(), parameters()
    optimizer = case(ps)
    train(ps, optimizer, range(2))
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(RuntimeError, match="out of data"):
        optimizer.step(closure)
    assert equal(optimizer.state_dict(), before)
    train(ps, optimizer, range(2, 5))
    train(plain, case(plain), range(5))
    assert_same(ps, plain)


@pytest.mark.parametrize("kind", ["sparse", "complex"])
@every
def test_sparse_and_complex_gradients_are_refused_before_anything_changes(case: Case, kind: str) -> None:
    odd = nn.Parameter(torch.ones(3, 3, dtype=torch.complex64 if kind == "complex" else torch.float32))
    ps = parameters()
    optimizer = case([*ps, odd])
    train(ps, optimizer, range(2))
    before, state = values([*ps, odd]), copy.deepcopy(optimizer.state_dict())
    odd.grad = torch.ones_like(odd) if kind == "complex" else torch.eye(3).to_sparse()
    with pytest.raises(ValueError, match="dense real gradients"):
        optimizer.step()
    assert_same([*ps, odd], before)
    assert equal(optimizer.state_dict(), state)


@every
def test_gradients_may_be_in_any_layout_and_stay_as_they_are(case: Case) -> None:
    """Expanded, transposed and channels_last gradients are what autograd makes of sums and tied weights."""
    ps, plain = parameters(), parameters()
    optimizer, other = case(ps), case(plain)
    for i in range(5):
        push(plain, i)
        assert plain[1].grad is not None
        assert plain[2].grad is not None
        plain[1].grad = torch.full((3,), float(i))
        ps[0].grad = torch.empty(4, 3, 2, 2).copy_(plain[0].grad)  # type: ignore[arg-type]
        ps[1].grad = torch.tensor(float(i)).expand(3)
        ps[2].grad = plain[2].grad.t().contiguous().t()
        owners = [p.grad for p in ps]
        copies = values(g for g in owners if g is not None)
        optimizer.step()
        other.step()
        assert all(p.grad is owner for p, owner in zip(ps, owners, strict=True))
        assert_same([p.grad for p in ps if p.grad is not None], copies)
    assert_close(ps, plain)


@every_own
def test_one_optimizer_for_all_tensors_is_one_for_each(case: Case) -> None:
    ps, apart = parameters(), parameters()
    optimizer, each = case(ps), [case([p]) for p in apart]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LAWN constrains no tensor")  # the vector on its own
        for i in range(10):
            train(ps, optimizer, [i])
            push(apart, i)
            for one in each:
                one.step()
    assert_close(ps, apart)


@every_lawn
def test_a_step_that_only_creates_the_state_leaves_no_trace(case: Case) -> None:
    """torch.distributed.checkpoint makes one at rate 0 with gradients of 0, to have something to load into."""
    ps, qs = parameters(), parameters()
    touched, fresh = case(ps), case(qs)
    rates = [group["lr"] for group in touched.param_groups]
    for p in ps:
        p.grad = torch.zeros_like(p)
    for group in touched.param_groups:
        group["lr"] = 0.0
    touched.step()
    assert all(touched.state[p] for p in ps)
    for group, rate in zip(touched.param_groups, rates, strict=True):
        group["lr"] = rate
    train(ps, touched, range(6))
    train(qs, fresh, range(6))
    assert_close(ps, qs)  # a held tensor is put back on its radius, which rounds
    for p, q in zip(ps, qs, strict=True):
        assert touched.state[p].get("step") == fresh.state[q].get("step")
