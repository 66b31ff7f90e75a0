"""Optimizers under wrappers of training frameworks, and torch.compile."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer, lr_scheduler
from torch.utils._pytree import tree_map

from trainables.optimizers import AdamLawn, Lamb, LambLawn, Lawn, SgdLawn

FREE_STEPS = 3
OPTIMIZERS: Mapping[str, Callable[..., Any]] = {
    "adam-lawn": lambda params, lr=0.0625: AdamLawn(params, lr, free_steps=FREE_STEPS),
    "sgd-lawn": lambda params, lr=0.0625: SgdLawn(params, lr, free_steps=FREE_STEPS),
    "lamb-lawn": lambda params, lr=0.0625: LambLawn(params, lr, free_steps=FREE_STEPS),
    "lamb": lambda params, lr=0.0625: Lamb(params, lr),
    "lawn(adamw)": lambda params, lr=0.0625: Lawn(AdamW(params, lr=lr, weight_decay=0), FREE_STEPS),
    "lawn(sgd)": lambda params, lr=0.0625: Lawn(SGD(params, lr=lr, momentum=0.9), FREE_STEPS),
}
every = pytest.mark.parametrize("name", OPTIMIZERS)
every_lawn = pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "lamb"])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.linear = nn.Conv2d(2, 4, 3), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.conv(x).relu().flatten(1)
        out: Tensor = self.linear(hidden)
        return out


def loss_of(model: Any, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    x, y = torch.randn(8, 2, 4, 4, generator=generator), torch.randint(3, (8,), generator=generator)
    return nn.functional.cross_entropy(model(x), y)


def backward(model: Any, optimizer: Any, step: int) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss_of(model, step))


def train(model: Any, optimizer: Any, steps: Iterable[int]) -> None:
    for i in steps:
        backward(model, optimizer, i)
        optimizer.step()


def trained(name: str, steps: int) -> nn.Module:
    """A model that was trained without a wrapper."""
    model = Net()
    train(model, OPTIMIZERS[name](model.parameters()), range(steps))
    return model


def assert_same(model: nn.Module, other: nn.Module, rtol: float = 0.0, atol: float = 0.0) -> None:
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=rtol, atol=atol)


# --- wrappers ---------------------------------------------------------------------------------------------------------


class Accelerated(Optimizer):
    """Forwards to the wrapped optimizer, as Accelerate's does; an Optimizer without Optimizer.__init__."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.optimizer.load_state_dict(tree_map(self._moved, self.optimizer.state_dict()))

    @staticmethod
    def _moved(x: Any) -> Any:
        return x.to("cpu", copy=True) if isinstance(x, Tensor) else x

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self.optimizer.state

    @property
    def param_groups(self) -> Any:  # type: ignore[override]
        return self.optimizer.param_groups

    @property
    def defaults(self) -> Any:  # type: ignore[override]
        return self.optimizer.defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.optimizer.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state_dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    def step(self, closure: Any = None) -> Any:
        return self.optimizer.step(closure)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class Forwarding:
    """Adds the wrapped optimizer's class as a base and forwards missing attributes, as in Lightning and Fabric."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self.__class__ = type(f"Lightning{type(optimizer).__name__}", (Forwarding, type(optimizer)), {})

    def step(self, closure: Any = None) -> Any:
        return self._optimizer.step(closure)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_optimizer"], name)


class Copying:
    """Takes the class and a copy of the wrapped optimizer's attributes, as older Lightning versions do."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.__dict__ = {key: value for key, value in vars(optimizer).items() if key != "step"}
        self._optimizer = optimizer
        self.__class__ = type(f"Lightning{type(optimizer).__name__}", (Copying, type(optimizer)), {})

    def step(self, closure: Any = None) -> Any:
        return self._optimizer.step(closure)


WRAPPERS: Mapping[str, Callable[[Any], Any]] = {"forwarding": Forwarding, "copying": Copying}


@every
def test_an_accelerate_like_wrapper_changes_nothing(name: str) -> None:
    model = Net()
    optimizer = OPTIMIZERS[name](model.parameters())
    wrapper = Accelerated(optimizer)
    schedule = lr_scheduler.ConstantLR(wrapper, 1.0, 1)
    for i in range(8):
        if i == 5:  # prepared again on the way, as when a run resumes
            wrapper = Accelerated(optimizer)
        train(model, wrapper, [i])
        schedule.step()
        assert wrapper.param_groups is optimizer.param_groups
        assert wrapper.state is optimizer.state
    assert_same(model, trained(name, 8))


@every
def test_an_accelerate_like_wrapper_saves_and_loads(name: str) -> None:
    model, other = Net(), Net()
    wrapper, fresh = (Accelerated(OPTIMIZERS[name](net.parameters())) for net in (model, other))
    train(model, wrapper, range(5))
    other.load_state_dict(model.state_dict())
    fresh.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    train(other, fresh, range(5, 8))
    assert_same(other, trained(name, 8))
    third, twin = pickle.loads(pickle.dumps((other, fresh)))
    train(third, twin, range(8, 10))
    assert_same(third, trained(name, 10))


@pytest.mark.parametrize("how", WRAPPERS)
@every
def test_a_lightning_like_wrapper_shows_what_the_optimizer_has(name: str, how: str) -> None:
    model = Net()
    optimizer = OPTIMIZERS[name](model.parameters())
    wrapper = WRAPPERS[how](optimizer)
    assert isinstance(wrapper, type(optimizer))
    for i in range(8):
        train(model, wrapper, [i])
        assert wrapper.param_groups is optimizer.param_groups
        assert repr(wrapper) == f"Lightning{optimizer!r}"
        if name != "lamb":
            assert wrapper.constrained == optimizer.constrained == (i + 1 >= FREE_STEPS)
            assert wrapper.free_steps == FREE_STEPS
            assert wrapper.radii == optimizer.radii
    assert_same(model, trained(name, 8))


@pytest.mark.parametrize("how", WRAPPERS)
@every
def test_a_lightning_like_wrapper_takes_schedulers_and_groups(name: str, how: str) -> None:
    model, other = Net(), Net()
    optimizer, plain = OPTIMIZERS[name](model.conv.parameters()), OPTIMIZERS[name](other.conv.parameters())
    wrapper = WRAPPERS[how](optimizer)
    wrapper.add_param_group({"params": model.linear.parameters(), "lr": 0.25})
    plain.add_param_group({"params": other.linear.parameters(), "lr": 0.25})
    schedules = [lr_scheduler.ExponentialLR(o, 0.75) for o in (optimizer, plain)]  # frameworks give them the real one
    for i in range(8):
        train(model, wrapper, [i])
        train(other, plain, [i])
        for schedule in schedules:
            schedule.step()
    assert_same(model, other)


@pytest.mark.parametrize("how", WRAPPERS)
@every_lawn
def test_constraining_through_a_lightning_like_wrapper(name: str, how: str) -> None:
    """The wrapper runs the method with itself as `self`."""
    model, other = Net(), Net()
    optimizer, plain = OPTIMIZERS[name](model.parameters()), OPTIMIZERS[name](other.parameters())
    wrapper = WRAPPERS[how](optimizer)
    train(model, wrapper, range(2))
    train(other, plain, range(2))
    wrapper.constrain()
    plain.constrain()
    held = {p: float(p.detach().norm()) for p in model.parameters() if p.dim() >= 2}
    for i in range(2, 8):
        assert wrapper.constrained
        assert optimizer.constrained
        assert wrapper.radii == optimizer.radii
        assert {p: float(c) for p, c in optimizer.radii.items()} == pytest.approx(held, rel=1e-6)
        train(model, wrapper, [i])
        train(other, plain, [i])
    assert_same(model, other)


@pytest.mark.parametrize("how", WRAPPERS)
@every
def test_what_a_lightning_like_wrapper_saves_is_the_optimizers(name: str, how: str) -> None:
    model, other = Net(), Net()
    optimizer = OPTIMIZERS[name](model.parameters())
    wrapper = WRAPPERS[how](optimizer)
    train(model, wrapper, range(5))
    saved = copy.deepcopy(wrapper.state_dict())
    assert repr(saved) == repr(optimizer.state_dict())
    fresh = OPTIMIZERS[name](other.parameters())
    fresh.load_state_dict(saved)
    other.load_state_dict(model.state_dict())
    wrapped = WRAPPERS[how](fresh)
    train(other, wrapped, range(5, 8))
    assert_same(other, trained(name, 8))


@every
def test_a_scheduler_of_a_wrapped_base_sees_its_steps(name: str) -> None:
    """It does not warn that the schedule runs ahead of the optimizer."""
    model, other = Net(), Net()
    optimizer, plain = OPTIMIZERS[name](model.parameters()), OPTIMIZERS[name](other.parameters())
    schedules = [lr_scheduler.ExponentialLR(o, 0.75) for o in (getattr(optimizer, "base", optimizer), plain)]
    for i in range(8):
        train(model, optimizer, [i])
        train(other, plain, [i])
        for schedule in schedules:
            schedule.step()
    assert_same(model, other)


# --- torch.compile ----------------------------------------------------------------------------------------------------


ROUNDING = {"rtol": 1e-5, "atol": 1e-6}
"""Of a compiled model's fp32 gradients, over eight steps."""


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Compiled code is cached per function, and limited in number."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.long
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@every
def test_a_compiled_model_trains_the_same(name: str, backend: str) -> None:
    model = Net()
    train(torch.compile(model, backend=backend), OPTIMIZERS[name](model.parameters()), range(8))
    assert_same(model, trained(name, 8), **ROUNDING)


@pytest.mark.long
@pytest.mark.parametrize("lr", [0.0625, torch.tensor(0.0625)], ids=["number", "tensor"])
@every
def test_a_compiled_step_is_the_step(name: str, lr: Any) -> None:
    model = Net()
    optimizer = OPTIMIZERS[name](model.parameters(), lr)
    schedule = lr_scheduler.ConstantLR(optimizer, 1.0, 1)
    step = torch.compile(optimizer.step, backend="eager")
    for i in range(8):
        backward(model, optimizer, i)
        step()  # type: ignore[no-untyped-call]
        schedule.step()
        if name != "lamb":
            assert optimizer.constrained == (i + 1 >= FREE_STEPS)
    assert_same(model, trained(name, 8), **ROUNDING)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # accessed by the compiler
@every
def test_a_compiled_loop_is_the_loop(name: str) -> None:
    model = Net()
    optimizer = OPTIMIZERS[name](model.parameters())

    @torch.compile(backend="aot_eager")
    def iteration(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    for i in range(8):
        generator = torch.Generator().manual_seed(i)
        x, y = torch.randn(8, 2, 4, 4, generator=generator), torch.randint(3, (8,), generator=generator)
        assert iteration(x, y).isfinite()
    assert_same(model, trained(name, 8), **ROUNDING)
