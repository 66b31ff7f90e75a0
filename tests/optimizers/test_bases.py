"""Public optimizers as bases of `Lawn`: each works, or is refused with a reason."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainables.optimizers import Lawn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations inside other packages are not ours to fix
    import pytorch_optimizer
    import timm.optim

README = Path(__file__).parents[2] / "README.md"
TIMM_TABLE: Any = timm.optim  # whose names are not exported for type checkers
TORCH = ["Adadelta", "Adafactor", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"]
TIMM = [
    "adabelief", "adafactor", "adafactorbv", "adamc", "adamp", "adan", "adopt", "lamb", "lambc", "laprop", "larc",
    "lars", "lion", "madgrad", "mars", "nadamw", "novograd", "radamw", "rmsproptf", "sgdp", "cadamw", "cadan",
    "clamb", "clion",
]  # fmt: skip
OTHERS = [
    "a2grad", "accsgd", "adabelief", "adabound", "adadelta", "adagc", "adai", "adalite", "adam", "adamax", "adamc",
    "adamg", "adamod", "adamp", "adams", "adamw", "adamwsn", "adan", "adanorm", "adapnm", "adashift", "adasmooth",
    "adatam", "ademamix", "adopt", "aggmo", "aida", "alice", "amos", "ano", "apollo", "apollodqn", "avagrad",
    "bcos", "came", "conda", "dadaptadagrad", "dadaptadam", "dadaptadan", "dadaptlion", "dadaptsgd", "dash",
    "diffgrad", "dualadam", "emofact", "emolynx", "emonavi", "exadam", "fadam", "fira", "focus", "fromage", "ftrl",
    "galore", "grams", "gravity", "grokfastadamw", "kate", "lamb", "laprop", "lars", "lion", "madgrad", "mars",
    "msvag", "nadam", "nero", "novograd", "padam", "pid", "pnm", "prodigy", "qhadam", "qhm", "racs", "radam",
    "ranger", "rmsprop", "rose", "scalableshampoo", "scion", "sgd", "sgdp", "sgdsai", "sgdw", "shampoo", "signsgd",
    "simplifiedademamix", "sm3", "soap", "srmm", "stableadamw", "tam", "tiger", "vsgd", "yogi",
]  # fmt: skip


def built(cls: Any, options: Mapping[str, Any]) -> Callable[[list[Tensor]], Optimizer]:
    known = cls.__init__.__code__.co_varnames
    defaults = {"lr": 0.01, "weight_decay": 0.0}
    wanted = {key: value for key, value in (defaults | dict(options)).items() if key in known}
    return lambda params: cls(params, **wanted)


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
}

REFUSED: dict[str, tuple[Callable[[list[Tensor]], Any], str]] = {
    "torch LBFGS": (torch.optim.LBFGS, "LBFGS, which makes several updates"),
    "torch Adagrad": (torch.optim.Adagrad, "Adagrad, which makes its state when it is built"),
    "torch SparseAdam": (torch.optim.SparseAdam, "SparseAdam, which takes sparse gradients only"),
    "torch ASGD": (torch.optim.ASGD, "lambd must be 0, got 0.0001; pass lambd=0"),
    "torch AdamW": (torch.optim.AdamW, "weight_decay must be 0, got 0.01; pass weight_decay=0"),
    "timm adahessian": (TIMM_TABLE.get_optimizer_class("adahessian"), "Adahessian, which needs the graph"),
    **{
        f"pytorch_optimizer {name}": (built(pytorch_optimizer.load_optimizer(name), {}), reason)
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
            "swats": "SWATS, which keeps 'phase' in its param groups",
        }.items()
    },
    "pytorch_optimizer Lookahead": (
        lambda params: pytorch_optimizer.Lookahead(torch.optim.SGD(params, lr=0.1)),
        "Lookahead, which wraps another optimizer",
    ),
    "pytorch_optimizer SAM": (
        lambda params: pytorch_optimizer.SAM(params, torch.optim.SGD, lr=0.1),
        "SAM, which",
    ),
}


def parameters() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((8, 6), (6,), (4, 3, 2, 2))]


def train(params: list[Tensor], optimizer: Optimizer, steps: range) -> list[Tensor]:
    torch.manual_seed(5)  # some draw
    for i in steps:
        generator = torch.Generator().manual_seed(100 + i)
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator) + 0.3 * p.detach()
        optimizer.step()
    return [p.detach().clone() for p in params]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one, other, strict=True))


def at_the_switch(name: str) -> tuple[list[Tensor], Lawn]:
    """After four free steps, with the weights of the beginning put back."""
    params = parameters()
    optimizer = Lawn(WORKS[name](params))
    train(params, optimizer, range(4))
    with torch.no_grad():
        for p, start in zip(params, parameters(), strict=True):
            p.copy_(start)
    optimizer.constrain()
    return params, optimizer


every = pytest.mark.parametrize("name", WORKS)
quiet = pytest.mark.filterwarnings("ignore")  # of the bases themselves


def test_the_readme_gives_the_length_of_the_table() -> None:
    text = " ".join(README.read_text().split())
    assert f"{len(WORKS)} of torch, timm and pytorch_optimizer work, {len(REFUSED)} are refused" in text


@every
@quiet
def test_the_free_phase_is_the_base_bit_for_bit(name: str) -> None:
    ours, theirs = parameters(), parameters()
    optimizer, base = Lawn(WORKS[name](ours)), WORKS[name](theirs)
    assert same(train(ours, optimizer, range(4)), train(theirs, base, range(4)))


@every
@quiet
def test_nothing_of_the_free_phase_but_the_weights_reaches_the_constrained_one(name: str) -> None:
    """Counts in param groups and attributes restart with the moments, and held norms stay."""
    params, optimizer = at_the_switch(name)
    fresh = parameters()
    start = [p.detach().clone() for p in params]
    found = train(params, optimizer, range(10, 15))
    assert same(found, train(fresh, Lawn(WORKS[name](fresh), free_steps=0), range(10, 15)))
    assert not same(found, start)
    assert [tuple(p.shape) for p in optimizer.radii] == [(8, 6), (4, 3, 2, 2)]
    for p, c in optimizer.radii.items():
        torch.testing.assert_close(p.detach().norm(), c, rtol=1e-5, atol=0)


@every
@quiet
def test_gradients_are_the_users_own_in_the_constrained_phase(name: str) -> None:
    params, optimizer = at_the_switch(name)
    for i in range(3):
        for p in params:
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
        own = [(p.grad, p.grad.clone()) for p in params if p.grad is not None]
        optimizer.step()
        assert all(p.grad is grad and torch.equal(grad, copied) for p, (grad, copied) in zip(params, own, strict=True))


@every
@quiet
def test_the_constrained_phase_resumes(name: str) -> None:
    params, optimizer = at_the_switch(name)
    train(params, optimizer, range(10, 13))
    others = parameters()
    resumed = Lawn(WORKS[name](others))
    with torch.no_grad():
        for p, q in zip(params, others, strict=True):
            q.copy_(p)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for ours, alone in zip(train(others, resumed, range(13, 15)), train(params, optimizer, range(13, 15)), strict=True):
        torch.testing.assert_close(ours, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", REFUSED)
@quiet
def test_others_are_refused_with_a_reason(name: str) -> None:
    build, reason = REFUSED[name]
    base = build(parameters())
    with pytest.raises(ValueError, match=reason):
        Lawn(base)
