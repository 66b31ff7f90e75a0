"""The classes as torch optimizers: equal to the rules and to torch, phases, param groups, special parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, StepLR

from trainables.optimizers import AdamLawn, Lamb, LambLawn, Lawn, SgdLawn, rules
from trainables.optimizers.layers import layers_of
from trainables.optimizers.phases import TwoPhase

Face = Callable[..., TwoPhase]
FACES: dict[str, Face] = {"sgd": SgdLawn, "adam": AdamLawn, "lamb": LambLawn}
HYPER: dict[str, dict[str, float]] = {
    "sgd": {"momentum": 0.9},
    "adam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6},
    "lamb": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6},
}


def wrapped(params: Iterable[Any], lr: float = 1e-3, free_steps: int | None = None) -> Lawn:
    return Lawn(AdamW(params, lr=lr, eps=1e-6, weight_decay=0), free_steps)


ALL: dict[str, Face] = FACES | {"wrapper": wrapped}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.norm(self.conv(x)).relu().flatten(1)
        out: Tensor = self.linear(hidden)
        return out


def net(dtype: torch.dtype = torch.float32) -> Net:
    torch.manual_seed(3)
    return Net().to(dtype)


def backward(model: nn.Module, seed: int) -> None:
    p = next(model.parameters())
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 2, 4, 4, generator=generator, dtype=torch.float64).to(p.dtype)
    y = torch.randint(3, (8,), generator=generator)
    model.zero_grad()
    torch.autograd.backward(nn.functional.cross_entropy(model(x), y))


def train(model: nn.Module, optimizer: Optimizer, steps: Iterable[int]) -> None:
    for i in steps:
        backward(model, i)
        optimizer.step()


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def matrices(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.dim() >= 2]


# --- equal to the rules, to torch, to each other ----------------------------------------------------------------------


@pytest.mark.parametrize("rule", list(FACES))
@pytest.mark.parametrize("free_steps", [None, 0, 4, 100])
def test_faces_equal_the_rules(rule: str, free_steps: int | None) -> None:
    model = net(torch.float64)
    layers = layers_of((name, p.shape) for name, p in model.named_parameters())
    optimizer = FACES[rule](model.parameters(), lr=0.03, free_steps=free_steps)
    w, state, radii, t = weights_of(model), rules.init_state(rule, weights_of(model)), None, 0
    for i in range(10):
        if i == free_steps:
            state, radii, t = rules.init_state(rule, w), rules.radii_of(w, layers), 0
        t += 1
        backward(model, i)
        g = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
        w, state = rules.step(
            rule,
            w,
            g,
            state,
            lr=0.03,
            t=t,
            hyper=HYPER[rule],
            layers=layers,
            constrained=radii is not None,
            radii=radii,
        )
        optimizer.step()
        torch.testing.assert_close(weights_of(model), w, rtol=1e-11, atol=1e-12)
    assert optimizer.constrained == (free_steps is not None and free_steps <= 10)


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_lamb_equals_its_rule(decay: float) -> None:
    model = net(torch.float64)
    layers = layers_of((name, p.shape) for name, p in model.named_parameters())
    optimizer = Lamb(model.parameters(), lr=0.03, weight_decay=decay)
    w, state = weights_of(model), rules.init_state("lamb", weights_of(model))
    for t in range(1, 6):
        backward(model, t)
        g = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
        hyper = HYPER["lamb"] | {"weight_decay": decay}
        w, state = rules.step("lamb", w, g, state, lr=0.03, t=t, hyper=hyper, layers=layers)
        assert optimizer.step() is None
        torch.testing.assert_close(weights_of(model), w, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("face", "peer"),
    [
        (AdamLawn, lambda p: AdamW(p, lr=0.01, eps=1e-6, weight_decay=0)),
        (SgdLawn, lambda p: SGD(p, lr=0.01, momentum=0.9)),
        (wrapped, lambda p: AdamW(p, lr=0.01, eps=1e-6, weight_decay=0)),
    ],
)
def test_never_constrained_is_the_base_optimizer(face: Face, peer: Callable[..., Optimizer]) -> None:
    ours, theirs = net(torch.float64), net(torch.float64)
    train(ours, face(ours.parameters(), lr=0.01), range(40))
    train(theirs, peer(theirs.parameters()), range(40))
    torch.testing.assert_close(weights_of(ours), weights_of(theirs), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("free_steps", [None, 0, 5])
@pytest.mark.parametrize("options", [{"foreach": True}, {"fused": True}, {"foreach": False}])
def test_the_wrapper_around_adamw_is_adam_lawn(options: dict[str, Any], free_steps: int | None) -> None:
    ours, theirs = net(torch.float64), net(torch.float64)
    base = AdamW(theirs.parameters(), lr=0.02, eps=1e-6, weight_decay=0, **options)
    one, other = AdamLawn(ours.parameters(), lr=0.02, free_steps=free_steps), Lawn(base, free_steps)
    train(ours, one, range(20))
    train(theirs, other, range(20))
    torch.testing.assert_close(weights_of(ours), weights_of(theirs), rtol=1e-9, atol=1e-11)
    for a, b in zip(one.radii.values(), other.radii.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=0)


# --- the phases -------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("free_steps", [-1, 2.5, "3", True])
def test_free_steps_must_count_steps(free_steps: Any) -> None:
    with pytest.raises(ValueError, match="free_steps must be"):
        AdamLawn(net().parameters(), free_steps=free_steps)


# --- learning rates and param groups ----------------------------------------------------------------------------------


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


# --- closures, gradients that are missing, odd parameters -------------------------------------------------------------


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
    assert torch.equal(other, torch.ones(2, 2))


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: AdamLawn(p, lr=-1.0), "lr of AdamLawn must be 0 or more, got -1.0"),
        (lambda p: AdamLawn(p, betas=(0.9, 1.0)), "betas of AdamLawn must be two numbers"),
        (lambda p: LambLawn(p, eps=-1e-6), "eps of LambLawn must be 0 or more"),
        (lambda p: SgdLawn(p, momentum=1.5), "momentum of SgdLawn must be in"),
        (lambda p: Lamb(p, weight_decay=-0.1), "weight_decay of Lamb must be 0 or more"),
        (lambda p: AdamLawn([{"params": p, "lr": float("nan")}]), "lr of AdamLawn"),
        (lambda p: AdamLawn([{"params": p, "constrained": "yes"}]), "constrained of AdamLawn must be True, False"),
        (lambda p: AdamLawn([{"params": p, "weight_decay": 0.1}]), "AdamLawn uses no weight decay .* got 0.1"),
    ],
)
def test_hyperparameters_out_of_range_are_named(make: Callable[..., Optimizer], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make(list(net().parameters()))
