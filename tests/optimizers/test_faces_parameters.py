"""Every class with learning rates, param groups, closures and special parameters."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, StepLR

from tests.helpers.faces import ALL, FACES, backward, net, train, weights_of
from trainables.optimizers import Lamb


@pytest.mark.parametrize("name", list(ALL))
def test_torch_schedulers_drive_every_face(name: str) -> None:
    model, still = net(), net()
    optimizer = ALL[name](model.parameters(), lr=0.1, free_steps=2)
    schedule = LambdaLR(optimizer, lambda i: max(0.0, 1 - i / 4))
    for i in range(4):
        train(model, optimizer, [i])
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0
    end = weights_of(model)
    train(model, optimizer, range(4, 6))
    torch.testing.assert_close(weights_of(model), end, rtol=1e-6, atol=0)
    frozen = ALL[name](still.parameters(), lr=0.1, free_steps=1)
    StepLR(frozen, 1)
    OneCycleLR(frozen, 0.1, total_steps=4)


@pytest.mark.parametrize("name", list(ALL))
def test_groups_have_their_own_rates_and_their_own_choice_of_what_is_held(name: str) -> None:
    model = net()
    conv, norm, linear = model.conv, model.norm, model.linear
    groups = [
        {"params": conv.parameters(), "lr": 0.0},
        {"params": norm.parameters(), "constrained": True},
        {"params": linear.parameters(), "constrained": False},
    ]
    start = copy.deepcopy(model)
    optimizer = ALL[name](groups, lr=0.05, free_steps=0)
    with pytest.warns(UserWarning, match=r"norm zero: shapes \[\(4,\)\]"):  # the bias of BN
        train(model, optimizer, range(5))
    assert list(optimizer.radii) == [conv.weight, norm.weight, norm.bias]
    torch.testing.assert_close(conv.weight, start.conv.weight, rtol=1e-6, atol=1e-7)
    assert conv.bias is not None
    assert start.conv.bias is not None
    assert torch.equal(conv.bias, start.conv.bias)
    torch.testing.assert_close(norm.weight.norm(), start.norm.weight.norm(), rtol=1e-6, atol=0)
    assert abs(float((linear.weight.norm() - start.linear.weight.norm()).detach())) > 1e-4


@pytest.mark.parametrize("name", list(ALL))
def test_a_group_added_in_the_constrained_phase_is_held_from_its_first_step(name: str) -> None:
    model = net()
    optimizer = ALL[name](model.conv.parameters(), lr=0.05, free_steps=1)
    train(model, optimizer, range(3))
    optimizer.add_param_group({"params": model.linear.parameters(), "lr": 0.1})
    norm = float(model.linear.weight.detach().norm())
    train(model, optimizer, range(3, 8))
    assert optimizer.param_groups[1]["lr"] == 0.1
    assert float(model.linear.weight.detach().norm()) == pytest.approx(norm, rel=1e-6)
    assert list(optimizer.radii) == [model.conv.weight, model.linear.weight]


@pytest.mark.parametrize("name", list(ALL))
def test_named_parameters_are_accepted(name: str) -> None:
    model, named = net(), net()
    train(model, ALL[name](model.parameters(), lr=0.05, free_steps=1), range(3))
    train(named, ALL[name](named.named_parameters(), lr=0.05, free_steps=1), range(3))
    assert torch.equal(weights_of(model), weights_of(named))


@pytest.mark.parametrize("name", [*ALL, "plain lamb"])
def test_a_closure_is_called_once_and_its_loss_returned(name: str) -> None:
    model, other = net(), net()
    make = (ALL | {"plain lamb": lambda p, lr, **_: Lamb(p, lr)})[name]
    optimizer = make(model.parameters(), lr=0.05, free_steps=1)
    calls: list[int] = []

    def closure() -> float:
        assert torch.is_grad_enabled()
        calls.append(len(calls))
        backward(model, calls[-1])
        return 7.0

    assert [optimizer.step(closure) for _ in range(3)] == [7.0] * 3
    assert calls == [0, 1, 2]
    train(other, make(other.parameters(), lr=0.05, free_steps=1), range(3))
    assert torch.equal(weights_of(model), weights_of(other))


@pytest.mark.parametrize("name", list(ALL))
def test_gradients_are_never_edited(name: str) -> None:
    model = net()
    optimizer = ALL[name](model.parameters(), lr=0.05, free_steps=2)
    for i in range(5):
        backward(model, i)
        owners = [p.grad for p in model.parameters() if p.grad is not None]
        values = [g.clone() for g in owners]
        optimizer.step()
        for p, owner, value in zip(model.parameters(), owners, values, strict=True):
            assert p.grad is owner
            assert torch.equal(value, owner)


@pytest.mark.parametrize("name", list(ALL))
def test_parameters_without_gradient_or_frozen_stay_and_count_no_steps(name: str) -> None:
    model, late = net(), nn.Parameter(torch.ones(3, 3))
    model.conv.weight.requires_grad_(False)
    start = model.conv.weight.detach().clone()
    optimizer = ALL[name]([*model.parameters(), late], lr=0.05, free_steps=2)
    train(model, optimizer, range(4))
    assert torch.equal(model.conv.weight, start)
    assert torch.equal(late, torch.ones(3, 3))
    assert list(optimizer.radii) == [model.linear.weight, late]
    late.grad = torch.eye(3)
    optimizer.step()
    assert not torch.equal(late, torch.ones(3, 3))
    torch.testing.assert_close(late.detach().norm(), torch.tensor(3.0))


@pytest.mark.parametrize("name", list(ALL))
def test_tied_parameters_are_held_once(name: str) -> None:
    torch.manual_seed(0)
    embedding, head = nn.Embedding(6, 4), nn.Linear(4, 6, bias=False)
    head.weight = embedding.weight
    model = nn.Sequential(embedding, head)
    optimizer = ALL[name](model.parameters(), lr=0.05, free_steps=1)
    for _ in range(4):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(torch.arange(6)), torch.arange(6)))
        optimizer.step()
    assert list(optimizer.radii) == [embedding.weight]
    assert head.weight is embedding.weight
    torch.testing.assert_close(embedding.weight.norm(), optimizer.radii[embedding.weight], rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", list(ALL))
def test_memory_layout_changes_nothing(name: str) -> None:
    """channels_last kernels and a transposed matrix train as their contiguous copies do, and keep their strides."""
    torch.manual_seed(0)
    kernel, matrix = torch.randn(4, 3, 2, 2), torch.randn(5, 3)
    plain = [nn.Parameter(kernel.clone()), nn.Parameter(matrix.clone())]
    strided = [nn.Parameter(kernel.to(memory_format=torch.channels_last)), nn.Parameter(matrix.t().contiguous().t())]
    strides = [p.stride() for p in strided]
    optimizers = [ALL[name](ps, lr=0.05, free_steps=2) for ps in (plain, strided)]
    for _ in range(5):
        for p, q in zip(plain, strided, strict=True):
            p.grad = torch.randn(p.shape)
            q.grad = torch.empty_like(q).copy_(p.grad)
        for optimizer in optimizers:
            optimizer.step()
    for p, q in zip(plain, strided, strict=True):
        torch.testing.assert_close(q, p, rtol=1e-6, atol=1e-7)
    assert [p.stride() for p in strided] == strides


@pytest.mark.parametrize("name", list(ALL))
def test_a_tensor_of_norm_zero_trains_freely_after_one_warning(name: str) -> None:
    head, body = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.ones(3, 3))
    optimizer = ALL[name]([head, body], lr=0.1)
    with pytest.warns(UserWarning, match=r"norm zero: shapes \[\(2, 3\)\]"):
        optimizer.constrain()
    for _ in range(3):
        head.grad, body.grad = torch.ones(2, 3), torch.eye(3)
        optimizer.step()
    assert optimizer.radii[head] == 0
    assert head.isfinite().all()
    assert head.abs().min() > 0
    torch.testing.assert_close(body.norm(), torch.tensor(3.0))


@pytest.mark.parametrize("name", list(ALL))
def test_nothing_to_hold_is_a_warning(name: str) -> None:
    optimizer = ALL[name]([nn.Parameter(torch.ones(3))])
    with pytest.warns(UserWarning, match="constrains no tensor"):
        optimizer.constrain()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rule", list(FACES))
def test_half_precision_parameters_train_on_fp32_masters(rule: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    half = nn.Parameter(torch.randn(8, 8).to(dtype))
    full = nn.Parameter(half.detach().float())
    optimizers = [FACES[rule]([p], lr=1e-4, free_steps=5) for p in (half, full)]
    for _ in range(40):
        half.grad = torch.randn(8, 8).to(dtype)
        full.grad = half.grad.float()
        for optimizer in optimizers:
            optimizer.step()
    assert half.dtype == dtype
    assert torch.equal(half, full.to(dtype))
    assert torch.equal(optimizers[0].radii[half], optimizers[1].radii[full])
    assert optimizers[0].radii[half].dtype == torch.float32


@pytest.mark.parametrize("name", [*ALL, "plain lamb"])
def test_sparse_gradients_are_rejected_before_anything_changes(name: str) -> None:
    embedding, other = nn.Embedding(5, 3, sparse=True), nn.Parameter(torch.ones(2, 2))
    make = (ALL | {"plain lamb": lambda p, lr, **_: Lamb(p, lr)})[name]
    optimizer = make([other, embedding.weight], lr=0.1, free_steps=0)
    torch.autograd.backward(embedding(torch.tensor([1, 2])).sum() + other.sum())
    with pytest.raises(ValueError, match=r"dense real gradients, got torch.sparse_coo.*sparse=False"):
        optimizer.step()
