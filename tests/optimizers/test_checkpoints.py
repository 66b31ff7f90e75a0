"""Saving and loading at any step, copies, and steps that a gradient scaler skips."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD, AdamW, Optimizer

from trainables.optimizers import AdamLawn, Lamb, LambLawn, Lawn, SgdLawn
from trainables.optimizers.phases import TwoPhase

FACES: dict[str, Callable[..., Any]] = {
    "sgd-lawn": SgdLawn,
    "adam-lawn": AdamLawn,
    "lamb-lawn": LambLawn,
    "lamb": lambda params, lr, **_: Lamb(params, lr, weight_decay=0.1),
    "wrapped-adamw": lambda params, lr=0.1, free_steps=None: Lawn(AdamW(params, lr=lr, weight_decay=0), free_steps),
    "wrapped-sgd": lambda params, lr=0.1, free_steps=None: Lawn(SGD(params, lr=lr, momentum=0.9), free_steps),
}
HALF_FACES = ["sgd-lawn", "adam-lawn", "lamb-lawn", "lamb"]
LAWN_FACES = [name for name in FACES if name != "lamb"]


def params(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(0)
    kernel = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    return [nn.Parameter(x.to(dtype)) for x in (torch.randn(5, 3), torch.randn(3), kernel)]


def train(ps: list[Tensor], optimizer: Optimizer, steps: Iterable[int]) -> None:
    for i in steps:
        generator = torch.Generator().manual_seed(i)
        for p in ps:
            p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=generator) + p.detach())
        optimizer.step()


def through_disk(value: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one, other, strict=True))


CASES = [(name, torch.float32) for name in FACES] + [(name, torch.bfloat16) for name in HALF_FACES]


@pytest.mark.parametrize(("name", "dtype"), CASES)
@pytest.mark.parametrize("free_steps", [None, 0, 3])
@pytest.mark.parametrize("stop", [0, 1, 2, 3, 4, 6])
def test_resuming_at_any_step_is_no_interruption_bit_for_bit(
    name: str, dtype: torch.dtype, free_steps: int | None, stop: int
) -> None:
    whole = params(dtype)
    uninterrupted = FACES[name](whole, lr=0.03, free_steps=free_steps)
    train(whole, uninterrupted, range(8))
    first = params(dtype)
    optimizer = FACES[name](first, lr=0.03, free_steps=free_steps)
    train(first, optimizer, range(stop))
    saved = through_disk({"weights": [p.detach() for p in first], "optimizer": optimizer.state_dict()})
    second = params(dtype)
    resumed = FACES[name](second, lr=0.7)  # a new optimizer: saved values override its own
    with torch.no_grad():
        for p, value in zip(second, saved["weights"], strict=True):
            p.copy_(value)
    resumed.load_state_dict(saved["optimizer"])
    train(second, resumed, range(stop, 8))
    assert same(second, whole)
    if isinstance(uninterrupted, TwoPhase):
        assert resumed.constrained == uninterrupted.constrained
        assert same(list(resumed.radii.values()), list(uninterrupted.radii.values()))


@pytest.mark.parametrize("name", LAWN_FACES)
def test_the_stored_norm_is_restored_and_not_read_again(name: str) -> None:
    ps, others = params(), params()
    optimizer = FACES[name](ps, lr=0.03, free_steps=2)
    train(ps, optimizer, range(5))
    fresh = FACES[name](others, lr=0.03)
    fresh.load_state_dict(through_disk(optimizer.state_dict()))
    assert fresh.constrained
    assert same(list(fresh.radii.values()), list(optimizer.radii.values()))
    train(others, fresh, range(1))  # its weights had other norms: they are rescaled to the stored ones
    for p, c in fresh.radii.items():
        torch.testing.assert_close(p.detach().norm(), c, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", LAWN_FACES)
def test_a_loaded_state_replaces_all_of_the_one_before(name: str) -> None:
    """A free state after a constrained one: nothing is held any more."""
    ps = params()
    optimizer = FACES[name](ps, lr=0.03)
    train(ps, optimizer, range(2))
    free = through_disk(optimizer.state_dict())
    optimizer.constrain()
    train(ps, optimizer, range(2, 4))
    ends = []
    for states in ([free], [optimizer.state_dict(), free]):
        qs = params()
        resumed = FACES[name](qs, lr=0.03)
        for state in states:
            resumed.load_state_dict(through_disk(state))
        train(qs, resumed, range(2))
        ends.append(qs)
    assert same(*ends)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("name", LAWN_FACES)
def test_copies_carry_the_phase(name: str, copied: Callable[[Any], Any]) -> None:
    ps = params()
    optimizer = FACES[name](ps, lr=0.03, free_steps=4)
    train(ps, optimizer, range(3))
    qs, twin = copied([ps, optimizer])
    for i in range(3, 7):
        train(ps, optimizer, [i])
        train(qs, twin, [i])
        assert twin.constrained == optimizer.constrained == (i >= 3)
    assert same(ps, qs)


@pytest.mark.parametrize("name", LAWN_FACES)
def test_a_state_without_its_phase_is_rejected(name: str) -> None:
    optimizer = FACES[name](params(), lr=0.03)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["phase"]
    with pytest.raises(ValueError, match="without its phase"):
        optimizer.load_state_dict(state)


FOREIGN = [
    *(("adam-lawn", "sgd-lawn"), ("sgd-lawn", "adam-lawn"), ("sgd-lawn", "lamb-lawn"), ("lamb", "adam-lawn")),
    *(("adam-lawn", "wrapped-adamw"), ("lamb-lawn", "wrapped-adamw"), ("lamb", "wrapped-sgd")),
]


@pytest.mark.parametrize(("name", "other"), FOREIGN)
def test_a_state_of_another_class_is_rejected_and_nothing_changes(name: str, other: str) -> None:
    ps, qs, undisturbed = params(), params(), params()
    saved = FACES[other](qs, lr=0.03, free_steps=2)
    train(qs, saved, range(4))
    optimizer, same_one = FACES[name](ps, lr=0.03, free_steps=2), FACES[name](undisturbed, lr=0.03, free_steps=2)
    with pytest.raises(ValueError, match="load it into an optimizer of the class that it was saved from"):
        optimizer.load_state_dict(saved.state_dict())
    train(ps, optimizer, range(5))
    train(undisturbed, same_one, range(5))
    assert same(ps, undisturbed)


@pytest.mark.parametrize("name", FACES)
def test_a_skipped_step_is_not_counted(name: str) -> None:
    """GradScaler skips steps with overflowed gradients: they do not affect moments, counts or the switch."""
    plain, scaled = params(), params()
    without, optimizer = (FACES[name](ps, lr=0.03, free_steps=2) for ps in (plain, scaled))
    scaler = GradScaler("cpu", init_scale=4.0)
    for i, overflow in enumerate([False, True, True, False, False, True, False]):
        generator = torch.Generator().manual_seed(i)
        directions = [torch.randn(p.shape, generator=generator) for p in scaled]
        bad = float("inf") if overflow else 1.0
        optimizer.zero_grad()
        loss = torch.stack([(p * d).sum() * bad for p, d in zip(scaled, directions, strict=True)]).sum()
        torch.autograd.backward(scaler.scale(loss))
        scaler.step(optimizer)
        scaler.update()
        if not overflow:
            for p, d in zip(plain, directions, strict=True):
                p.grad = torch.empty_like(p).copy_(d)
            without.step()
        if isinstance(optimizer, TwoPhase):
            assert optimizer.constrained == without.constrained == (i >= 3)
    for p, q in zip(scaled, plain, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)
