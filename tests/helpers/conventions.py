"""Torch's conventions for optimizers: every optimizer here in every phase, and how a test trains it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from trainables.optimizers import AdamLawn, Lamb, LambLawn, Lawn, SgdLawn

RTOL, ATOL = 2e-6, 1e-6
"""Rounding of fp32 sums that are taken in another order, over the few steps of a test."""


def lamb(params: Any, free_steps: None = None, **options: Any) -> Lamb:
    return Lamb(params, **options)


def lawn_adamw(params: Any, free_steps: int | None = None, lr: Any = 1e-3, **options: Any) -> Lawn:
    return Lawn(AdamW(params, lr=lr, weight_decay=0, **options), free_steps)


def lawn_sgd(params: Any, free_steps: int | None = None, lr: Any = 1e-3, **options: Any) -> Lawn:
    return Lawn(SGD(params, lr=lr, momentum=0.9, **options), free_steps)


OPTIMIZERS: Mapping[str, Callable[..., Any]] = {
    "adam-lawn": AdamLawn,
    "sgd-lawn": SgdLawn,
    "lamb-lawn": LambLawn,
    "lamb": lamb,
    "lawn(adamw)": lawn_adamw,
    "lawn(sgd)": lawn_sgd,
}
PHASES: Mapping[str, int | None] = {"free": None, "constrained": 0, "switching": 3}
"""Phase → free_steps; tests take more than three steps, so that "switching" is in both."""


@dataclass(frozen=True)
class Case:
    """An optimizer in a phase; called like its class."""

    name: str
    phase: str = "free"

    def __call__(self, params: Any, lr: Any = 0.0625, **options: Any) -> Any:
        """A power of two by default, so that a rate is the same number in every precision."""
        return OPTIMIZERS[self.name](params, lr=lr, free_steps=PHASES[self.phase], **options)

    @property
    def lawn(self) -> bool:
        return self.name != "lamb"

    @property
    def own(self) -> bool:
        """Whether the update rule is ours, not a wrapped optimizer's."""
        return not self.name.startswith("lawn")

    def __str__(self) -> str:
        return f"{self.name}-{self.phase}"


CASES = [Case(name, phase) for name in OPTIMIZERS for phase in PHASES if name != "lamb" or phase == "free"]
LAWNS = [case for case in CASES if case.lawn]
OWN = [case for case in CASES if case.own]
every = pytest.mark.parametrize("case", CASES, ids=str)
every_lawn = pytest.mark.parametrize("case", LAWNS, ids=str)
every_own = pytest.mark.parametrize("case", OWN, ids=str)
through_both = pytest.mark.parametrize("case", [c for c in CASES if c.phase == "switching" or not c.lawn], ids=str)
own_through_both = pytest.mark.parametrize("case", [c for c in OWN if c.phase == "switching" or not c.lawn], ids=str)
lawn_through_both = pytest.mark.parametrize("case", [c for c in LAWNS if c.phase == "switching"], ids=str)
each_optimizer = pytest.mark.parametrize("case", [Case(name) for name in OPTIMIZERS], ids=lambda case: case.name)
each_class = pytest.mark.parametrize("case", [Case(n) for n in OPTIMIZERS if Case(n).own], ids=lambda case: case.name)


def parameters(dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Tensor]:
    """Two held tensors, one of them channels_last, and one that is not held."""
    generator = torch.Generator().manual_seed(seed)
    kernel, vector, matrix = (torch.randn(*shape, generator=generator) for shape in ((4, 3, 2, 2), (3,), (5, 3)))
    kernel = kernel.to(memory_format=torch.channels_last)
    return [nn.Parameter(x.to(dtype)) for x in (kernel, vector, matrix)]


def push(ps: Iterable[Tensor], seed: int) -> None:
    """Sets gradients that depend on the weights, so that a wrong step shows in all later ones."""
    generator = torch.Generator().manual_seed(1000 + seed)  # not that of the weights: nothing would be tangential
    for p in ps:
        noise = torch.randn(p.shape, generator=generator, dtype=torch.float32)
        p.grad = torch.empty_like(p).copy_(noise + 0.5 * p.detach().float())


def train(ps: Iterable[Tensor], optimizer: Any, steps: Iterable[int]) -> None:
    ps = list(ps)
    for i in steps:
        push(ps, i)
        optimizer.step()


def values(ps: Iterable[Tensor]) -> list[Tensor]:
    return [p.detach().clone() for p in ps]


def assign(ps: Iterable[Tensor], others: Iterable[Tensor]) -> None:
    with torch.no_grad():
        for p, q in zip(ps, others, strict=True):
            p.copy_(q)


def assert_same(ps: Iterable[Tensor], others: Iterable[Tensor]) -> None:
    """Bit for bit."""
    torch.testing.assert_close(values(ps), values(others), rtol=0, atol=0)


def assert_close(ps: Iterable[Tensor], others: Iterable[Tensor]) -> None:
    torch.testing.assert_close(values(ps), values(others), rtol=RTOL, atol=ATOL)


def equal(a: Any, b: Any) -> bool:
    """Whether two states, groups or optimizers are equal: keys, their order, types, dtypes and bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
    if isinstance(a, Optimizer):
        return equal(public(a), public(b))
    if isinstance(a, Mapping):
        tensors = any(isinstance(key, Tensor) for key in a)
        return (tensors or list(a) == list(b)) and equal(list(a.values()), list(b.values()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def public(optimizer: Optimizer) -> dict[str, Any]:
    """The public attributes of an object, without the step that schedulers put on it, and what torch adds to a copy."""
    found = {name: value for name, value in sorted(vars(optimizer).items()) if name[0] != "_" and name != "step"}
    return found | {"defaults": {key: x for key, x in optimizer.defaults.items() if key != "differentiable"}}


def through_disk(value: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


def with_tensors_for_numbers(saved: dict[str, Any]) -> dict[str, Any]:
    """As torch's optimizers save steps, and as some tools that know only tensors make all numbers."""
    return saved | {"state": with_numbers(saved["state"], lambda x: torch.tensor(float(x)))}


def with_numbers(state: dict[Any, Any], form: Callable[[Any], Tensor], keys: Iterable[str] = ("step", "radius")) -> Any:
    """Replaces the numbers of a state; a norm that was not read yet has none."""
    return {
        i: {key: form(x) if key in keys and x is not None else x for key, x in entries.items()}
        for i, entries in state.items()
    }


def radii_of(optimizer: Any) -> list[Any]:
    found = (entries.get("radius") for entries in optimizer.state_dict()["state"].values())
    return [c for c in found if c is not None]
