"""Public optimizers as bases of `Lawn`: each works, or is rejected with a reason."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer
import timm.optim
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainables.optimizers import Lawn

README = Path(__file__).parents[2] / "README.md"
TIMM_TABLE: Any = timm.optim  # whose names are not exported for type checkers
TORCH = ["Adadelta", "Adafactor", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"]
TIMM = [
    "adabelief", "adafactor", "adafactorbv", "adamc", "adamp", "adan", "adopt", "lamb", "lambc", "laprop",
    "larc", "kron", "lars", "lion", "madgrad", "mars", "muon", "nadamuon", "nadamw", "novograd", "radamw",
    "rmsproptf", "sgdp", "cadamw", "cadan", "clamb", "clion",
]  # fmt: skip
OTHERS = [
    "a2grad", "accsgd", "adabelief", "adabound", "adadelta", "adafactor", "adagc", "adai", "adalite", "adam",
    "adamax", "adamc", "adamg", "adamod", "adamp", "adams", "adamw", "adamwsn", "adan", "adanorm", "adapnm",
    "adashift", "adasmooth", "adatam", "ademamix", "adopt", "aggmo", "aida", "alice", "amos", "ano", "apollo",
    "apollodqn", "asgd", "avagrad", "bcos", "came", "conda", "dadaptadagrad", "dadaptadam", "dadaptadan",
    "dadaptlion", "dadaptsgd", "dash", "diffgrad", "dualadam", "emofact", "emolynx", "emonavi", "exadam",
    "fadam", "fira", "flashadamw", "focus", "fromage", "ftrl", "galore", "grams", "gravity", "grokfastadamw",
    "kate", "kron", "lamb", "laprop", "lars", "lion", "madgrad", "msvag", "nadam", "nero", "novograd", "padam",
    "pid", "pnm", "prodigy", "qhadam", "qhm", "racs", "radam", "ranger", "rmsprop", "rose", "scalableshampoo",
    "scion", "sgd", "sgdp", "sgdsai", "sgdw", "shampoo", "signsgd", "simplifiedademamix", "sm3", "soap",
    "spectralsphere", "srmm", "stableadamw", "stablespam", "tam", "tiger", "vsgd", "yogi",
]  # fmt: skip


def built(cls: Any, options: Mapping[str, Any]) -> Callable[[list[Tensor]], Optimizer]:
    known = cls.__init__.__code__.co_varnames
    defaults = {"lr": 0.01, "weight_decay": 0.0}
    wanted = {key: value for key, value in (defaults | dict(options)).items() if key in known}
    return lambda params: cls(params, **wanted)


MUONS = ["adago", "adamuon", "muon", "muonclip", "normuon"]
MATRICES = {"torch Muon", "pytorch_optimizer spectralsphere"}
"""Bases that accept matrices only."""


def with_muon_groups(cls: Any) -> Callable[[list[Tensor]], Optimizer]:
    """Matrices in one group, the rest in another, as this family requires."""

    def build(params: list[Tensor]) -> Optimizer:
        groups: list[Any] = [
            {"params": [p for p in params if (p.dim() >= 2) is use], "use_muon": use} for use in (True, False)
        ]
        return built(cls, {})([group for group in groups if group["params"]])

    return build


def of_a_model(cls: Any) -> Callable[[list[Tensor]], Optimizer]:
    return lambda _: cls(nn.Linear(3, 2))


WORKS: dict[str, Callable[[list[Tensor]], Optimizer]] = {
    **{f"torch {name}": built(getattr(torch.optim, name), {}) for name in TORCH},
    "torch ASGD without decay": lambda params: torch.optim.ASGD(params, lr=0.01, lambd=0.0),
    **{
        f"timm {name}": built(
            TIMM_TABLE.get_optimizer_info(name).opt_class, TIMM_TABLE.get_optimizer_info(name).defaults or {}
        )
        for name in TIMM
    },
    **{f"pytorch_optimizer {name}": built(pytorch_optimizer.load_optimizer(name), {}) for name in OTHERS},
    **{f"pytorch_optimizer {name}": with_muon_groups(pytorch_optimizer.load_optimizer(name)) for name in MUONS},
    "torch Muon": built(torch.optim.Muon, {}),
    "pytorch_optimizer mars without decay": built(pytorch_optimizer.load_optimizer("mars"), {"weight_decay_1d": 0.0}),
    "pytorch_optimizer ranger21 without norm loss": built(
        pytorch_optimizer.load_optimizer("ranger21"), {"num_iterations": 50, "norm_loss_factor": 0.0}
    ),
}

REJECTED: dict[str, tuple[Callable[[list[Tensor]], Any], str]] = {
    "torch LBFGS": (torch.optim.LBFGS, "LBFGS, which makes several updates"),
    "torch Adagrad": (torch.optim.Adagrad, "Adagrad, which creates its state at construction"),
    "torch SparseAdam": (torch.optim.SparseAdam, "SparseAdam, which takes sparse gradients only"),
    "torch ASGD": (torch.optim.ASGD, "lambd must be 0, got 0.0001; pass lambd=0"),
    "torch AdamW": (torch.optim.AdamW, "weight_decay must be 0, got 0.01; pass weight_decay=0"),
    "timm adahessian": (TIMM_TABLE.get_optimizer_class("adahessian"), "Adahessian, which needs the graph"),
    **{
        f"pytorch_optimizer {name}": (built(pytorch_optimizer.load_optimizer(name), {"num_iterations": 50}), reason)
        for name, reason in {
            "adahessian": "AdaHessian, which needs the graph",
            "sophiah": "SophiaH, which needs the graph",
            "lbfgs": "LBFGS, which makes several updates",
            "alig": "AliG, which needs the loss in every step",
            "magma": r"Magma, which wraps another optimizer \('optimizer'\)",
            "schedulefreeadamw": "ScheduleFreeAdamW, which trains other weights than it evaluates",
            "schedulefreeradam": "ScheduleFreeRAdam, which trains other weights than it evaluates",
            "schedulefreesgd": "ScheduleFreeSGD, which trains other weights than it evaluates",
            "splus": "SPlus, which trains other weights than it evaluates",
            "scionlight": "SCIONLight, which keeps its momentum in the gradients",
            "mars": "weight_decay_1d must be 0, got 0.1",
            "ranger21": "norm_loss_factor must be 0, got 0.0001",
            "spam": "SPAM, which draws the masks",
            "sara": "SaRA, which draws the masks",
            "swats": "SWATS, which uses 'phase' in its param groups",
        }.items()
    },
    "pytorch_optimizer Lookahead": (
        lambda params: pytorch_optimizer.Lookahead(torch.optim.SGD(params, lr=0.1)),
        "Lookahead, which wraps another optimizer",
    ),
    **{
        f"pytorch_optimizer {name}": (
            of_a_model(pytorch_optimizer.load_optimizer(name)),
            "updates the weights inside the backward pass",
        )
        for name in ("lomo", "adalomo")
    },
    "pytorch_optimizer SAM": (
        lambda params: pytorch_optimizer.SAM(params, torch.optim.SGD, lr=0.1),
        "SAM, which wraps another optimizer",
    ),
}


def parameters(name: str = "") -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes: list[tuple[int, ...]] = [(8, 6), (5, 4)] if name in MATRICES else [(8, 6), (6,), (4, 3, 2, 2), (1,)]
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def train(params: list[Tensor], optimizer: Optimizer, steps: range) -> list[Tensor]:
    for seed in (torch.manual_seed, np.random.seed, random.seed):  # some use random numbers
        seed(5)
    for i in steps:
        generator = torch.Generator().manual_seed(100 + i)
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator) + 0.3 * p.detach()
        optimizer.step()
    return [p.detach().clone() for p in params]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one, other, strict=True))


def at_the_switch(name: str) -> tuple[list[Tensor], Lawn]:
    """After four free steps, with the initial weights restored."""
    params = parameters(name)
    optimizer = Lawn(WORKS[name](params))
    train(params, optimizer, range(4))
    with torch.no_grad():
        for p, start in zip(params, parameters(name), strict=True):
            p.copy_(start)
    optimizer.constrain()
    return params, optimizer


WARNS = {
    "timm kron": "ignore:It is highly recommended to have 'opt_einsum'",  # faster with it, equal without
    "pytorch_optimizer lomo": "ignore:you need to install `transformers`",  # asks it for DeepSpeed, which is not used
    "pytorch_optimizer adalomo": "ignore:you need to install `transformers`",
}
"""Bases that warn, with the warning."""


def rows(names: Any) -> list[Any]:
    return [pytest.param(n, marks=[pytest.mark.filterwarnings(WARNS[n])] if n in WARNS else []) for n in names]


every = pytest.mark.parametrize("name", rows(WORKS))


@pytest.fixture(scope="module", autouse=True)
def not_compiled() -> Iterator[None]:
    """timm's kron compiles its parts, which takes longer than all other tests here and changes nothing for Lawn."""
    with torch.compiler.set_stance("force_eager"):
        yield


MOVE_ALONE = {
    "focus": "is drawn to the average of its weights",
    "fromage": "divides by √(1 + lr²)",
    "ftrl": "makes the weights from its sums, which are 0 at first",
    "gravity": "starts with random velocities",
    "nero": "normalizes each row",
    "srmm": "averages the weights",
    "yogi": "starts with moments that are not 0",
}
"""Bases of pytorch_optimizer that move weights without a gradient by their rule, not by an option that could be 0."""


def test_the_readme_gives_the_length_of_the_table() -> None:
    text = " ".join(README.read_text().split())
    assert f"{len(WORKS)} of torch, timm and pytorch_optimizer work, {len(REJECTED)} are rejected" in text


@every
def test_the_free_phase_is_the_base_bit_for_bit(name: str) -> None:
    ours, theirs = parameters(name), parameters(name)
    optimizer, base = Lawn(WORKS[name](ours)), WORKS[name](theirs)
    assert same(train(ours, optimizer, range(4)), train(theirs, base, range(4)))


@pytest.mark.parametrize("name", ["torch SGD", "torch SGD with momentum", "torch AdamW"])
def test_a_base_that_has_trained_goes_on_in_the_free_phase(name: str) -> None:
    """Whether its state counts steps or not."""
    momentum = {"momentum": 0.9} if "momentum" in name else {}
    build = built(getattr(torch.optim, name.split()[1]), momentum)
    ours, theirs = parameters(), parameters()
    bases = [build(ours), build(theirs)]
    for params, base in zip((ours, theirs), bases, strict=True):
        train(params, base, range(2))
    assert same(train(ours, Lawn(bases[0]), range(2, 5)), train(theirs, bases[1], range(2, 5)))


@every
def test_only_the_weights_carry_over_from_the_free_phase(name: str) -> None:
    """Counts in param groups and attributes are reset with the moments, and held norms stay."""
    params, optimizer = at_the_switch(name)
    fresh = parameters(name)
    start = [p.detach().clone() for p in params]
    found = train(params, optimizer, range(10, 22))  # some make no move in their first ten steps
    assert same(found, train(fresh, Lawn(WORKS[name](fresh), free_steps=0), range(10, 22)))
    assert not same(found, start)
    assert list(optimizer.radii) == [p for p in params if p.dim() >= 2]
    for p, c in optimizer.radii.items():
        torch.testing.assert_close(p.detach().norm(), c, rtol=1e-5, atol=0)


@every
def test_gradients_are_the_users_own_in_the_constrained_phase(name: str) -> None:
    params, optimizer = at_the_switch(name)
    for i in range(3):
        for p in params:
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
        own = [(p.grad, p.grad.clone()) for p in params if p.grad is not None]
        optimizer.step()
        assert all(p.grad is grad and torch.equal(grad, copied) for p, (grad, copied) in zip(params, own, strict=True))


@every
def test_the_constrained_phase_resumes(name: str) -> None:
    params, optimizer = at_the_switch(name)
    train(params, optimizer, range(10, 13))
    others = parameters(name)
    resumed = Lawn(WORKS[name](others))
    with torch.no_grad():
        for p, q in zip(params, others, strict=True):
            q.copy_(p)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert same(train(others, resumed, range(13, 15)), train(params, optimizer, range(13, 15)))


@pytest.mark.parametrize("name", rows(n for n in WORKS if n.removeprefix("pytorch_optimizer ") not in MOVE_ALONE))
def test_without_a_gradient_no_base_moves_the_weights(name: str) -> None:
    """Only decay, under any name, would move them; rounding of the last bit is allowed."""
    params = parameters(name)
    base = WORKS[name](params)
    for _ in range(2):
        for p in params:
            p.grad = torch.zeros_like(p)
        base.step()
    for p, start in zip(params, parameters(name), strict=True):
        torch.testing.assert_close(p.detach(), start.detach(), rtol=1e-6, atol=0)


class Fading(torch.optim.SGD):
    """Lowers its learning rate in its own step, and counts."""

    broken = False

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["lr"] *= 0.9
            group["count"] = group.get("count", 0) + 1
            group["rates"] = (*group.get("rates", ()), group["lr"])
        if self.broken:
            raise RuntimeError("broken")
        super().step()


@pytest.mark.parametrize("free", [0, 2])
def test_what_a_scheduler_set_last_survives_the_switch_even_if_the_base_changes_it_too(free: int) -> None:
    params = parameters()
    optimizer = Lawn(Fading(params, lr=0.1))
    train(params, optimizer, range(free))
    optimizer.param_groups[0]["lr"] = 0.01
    train(params, optimizer, range(2))
    assert optimizer.param_groups[0]["lr"] < 0.01
    optimizer.constrain()
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert not {"count", "rates"} & optimizer.param_groups[0].keys()


def test_loaded_counts_are_not_settings_of_the_user() -> None:
    params, others = parameters(), parameters()
    optimizer, resumed = Lawn(Fading(params, lr=0.1)), Lawn(Fading(others, lr=0.1))
    train(params, optimizer, range(3))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    resumed.add_param_group({"params": [nn.Parameter(torch.ones(2, 2))]})
    train(others, resumed, range(1))
    resumed.constrain()
    assert [group["lr"] for group in resumed.param_groups] == [0.1, 0.1]


def test_a_step_that_fails_has_counted() -> None:
    params = parameters()
    base = Fading(params, lr=0.1)
    optimizer, base.broken = Lawn(base), True
    with pytest.raises(RuntimeError, match="broken"):
        train(params, optimizer, range(1))
    optimizer.constrain()
    assert "count" not in optimizer.param_groups[0]


def test_what_a_base_has_learned_before_is_forgotten_by_a_start_in_the_constrained_phase() -> None:
    ends = []
    for steps in (0, 3):
        params = parameters()
        base = torch.optim.Adam(params, lr=0.1)
        train(params, base, range(steps))
        with torch.no_grad():
            for p, start in zip(params, parameters(), strict=True):
                p.copy_(start)
        ends.append(train(params, Lawn(base, free_steps=0), range(3)))
    assert same(*ends)


def test_foreign_entries_wait_for_the_state_of_their_parameter() -> None:
    """A parameter without a gradient at the first constrained step; Adam creates its state only where there is none."""
    params = parameters()
    optimizer = Lawn(torch.optim.Adam(params, lr=0.1))
    train(params, optimizer, range(2))
    average = params[2].detach().clone()
    optimizer.state[params[2]]["average"] = average
    train(params, optimizer, range(1))
    optimizer.constrain()
    params[0].grad, params[1].grad, params[2].grad = torch.ones(8, 6), torch.ones(6), None
    optimizer.step()
    train(params, optimizer, range(1))
    assert optimizer.state[params[2]]["average"] is average


def test_decay_under_another_name_is_rejected_later_too() -> None:
    params = parameters()
    optimizer = Lawn(torch.optim.ASGD(params[:1], lr=0.01, lambd=0.0))
    with pytest.raises(ValueError, match=r"lambd must be 0, got 0\.1"):
        optimizer.add_param_group({"params": params[1:], "lambd": 0.1})
    assert len(optimizer.param_groups) == 1
    optimizer.param_groups[0]["lambd"] = 0.1
    with pytest.raises(ValueError, match=r"lambd must be 0, got 0\.1"):
        train(params[:1], optimizer, range(1))


@pytest.mark.parametrize("name", rows(REJECTED))
def test_others_are_rejected_with_a_reason(name: str) -> None:
    build, reason = REJECTED[name]
    base = build(parameters())
    with pytest.raises(ValueError, match=reason):
        Lawn(base)
