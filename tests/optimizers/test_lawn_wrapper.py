"""The wrapper around any torch optimizer: accepted and rejected bases, and what it shares with them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop
from torch.optim.lr_scheduler import StepLR

from trainables.optimizers import AdamLawn, Lawn, SgdLawn
from trainables.optimizers.scratch import Scratch

BASES: dict[str, Callable[[list[Tensor]], Optimizer]] = {
    "sgd": lambda p: SGD(p, lr=0.05),
    "nesterov": lambda p: SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: Adam(p, lr=0.05),
    "amsgrad": lambda p: AdamW(p, lr=0.05, weight_decay=0, amsgrad=True),
    "maximize": lambda p: AdamW(p, lr=0.05, weight_decay=0, maximize=True),
    "adamax": lambda p: Adamax(p, lr=0.05),
    "nadam": lambda p: NAdam(p, lr=0.05),
    "radam": lambda p: RAdam(p, lr=0.05),
    "rmsprop": lambda p: RMSprop(p, lr=0.05, momentum=0.5),
}


def params() -> list[Tensor]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(3))]


def steps(optimizer: Optimizer, ps: list[Tensor], count: int) -> None:
    for _ in range(count):
        for p in ps:
            p.grad = torch.randn(p.shape) + p.detach()
        optimizer.step()


@pytest.mark.parametrize("base", list(BASES))
def test_every_base_trains_freely_then_on_the_sphere(base: str) -> None:
    ps, free = params(), params()
    optimizer = Lawn(BASES[base](ps), free_steps=3)
    torch.manual_seed(1)
    steps(optimizer, ps, 3)
    torch.manual_seed(1)
    steps(BASES[base](free), free, 3)
    assert all(torch.equal(p, q) for p, q in zip(ps, free, strict=True))
    c = optimizer.radii[ps[0]].double()
    before = ps[0].detach().clone()
    for _ in range(10):
        steps(optimizer, ps, 1)
        torch.testing.assert_close(ps[0].detach().double().norm(), c, rtol=1e-6, atol=0)
    assert not torch.allclose(ps[0], before, atol=1e-2)


@pytest.mark.parametrize("base", list(BASES))
def test_the_base_is_reset_at_the_switch(base: str) -> None:
    """The constrained phase does not depend on the gradients of the free phase, only on the weights they led to."""
    ends = []
    for seed in (1, 2):
        ps = params()
        optimizer = Lawn(BASES[base](ps))
        torch.manual_seed(seed)
        steps(optimizer, ps, 4)
        with torch.no_grad():
            for p, q in zip(ps, params(), strict=True):
                p.copy_(q)
        optimizer.constrain()
        torch.manual_seed(3)
        steps(optimizer, ps, 4)
        ends.append(ps)
    assert all(torch.equal(p, q) for p, q in zip(*ends, strict=True))


def test_moves_are_tangential_for_any_base() -> None:
    """Adam's preconditioning tilts a tangent gradient off the sphere's tangent plane; the wrapper projects it back."""
    w = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    optimizer = Lawn(Adam([w], lr=0.1), free_steps=0)
    w.grad = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    optimizer.step()
    # P g = (0.64, −0.48); Adam's first direction is its sign (1, −1); P of that is (1.12, −0.84)
    moved = torch.tensor([[3 - 0.112, 4 + 0.084]], dtype=torch.float64)
    torch.testing.assert_close(w.detach(), 5 * moved / moved.norm(), rtol=1e-6, atol=0)


def test_a_tensor_of_norm_zero_is_left_to_the_base_bit_for_bit() -> None:
    ps, free = params(), params()
    for group in (ps, free):
        group[0].detach().zero_()
    optimizer = Lawn(BASES["adam"](ps))
    with pytest.warns(UserWarning, match="norm zero"):
        optimizer.constrain()
    torch.manual_seed(1)
    steps(optimizer, ps, 5)
    torch.manual_seed(1)
    steps(BASES["adam"](free), free, 5)
    assert torch.equal(ps[0], free[0])


def test_param_groups_are_the_bases_own() -> None:
    ps = params()
    groups: list[dict[str, Any]] = [{"params": ps[:1]}, {"params": ps[1:], "lr": 0.5}]
    base = Adam(groups, lr=0.1)
    optimizer = Lawn(base, free_steps=1)
    assert optimizer.param_groups is base.param_groups
    schedule = StepLR(optimizer, 1, gamma=0.1)
    steps(optimizer, ps, 1)
    schedule.step()
    assert [group["lr"] for group in base.param_groups] == pytest.approx([0.01, 0.05])
    extra = nn.Parameter(torch.randn(2, 2))
    optimizer.add_param_group({"params": extra})
    assert [len(group["params"]) for group in base.param_groups] == [1, 1, 1]
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups is base.param_groups


def test_entries_of_others_in_the_state_survive_the_switch() -> None:
    """For example an average of the weights; the base's own moments are reset."""
    ps, alone = params(), params()
    optimizer, fresh = Lawn(Adam(ps, lr=0.1)), Lawn(Adam(alone, lr=0.1), free_steps=0)
    torch.manual_seed(1)
    steps(optimizer, ps, 2)
    average = ps[0].detach().clone()
    optimizer.base.state[ps[0]]["average"] = average
    steps(optimizer, ps, 1)
    with torch.no_grad():
        for p, q in zip(ps, alone, strict=True):
            p.copy_(q)
    optimizer.constrain()
    torch.manual_seed(2)
    steps(optimizer, ps, 2)
    torch.manual_seed(2)
    steps(fresh, alone, 2)
    assert optimizer.state[ps[0]]["average"] is average
    assert all(torch.equal(p, q) for p, q in zip(ps, alone, strict=True))


def test_an_error_in_the_base_gives_the_gradients_back() -> None:
    class Failing(SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            raise RuntimeError("broken")

    p = nn.Parameter(torch.ones(2, 2))
    optimizer = Lawn(Failing([p], lr=0.1), free_steps=0)
    p.grad = grad = torch.eye(2)
    with pytest.raises(RuntimeError, match="broken"):
        optimizer.step()
    assert p.grad is grad


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: AdamW(p, lr=0.1), r"no weight decay .* got 0.01; pass weight_decay=0"),
        (lambda p: SGD([{"params": p, "weight_decay": 0.1}], lr=0.1), "no weight decay .* got 0.1"),
        (lambda p: SGD([p[0].detach().bfloat16().requires_grad_()], lr=0.1), "fp32 or more.*torch.bfloat16"),
        (lambda p: Adagrad(p, lr=0.1), "Adagrad, which creates its state at construction"),
        (lambda p: LBFGS(p), "LBFGS, which makes several updates"),
        (lambda p: AdamLawn(p), "AdamLawn is already under LAWN"),
        (lambda p: Lawn(SGD(p, lr=0.1)), "Lawn is already under LAWN"),
    ],
)
def test_unsuitable_bases_are_rejected(make: Callable[[list[Tensor]], Optimizer], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Lawn(make(params()))


def test_only_optimizers_are_wrapped() -> None:
    with pytest.raises(TypeError, match="got list"):
        Lawn(params())  # type: ignore[arg-type]


def test_decay_is_rejected_later_too() -> None:
    ps = params()
    optimizer = Lawn(SGD(ps[:1], lr=0.1))
    with pytest.raises(ValueError, match="no weight decay"):
        optimizer.add_param_group({"params": ps[1:], "weight_decay": 0.1})
    half = nn.Parameter(torch.ones(2, 2, dtype=torch.float16))
    with pytest.raises(ValueError, match="fp32 or more"):
        optimizer.add_param_group({"params": half})
    assert len(optimizer.param_groups) == 1
    optimizer.param_groups[0]["weight_decay"] = 0.1
    with pytest.raises(ValueError, match="no weight decay"):
        steps(optimizer, ps[:1], 1)
    with pytest.raises(ValueError, match="no weight decay"):
        SgdLawn(ps).add_param_group({"params": half, "weight_decay": 0.1})


class Remembering(SGD):
    """A base that keeps the gradients it was given, as optimizers of the user's may."""

    def __init__(self, ps: list[Tensor]) -> None:
        super().__init__(ps, lr=0.05)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        grad = self.param_groups[0]["params"][0].grad
        self.seen.append((grad, grad.clone()))
        super().step()


def test_a_gradient_that_a_base_keeps_is_never_written_again() -> None:
    ps = params()
    base = Remembering(ps)
    steps(Lawn(base, free_steps=0), ps, 3)
    assert all(torch.equal(kept, copied) for kept, copied in base.seen)


@pytest.mark.parametrize("change", [lambda x: x.double(), lambda x: x.t(), lambda x: x[:2]])
def test_memory_is_kept_for_the_next_step_while_it_fits(change: Callable[[Tensor], Tensor]) -> None:
    p, scratch = nn.Parameter(torch.zeros(4, 3)), Scratch()
    kept = scratch.like(p, p)
    assert scratch.like(p, p) is kept
    other = change(p.detach())
    found = scratch.like(p, other)
    assert (found.shape, found.stride(), found.dtype) == (other.shape, other.stride(), other.dtype)


def test_copies_of_a_wrapper_share_no_memory_with_it() -> None:
    ps = params()
    optimizer = Lawn(AdamW(ps, lr=0.05, weight_decay=0), free_steps=0)
    torch.manual_seed(1)
    steps(optimizer, ps, 2)
    copied, qs = deepcopy((optimizer, ps))
    ends = []
    for each, own in ((optimizer, ps), (copied, qs)):
        torch.manual_seed(2)
        steps(each, own, 3)
        ends.append(own)
    assert all(torch.equal(p, q) for p, q in zip(*ends, strict=True))
