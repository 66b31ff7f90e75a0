"""The switch of every class: when it comes, what it holds, what it forgets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.faces import ALL, matrices, net, train, weights_of
from trainables.optimizers.phases import checked_free_steps


@pytest.mark.parametrize("name", list(ALL))
def test_the_switch_comes_after_the_last_free_step(name: str) -> None:
    model = net()
    optimizer = ALL[name](model.parameters(), lr=0.02, free_steps=3)
    train(model, optimizer, range(2))
    assert (optimizer.constrained, optimizer.radii) == (False, {})
    train(model, optimizer, range(2, 3))
    assert optimizer.constrained
    radii = optimizer.radii
    assert list(radii) == matrices(model)
    for p, c in radii.items():
        assert (c.shape, c.dtype) == ((), torch.float32)
        torch.testing.assert_close(c.double(), p.detach().double().norm(), rtol=1e-6, atol=0)
    for i in range(3, 30):
        train(model, optimizer, [i])
        for p, c in radii.items():
            torch.testing.assert_close(p.detach().double().norm(), c.double(), rtol=1e-6, atol=0)
    assert all(torch.equal(c, radii[p]) for p, c in optimizer.radii.items())


@pytest.mark.parametrize("name", list(ALL))
def test_calling_constrain_is_the_same_as_counting_steps(name: str) -> None:
    called, counted = net(), net()
    optimizer = ALL[name](called.parameters(), lr=0.02)
    train(called, optimizer, range(4))
    optimizer.constrain()
    optimizer.constrain()  # twice is once
    train(called, optimizer, range(4, 9))
    train(counted, ALL[name](counted.parameters(), lr=0.02, free_steps=4), range(9))
    assert torch.equal(weights_of(called), weights_of(counted))


@pytest.mark.parametrize("name", list(ALL))
def test_constrained_from_the_start_holds_the_norms_of_the_first_step(name: str) -> None:
    """Weights loaded after construction of the optimizer are used."""
    model, pretrained = net(), net()
    optimizer = ALL[name](model.parameters(), lr=0.02, free_steps=0)
    assert optimizer.constrained
    with torch.no_grad():
        for weight in pretrained.parameters():
            weight.mul_(3)
    model.load_state_dict(pretrained.state_dict())
    train(model, optimizer, range(3))
    for p, q in zip(matrices(model), matrices(pretrained), strict=True):
        torch.testing.assert_close(p.detach().norm(), q.detach().norm(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["adam", "wrapper"])
def test_moments_and_step_counts_start_anew_at_the_switch(name: str) -> None:
    """Then the first constrained step moves weights by lr on average; 0.3 or 3 times that if only some were reset."""
    torch.manual_seed(0)
    p = nn.Parameter(torch.randn(64, 64))
    bias = nn.Parameter(torch.randn(4096))
    optimizer = ALL[name]([p, bias], lr=1e-4, free_steps=100)
    for _ in range(100):
        p.grad, bias.grad = torch.randn(64, 64) - p.detach(), torch.randn(4096)
        optimizer.step()
    before, bias_before = p.detach().clone(), bias.detach().clone()
    p.grad, bias.grad = torch.randn(64, 64), torch.randn(4096)
    optimizer.step()
    assert float((p.detach() - before).abs().mean()) == pytest.approx(1e-4, rel=0.03)
    assert float((bias.detach() - bias_before).abs().mean()) == pytest.approx(1e-4, rel=0.03)


def test_free_steps_must_count_steps() -> None:
    wrong: tuple[Any, ...] = (-1, 2.5, "3", True)
    for free_steps in wrong:
        with pytest.raises(ValueError, match="free_steps must be"):
            checked_free_steps(free_steps)
