"""Torch's conventions for optimizers as one suite, run over every optimizer here in every phase."""

from __future__ import annotations

import copy
import io
import os
import pickle
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer, lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.optimizers import AdamLawn, Lamb, LambLawn, Lawn, SgdLawn, fused, lists
from trainables.optimizers.phases import UNREAD

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


# --- construction -----------------------------------------------------------------------------------------------------


GIVEN: Mapping[str, Callable[[list[Tensor]], Any]] = {
    "list": lambda ps: ps,
    "tuple": tuple,
    "generator": lambda ps: (p for p in ps),
    "parameter list": lambda ps: nn.ParameterList(ps).parameters(),
    "named": lambda ps: [(f"p{i}", p) for i, p in enumerate(ps)],
    "named generator": lambda ps: nn.ParameterList(ps).named_parameters(),
    "items of a dict": lambda ps: {f"p{i}": p for i, p in enumerate(ps)}.items(),
    "group": lambda ps: [{"params": ps}],
    "group of a generator": lambda ps: [{"params": (p for p in ps)}],
    "groups of one": lambda ps: [{"params": p} for p in ps],
    "named group": lambda ps: [{"params": nn.ParameterList(ps).named_parameters()}],
}


@pytest.mark.parametrize("given", GIVEN)
@through_both
def test_parameters_come_in_every_form_that_torch_takes(case: Case, given: str) -> None:
    ps, plain = parameters(), parameters()
    optimizer = case(GIVEN[given](ps))
    assert [p for group in optimizer.param_groups for p in group["params"]] == ps
    assert ("param_names" in optimizer.param_groups[0]) == ("named" in given or "items" in given)
    train(ps, optimizer, range(5))
    train(plain, case(plain), range(5))
    assert_close(ps, plain)


@pytest.mark.parametrize(
    ("params", "error", "text"),
    [
        ([], ValueError, "optimizer got an empty parameter list"),
        (torch.ones(2, 2), TypeError, "params argument given to the optimizer should be an iterable"),
        ([{"params": {torch.ones(2, 2)}}], TypeError, "need to be organized in ordered collections"),
        ([1.0], TypeError, "optimizer can only optimize Tensors"),
        ([torch.ones(2, 2, requires_grad=True) * 2], ValueError, "can't optimize a non-leaf Tensor"),
        ([("a", torch.ones(2, 2)), torch.ones(2)], ValueError, "all optimizer params should be with/without names"),
    ],
)
@each_optimizer
def test_what_torch_refuses_is_refused_with_its_words(
    case: Case, params: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        case(params)


@each_optimizer
def test_a_parameter_is_in_one_group(case: Case) -> None:
    ps = parameters()
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        case([{"params": ps}, {"params": ps[:1]}])
    optimizer = case(ps)
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        optimizer.add_param_group({"params": ps[1]})
    assert len(optimizer.param_groups) == 1


@every
def test_a_duplicate_parameter_is_warned_of_and_does_no_harm(case: Case) -> None:
    ps, plain = parameters(), parameters()
    with pytest.warns(UserWarning, match="a parameter group with duplicate parameters"):
        optimizer = case([*ps, ps[0]])
    train(ps, optimizer, range(5))
    train(plain, case(plain), range(5))
    if case.own:  # torch's own optimizers step a duplicate twice
        assert_close(ps, plain)
    assert all(p.isfinite().all() for p in ps)


@pytest.mark.parametrize("option", ["maximize", "foreach", "capturable", "weight_decays"])
@each_class
def test_an_option_that_does_not_exist_is_a_type_error(case: Case, option: str) -> None:
    with pytest.raises(TypeError, match=option):
        case(parameters(), **{option: True})


@pytest.mark.parametrize("integer", [np.int64(3), np.int32(3), np.uint8(3)])
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "lamb"])
def test_free_steps_may_be_a_numpy_integer(name: str, integer: Any) -> None:
    ps, plain = parameters(), parameters()
    optimizer = OPTIMIZERS[name](ps, lr=0.0625, free_steps=integer)
    assert optimizer.free_steps == 3
    train(ps, optimizer, range(5))
    train(plain, Case(name, "switching")(plain), range(5))
    assert_same(ps, plain)
    assert through_disk(optimizer.state_dict())["param_groups"][0]["free_steps"] == 3


@every
def test_it_can_be_printed(case: Case) -> None:
    ps = parameters()
    optimizer = case([{"params": ps[:1]}, {"params": ps[1:], "lr": 0.5}])
    for _ in range(2):
        shown = repr(optimizer)
        assert shown.startswith(f"{type(optimizer).__name__} (\nParameter Group 0\n")
        assert "Parameter Group 1" in shown
        assert "    lr: 0.5\n" in shown
        if case.lawn:
            assert f"    phase: {'constrained' if optimizer.constrained else 'free'}\n" in shown
            assert f"    free_steps: {PHASES[case.phase]}\n" in shown
        train(ps, optimizer, range(5))


# --- param groups -----------------------------------------------------------------------------------------------------


@every
def test_groups_train_as_optimizers_of_their_own(case: Case) -> None:
    """With weight_decay 0, as the usual split into decayed and other parameters writes it."""
    ps, apart = parameters(), parameters()
    optimizer = case([{"params": ps[:1], "lr": 0.125, "weight_decay": 0.0}, {"params": ps[1:], "weight_decay": 0}])
    train(ps, optimizer, range(7))
    others = [case(apart[:1], lr=0.125), case(apart[1:])]
    for i in range(7):
        push(apart, i)
        for other in others:
            other.step()
    assert_close(ps, apart)


@every_lawn
def test_every_group_carries_the_phase(case: Case) -> None:
    ps = parameters()
    optimizer = case([{"params": ps[:1], "constrained": False}, {"params": ps[1:]}])
    for i in range(5):
        constrained = case.phase == "constrained" or (case.phase == "switching" and i >= 3)
        assert optimizer.constrained == constrained
        for group, held in zip(optimizer.param_groups, (False, None), strict=True):
            phase = "constrained" if constrained else "free"
            assert (group["free_steps"], group["steps"], group["phase"]) == (PHASES[case.phase], i, phase)
            assert group["constrained"] is held
        train(ps, optimizer, [i])
    assert list(optimizer.radii) == (ps[2:] if optimizer.constrained else [])


@every_lawn
def test_weight_decay_is_refused_wherever_it_is_asked_for(case: Case) -> None:
    ps = parameters()
    with pytest.raises(ValueError, match=r"weight_decay must be 0, got 0\.1"):
        case([{"params": ps[:1], "weight_decay": 0.1}, {"params": ps[1:]}])
    optimizer = case(ps[:2])
    with pytest.raises(ValueError, match=r"weight_decay must be 0, got 0\.1"):
        optimizer.add_param_group({"params": ps[2], "weight_decay": 0.1})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(("given", "at"), [("tensor", 0), ("list", 2), ("generator", 3), ("named", 5)])
@every
def test_a_group_added_on_the_way_joins_the_phase_and_disturbs_nothing(case: Case, given: str, at: int) -> None:
    ps, late, alone = parameters(), parameters(seed=1)[2], parameters()
    named = given == "named"
    optimizer = case([(f"p{i}", p) for i, p in enumerate(ps)] if named else ps)
    train(ps, optimizer, range(at))
    forms: dict[str, Any] = {"tensor": late, "list": [late], "generator": (p for p in [late])}
    optimizer.add_param_group({"params": forms.get(given, [("late", late)]), "lr": 0.03125})
    start = late.detach().clone()
    for i in range(at, 8):
        push(ps, i)
        late.grad = start.flip(0)
        optimizer.step()
    train(alone, case(alone), range(8))
    assert_close(ps, alone)
    assert not torch.equal(late, start)
    if case.lawn:
        first, second = ({k: group[k] for k in ("free_steps", "steps", "phase")} for group in optimizer.param_groups)
        assert first == second
        assert (late in optimizer.radii) == optimizer.constrained


@every_lawn
def test_a_group_added_late_keeps_the_norm_it_came_with(case: Case) -> None:
    ps, late = parameters(), parameters(seed=1)[2]
    optimizer = case(ps)
    train(ps, optimizer, range(5))
    optimizer.add_param_group({"params": late})
    norm = late.detach().norm()
    train([*ps, late], optimizer, range(5, 9))
    if optimizer.constrained:
        torch.testing.assert_close(late.detach().norm(), norm, rtol=1e-6, atol=0)
        torch.testing.assert_close(optimizer.radii[late], norm, rtol=1e-6, atol=0)


@every
def test_an_empty_group_is_nothing(case: Case) -> None:
    ps, plain = parameters(), parameters()
    optimizer = case([{"params": []}, {"params": ps}])
    train(ps, optimizer, range(5))
    train(plain, case(plain), range(5))
    assert_same(ps, plain)
    optimizer.load_state_dict(through_disk(optimizer.state_dict()))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 2)])
@every
def test_a_tensor_without_elements_is_nothing(case: Case, shape: tuple[int, ...]) -> None:
    ps, plain, empty = parameters(), parameters(), nn.Parameter(torch.empty(shape))
    optimizer = case([empty, *ps])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LAWN leaves tensors of norm zero free")
        train([empty, *ps], optimizer, range(5))
        optimizer.load_state_dict(through_disk(optimizer.state_dict()))
        train([empty, *ps], optimizer, range(5, 8))
    train(plain, case(plain), range(8))
    assert_close(ps, plain)
    assert empty.shape == shape


@every
def test_a_number_is_a_parameter_too(case: Case) -> None:
    ps, scalar = parameters(), nn.Parameter(torch.tensor(2.0))
    optimizer = case([scalar, *ps])
    train([scalar, *ps], optimizer, range(5))
    optimizer.load_state_dict(through_disk(optimizer.state_dict()))
    train([scalar, *ps], optimizer, range(5, 8))
    assert scalar.shape == ()
    assert float(scalar.detach()) != 2.0


# --- learning rates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "shape"), [(torch.float32, ()), (torch.float64, ()), (torch.float32, (1,)), (torch.float64, (1, 1))]
)
@through_both
def test_a_rate_may_be_a_tensor_of_one_element(case: Case, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    ps, plain = parameters(), parameters()
    lr = torch.full(shape, 0.0625, dtype=dtype)
    optimizer = case(ps, lr=lr)
    train(ps, optimizer, range(5))
    optimizer.load_state_dict(through_disk(optimizer.state_dict()))
    for group in optimizer.param_groups:
        group["lr"].fill_(0.03125)  # as schedulers and compiled loops do
    train(ps, optimizer, range(5, 8))
    assert lr.shape == shape
    number = case(plain)
    train(plain, number, range(5))
    number.param_groups[0]["lr"] = 0.03125
    train(plain, number, range(5, 8))
    assert_close(ps, plain)


@each_optimizer
def test_a_rate_of_several_elements_is_refused_with_torchs_words(case: Case) -> None:
    with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
        case(parameters(), lr=torch.tensor([0.1, 0.1]))


@each_class
def test_so_is_a_groups(case: Case) -> None:
    ps = parameters()
    group = {"params": ps[:1], "lr": torch.tensor([0.1, 0.1])}
    with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
        case([group])
    optimizer = case(ps[1:])
    with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1


Schedules = Callable[[Optimizer], list[Any]]
SCHEDULES: Mapping[str, Schedules] = {
    "chained": lambda o: [
        lr_scheduler.StepLR(o, 2, 0.5),
        lr_scheduler.ExponentialLR(o, 0.9),
        lr_scheduler.LinearLR(o, 0.25, total_iters=4),
    ],
    "sequential": lambda o: [
        lr_scheduler.SequentialLR(
            o, [lr_scheduler.ConstantLR(o, 0.5, 2), lr_scheduler.CosineAnnealingLR(o, 6)], milestones=[2]
        )
    ],
    "plateau after a schedule": lambda o: [
        lr_scheduler.LambdaLR(o, lambda i: 1 / (1 + i)),
        lr_scheduler.ReduceLROnPlateau(o, patience=1, factor=0.5),
    ],
    "from zero": lambda o: [lr_scheduler.LambdaLR(o, lambda i: min(1.0, i / 4))],
    "one cycle": lambda o: [lr_scheduler.OneCycleLR(o, 0.125, total_steps=10)],
    "cyclic": lambda o: [lr_scheduler.CyclicLR(o, 0.01, 0.125, step_size_up=3)],
    "restarts": lambda o: [lr_scheduler.CosineAnnealingWarmRestarts(o, 3)],
}
SCHEDULED = ("lr", "momentum", "betas")
"""What schedulers change in a group."""


def advance(schedules: Iterable[Any], loss: float) -> None:
    for schedule in schedules:
        if isinstance(schedule, lr_scheduler.ReduceLROnPlateau):
            schedule.step(loss)
        else:
            schedule.step()


def planned(case: Case, schedules: Schedules, lr: Any) -> Iterator[dict[str, Any]]:
    """What schedulers make of torch's own optimizer, before each step."""
    p = nn.Parameter(torch.zeros(1))
    theirs = SGD([p], lr=lr, momentum=0.9) if "sgd" in case.name else AdamW([p], lr=lr, weight_decay=0)
    running = schedules(theirs)
    for _ in range(8):
        yield {key: copy.copy(theirs.param_groups[0][key]) for key in SCHEDULED if key in theirs.param_groups[0]}
        theirs.step()
        advance(running, 1.0)


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("name", SCHEDULES)
@through_both
def test_schedulers_drive_it_as_they_drive_torchs_own(case: Case, name: str, tensor: bool) -> None:
    ps, by_hand = parameters(), parameters()
    lr = torch.tensor(0.0625, dtype=torch.float64) if tensor else 0.0625
    optimizer, other = case(ps, lr=lr), case(by_hand)
    running = SCHEDULES[name](optimizer)
    for i, plan in enumerate(planned(case, SCHEDULES[name], 0.0625)):
        for key, value in plan.items():
            assert optimizer.param_groups[0][key] == pytest.approx(value, rel=1e-6)
        train(ps, optimizer, [i])
        advance(running, 1.0)
        other.param_groups[0].update(plan)
        train(by_hand, other, [i])
    assert_close(ps, by_hand)
    if case.lawn:
        assert optimizer.constrained == other.constrained == (case.phase != "free")


@every
def test_a_run_with_a_scheduler_resumes(case: Case) -> None:
    whole, ps, qs = parameters(), parameters(), parameters()
    optimizer = case(whole)
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.125, total_steps=10)
    stopped, resumed = case(ps), case(qs, lr=0.5)
    schedules = [schedule, *(lr_scheduler.OneCycleLR(o, 0.125, total_steps=10) for o in (stopped, resumed))]
    for i in range(8):
        if i == 4:
            resumed.load_state_dict(through_disk(stopped.state_dict()))
            schedules[2].load_state_dict(schedules[1].state_dict())
            assign(qs, ps)
        for params, its, its_schedule in zip((whole, ps, qs), (optimizer, stopped, resumed), schedules, strict=True):
            train(params, its, [i])
            its_schedule.step()
    assert_same(qs, whole)


# --- steps ------------------------------------------------------------------------------------------------------------


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
        warnings.filterwarnings("ignore", "LAWN holds no tensor")  # the vector on its own
        for i in range(10):
            train(ps, optimizer, [i])
            push(apart, i)
            for one in each:
                one.step()
    assert_close(ps, apart)


@contextmanager
def by_lists() -> Iterator[None]:
    """Takes the operations of an accelerator on the CPU: lists throughout, and no compiled kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "LIST_SUMS", True)
        patch.setattr(fused, "usable", lambda *_: False)
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every
def test_an_accelerators_operations_give_the_same(case: Case, dtype: torch.dtype) -> None:
    ps, plain = parameters(dtype), parameters(dtype)
    with by_lists():
        train(ps, case(ps), range(10))
    train(plain, case(plain), range(10))
    assert_close(ps, plain)


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that an accelerator would launch, and reads of single numbers, for which a program waits."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launches = self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = func is torch.ops.aten._local_scalar_dense.default
        self.reads += int(read)
        self.launches += int(not read and not func.is_view)
        return func(*args, **(kwargs or {}))


def operations(make: Callable[[list[Tensor]], Any]) -> Operations:
    """Counts those of a third step, over tensors as many as ResNet-50 has, of the same ranks and next to no size."""
    with torch.device("meta"):
        shapes = [p.shape for p in torchvision.models.resnet50().parameters()]
    ps: list[Tensor] = [nn.Parameter(torch.ones([min(n, 2) for n in shape])) for shape in shapes]
    optimizer = make(ps)
    for p in ps:
        p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.step()
    counted = Operations()
    with counted:
        optimizer.step()
    return counted


@pytest.mark.parametrize("phase", PHASES)
def test_a_step_takes_at_most_three_times_the_operations_of_adamw(phase: str) -> None:
    """And reads no number back, where AdamW reads its step counts, which lie on the CPU."""
    theirs = operations(lambda ps: AdamW(ps, lr=0.1, foreach=True))
    with by_lists():
        ours = operations(Case("adam-lawn", phase))
    assert theirs.launches > 5
    assert ours.launches <= 3 * theirs.launches
    assert ours.reads == 0


# --- copies and pickles -----------------------------------------------------------------------------------------------


COPIES: Mapping[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "pickle protocol 2": lambda x: pickle.loads(pickle.dumps(x, 2)),
}


@pytest.mark.parametrize("at", [0, 2, 3, 5])
@pytest.mark.parametrize("kind", COPIES)
@through_both
def test_a_copy_has_all_public_attributes_and_a_life_of_its_own(case: Case, kind: str, at: int) -> None:
    ps = parameters()
    optimizer = case([{"params": ps[:1], "lr": torch.tensor(0.0625)}, {"params": ps[1:]}])
    lr_scheduler.StepLR(optimizer, 100)  # replaces `step` of the instance
    train(ps, optimizer, range(at))
    qs, twin = COPIES[kind]([ps, optimizer])
    assert equal(twin, optimizer)
    assert [p for group in twin.param_groups for p in group["params"]] == list(qs)
    before = copy.deepcopy(optimizer.state_dict())
    train(qs, twin, range(at, 8))
    assert equal(optimizer.state_dict(), before)
    train(ps, optimizer, range(at, 8))
    assert_same(qs, ps)
    assert equal(twin.state_dict(), optimizer.state_dict())


# --- state dicts ------------------------------------------------------------------------------------------------------


@every
def test_the_state_dict_has_torchs_form_and_is_deterministic(case: Case) -> None:
    ps = parameters()
    optimizer = case([{"params": ps[:1]}, {"params": ps[1:]}])
    for i in range(6):
        train(ps, optimizer, [i])
        first, second = optimizer.state_dict(), optimizer.state_dict()
        assert list(first) == ["state", "param_groups"]
        assert sorted(first["state"]) == [0, 1, 2] or case.phase == "switching"  # nothing for a vector at the switch
        assert [group["params"] for group in first["param_groups"]] == [[0], [1, 2]]
        assert equal(first, second)
        assert equal(through_disk(first), first)


@every_lawn
def test_the_state_of_a_parameter(case: Case) -> None:
    ps = parameters()
    optimizer = case(ps)
    train(ps, optimizer, range(7))
    steps = {"free": 7, "constrained": 7, "switching": 4}[case.phase]
    for i, p in enumerate(ps):
        entries = dict(optimizer.state_dict()["state"][i])
        held = p.dim() >= 2 and case.phase != "free"
        radius = entries.pop("radius", None)
        assert radius == (float(optimizer.radii[p]) if held else UNREAD)
        assert type(radius) is float
        if case.own:
            assert entries.pop("step") == steps
            assert type(optimizer.state[p]["step"]) is int
        else:
            assert set(optimizer.state[p]) == set(optimizer.base.state[p]) == set(entries)
            entries.pop("step", None)
        assert set(entries) in ({"m", "v"}, {"momentum_buffer"}, {"exp_avg", "exp_avg_sq"})
        assert all(x.shape == p.shape and x.dtype == p.dtype for x in entries.values())


@pytest.mark.parametrize("at", [0, 1, 3, 4])
@through_both
def test_a_saved_state_rewinds_any_number_of_times(case: Case, at: int) -> None:
    ps = parameters()
    optimizer = case([{"params": ps[:1], "lr": 0.125}, {"params": ps[1:]}])
    train(ps, optimizer, range(at))
    saved = copy.deepcopy({"weights": values(ps), "state": optimizer.state_dict()})
    train(ps, optimizer, range(at, 8))
    end = values(ps)
    for _ in range(2):
        given = copy.deepcopy(saved)  # torch's optimizers go on in the tensors they were given
        assign(ps, given["weights"])
        optimizer.load_state_dict(given["state"])
        assert equal(given, saved)
        train(ps, optimizer, range(at, 8))
        assert_same(ps, end)


@every
def test_a_state_dict_shares_its_tensors_alone(case: Case) -> None:
    """Groups, counts and norms of two optimizers that were loaded from one state are their own."""
    ps, qs = parameters(), parameters()
    first, second = case(ps), case(qs)
    train(ps, first, range(2))
    given = first.state_dict()
    second.load_state_dict(given)
    before = repr(first)
    for group in given["param_groups"]:
        group |= {"lr": 7.0, "phase": "none", "steps": -1}
    assert repr(first) == before
    assert repr(second) == before
    train(qs, second, range(2, 6))
    assert repr(first) == before


@every
def test_names_are_saved_and_do_not_matter_for_loading(case: Case) -> None:
    ps, qs = parameters(), parameters()
    named, plain = case(nn.ParameterList(ps).named_parameters()), case(qs)
    train(ps, named, range(4))
    saved = copy.deepcopy(named.state_dict())
    assert saved["param_groups"][0]["param_names"] == ["0", "1", "2"]
    plain.load_state_dict(saved)
    assign(qs, ps)
    train(ps, named, range(4, 6))
    train(qs, plain, range(4, 6))
    assert_same(qs, ps)
    train(ps, case([(f"other{i}", p) for i, p in enumerate(ps)]), range(1))
    without = copy.deepcopy(saved)
    del without["param_groups"][0]["param_names"]
    named.load_state_dict(without)
    assert named.param_groups[0]["param_names"] == ["0", "1", "2"]


@each_optimizer
def test_a_state_of_other_groups_is_refused_with_torchs_words(case: Case) -> None:
    ps = parameters()
    optimizer = case(ps)
    train(ps, optimizer, range(2))
    before = copy.deepcopy(optimizer.state_dict())
    more = case([{"params": parameters()[:1]}, {"params": parameters(seed=1)[1:]}])
    with pytest.raises(ValueError, match="loaded state dict has a different number of parameter groups"):
        optimizer.load_state_dict(more.state_dict())
    with pytest.raises(ValueError, match="contains a parameter group that doesn't match the size of optimizer's group"):
        optimizer.load_state_dict(case(parameters()[1:]).state_dict())
    assert equal(optimizer.state_dict(), before)


@pytest.mark.parametrize("shape", [(3, 4), (3, 5), (15,), (5, 1, 3)], ids=str)
@through_both
def test_a_state_of_other_shapes_is_refused_before_anything_changes(case: Case, shape: tuple[int, ...]) -> None:
    """Also with as many elements: a transposed layer is not the layer."""
    ps, qs = parameters(), [*parameters()[:2], nn.Parameter(torch.ones(shape))]
    optimizer, other = case(ps), case(qs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LAWN")
        train(qs, other, range(5))
        train(ps, optimizer, range(2))
    before = copy.deepcopy(optimizer.state_dict())
    text = rf"\({', '.join(map(str, shape))},?\).*\(5, 3\)"
    with pytest.raises(ValueError, match=text):
        optimizer.load_state_dict(other.state_dict())
    assert equal(optimizer.state_dict(), before)


@pytest.mark.parametrize("theirs", [AdamW, SGD])
@lawn_through_both
def test_a_state_without_phase_is_refused(case: Case, theirs: Any) -> None:
    ps, qs = parameters(), parameters()
    other = theirs(qs, lr=0.1)
    train(qs, other, range(3))
    optimizer = case(ps)
    train(ps, optimizer, range(2))
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="without its phase"):
        optimizer.load_state_dict(other.state_dict())
    assert equal(optimizer.state_dict(), before)


@every
def test_what_is_edited_in_a_saved_group_wins(case: Case) -> None:
    ps, qs = parameters(), parameters()
    optimizer, other = case(ps), case(qs, lr=0.5)
    train(ps, optimizer, range(2))
    saved = copy.deepcopy(optimizer.state_dict())
    for group in saved["param_groups"]:
        group["lr"] = 0.03125
    other.load_state_dict(saved)
    optimizer.param_groups[0]["lr"] = 0.03125
    assign(qs, ps)
    train(ps, optimizer, range(2, 6))
    train(qs, other, range(2, 6))
    assert_same(qs, ps)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "lamb"])
def test_the_switch_can_be_moved_in_a_saved_group(name: str) -> None:
    ps, qs = parameters(), parameters()
    optimizer, other = Case(name, "switching")(ps), OPTIMIZERS[name](qs, lr=0.0625, free_steps=5)
    train(ps, optimizer, range(2))
    saved = copy.deepcopy(optimizer.state_dict())
    for group in saved["param_groups"]:
        group["free_steps"] = 5
    optimizer.load_state_dict(saved)
    assert optimizer.free_steps == 5
    train(ps, optimizer, range(2, 8))
    train(qs, other, range(8))
    assert_same(ps, qs)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "lamb"])
def test_which_tensors_are_held_can_be_changed_in_a_saved_group(name: str) -> None:
    ps = parameters()
    optimizer = Case(name, "constrained")([{"params": ps[:2]}, {"params": ps[2:]}])
    train(ps, optimizer, range(3))
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][0]["constrained"] = False
    optimizer.load_state_dict(saved)
    assert list(optimizer.radii) == ps[2:]


# --- states of older versions and other machines ----------------------------------------------------------------------


def without_optional_keys(saved: dict[str, Any]) -> dict[str, Any]:
    groups = [{key: value for key, value in group.items() if key != "constrained"} for group in saved["param_groups"]]
    return saved | {"param_groups": groups}


def with_tensors_for_numbers(saved: dict[str, Any]) -> dict[str, Any]:
    """As torch's optimizers save steps, and as some tools that know only tensors make all numbers."""
    return saved | {"state": with_numbers(saved["state"], lambda x: torch.tensor(float(x)))}


def with_numbers(state: dict[Any, Any], form: Callable[[Any], Tensor], keys: Iterable[str] = ("step", "radius")) -> Any:
    """Replaces the numbers of a state; a norm that was not read yet has none."""
    return {
        i: {key: form(x) if key in keys and x is not None else x for key, x in entries.items()}
        for i, entries in state.items()
    }


def version_1(saved: dict[str, Any]) -> dict[str, Any]:
    """The form before version 2: the phase in an entry of its own, norms as tensors of one element, the base apart."""
    groups = saved["param_groups"]
    if "phase" not in groups[0]:
        return saved
    lawn = {key: groups[0][key] for key in ("free_steps", "steps")} | {
        "constrained": groups[0]["phase"] == "constrained"
    }
    old = [{k: v for k, v in group.items() if k not in ("free_steps", "steps", "phase")} for group in groups]
    known = {i: {key: x for key, x in entries.items() if x is not None} for i, entries in saved["state"].items()}
    state = with_numbers(known, lambda x: torch.tensor([x]), ["radius"])
    if not any(key in group for group in groups for key in ("foreach", "fused")):  # not a state of torch's optimizers
        return {"state": state, "param_groups": old, "lawn": lawn}
    radii = {i: {"radius": entries["radius"]} for i, entries in state.items() if "radius" in entries}
    rest = {i: {k: v for k, v in entries.items() if k != "radius"} for i, entries in state.items()}
    base = {"state": {i: entries for i, entries in rest.items() if entries}, "param_groups": old}
    return {"state": radii, "param_groups": old, "lawn": lawn, "base": base}


OLDER: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "without optional keys": without_optional_keys,
    "tensors for numbers": with_tensors_for_numbers,
    "version 1": version_1,
    "version 1 without optional keys": lambda saved: without_optional_keys(version_1(saved)),
}


@pytest.mark.parametrize("at", [0, 2, 3, 5])
@pytest.mark.parametrize("form", OLDER)
@through_both
def test_a_state_of_an_older_form_resumes(case: Case, form: str, at: int) -> None:
    whole, ps = parameters(), parameters()
    train(whole, case(whole), range(8))
    stopped = case(ps)
    train(ps, stopped, range(at))
    saved = through_disk(OLDER[form](stopped.state_dict()))
    resumed = OPTIMIZERS[case.name](ps, lr=0.5)
    resumed.load_state_dict(saved)
    assert list(resumed.state_dict()) == ["state", "param_groups"]
    train(ps, resumed, range(at, 8))
    assert_close(ps, whole)
    if case.lawn:
        assert all(type(c) is float for c in radii_of(resumed))
        assert resumed.param_groups[0].get("constrained") is None


def radii_of(optimizer: Any) -> list[Any]:
    found = (entries.get("radius") for entries in optimizer.state_dict()["state"].values())
    return [c for c in found if c is not None]


DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@own_through_both
def test_the_precision_of_the_state(case: Case, dtype: torch.dtype) -> None:
    trained = torch.float32 if dtype.itemsize == 2 else dtype
    ps = parameters(dtype)
    optimizer = case(ps)
    train(ps, optimizer, range(5))
    optimizer.load_state_dict(through_disk(optimizer.state_dict()))
    train(ps, optimizer, range(5, 7))
    for p in ps:
        tensors = {key: x for key, x in optimizer.state[p].items() if isinstance(x, Tensor)}
        assert ("master" in tensors) == (dtype.itemsize == 2)
        assert all(x.dtype == trained and x.shape == p.shape for x in tensors.values())
        assert p.dtype == dtype
    if case.lawn:
        assert all(c.dtype == trained for c in optimizer.radii.values())


@pytest.mark.parametrize("after", DTYPES)
@pytest.mark.parametrize("before", DTYPES)
@own_through_both
def test_a_state_loads_into_a_model_of_another_precision(case: Case, before: torch.dtype, after: torch.dtype) -> None:
    """Norms keep their value; moments are those saved, to the rounding of the precision they are kept in."""
    ps, qs = parameters(before), parameters(after)
    saving, loading = case(ps), case(qs, lr=0.5)
    train(ps, saving, range(5))
    assign(qs, ps)
    loading.load_state_dict(through_disk(saving.state_dict()))
    kept = torch.float32 if after.itemsize == 2 else after
    for p, q in zip(ps, qs, strict=True):
        for key in set(saving.state[p]) - {"step", "radius", "master"}:
            torch.testing.assert_close(loading.state[q][key], saving.state[p][key].to(kept), rtol=0, atol=0)
        assert ("master" in loading.state[q]) <= (after.itemsize == 2)
    if case.lawn:
        assert radii_of(loading) == radii_of(saving)
    train(qs, loading, range(5, 8))
    assert all(q.dtype == after and q.isfinite().all() for q in qs)
    if case.lawn and after.itemsize > 2:
        for q, c in loading.radii.items():
            torch.testing.assert_close(q.detach().norm(), c, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@own_through_both
def test_a_reloaded_half_precision_model_goes_on_from_its_masters(case: Case, dtype: torch.dtype) -> None:
    """Weights alone would have lost all steps that are smaller than their rounding."""
    whole, ps, qs = parameters(dtype), parameters(dtype), parameters(dtype, seed=1)
    train(whole, case(whole, lr=2**-13), range(20))
    stopped = case(ps, lr=2**-13)
    train(ps, stopped, range(10))
    resumed = case(qs)
    saved = through_disk({"weights": values(ps), "optimizer": stopped.state_dict()})
    resumed.load_state_dict(saved["optimizer"])  # in either order with the weights
    assign(qs, saved["weights"])
    train(qs, resumed, range(10, 20))
    assert_same(qs, whole)


def set_data(ps: Iterable[Tensor], others: Iterable[Tensor]) -> None:
    for p, q in zip(ps, others, strict=True):
        p.data = q.clone()


CHANGES: Mapping[str, Callable[[nn.ParameterList, list[Tensor]], object]] = {
    "load_state_dict": lambda model, new: model.load_state_dict({str(i): x for i, x in enumerate(new)}),
    "copy_": assign,
    "data.copy_": lambda model, new: [p.data.copy_(x) for p, x in zip(model, new, strict=True)],
    "data =": set_data,
    "fill_": lambda model, new: [p.detach().fill_(0.75) for p in model],
    "one element": lambda model, new: [p.detach().view(-1)[:1].fill_(0.75) for p in list(model)[1:]],
}


@pytest.mark.parametrize("at", [0, 2, 5])
@pytest.mark.parametrize("change", CHANGES)
@own_through_both
def test_half_precision_weights_changed_from_outside_are_taken_up(case: Case, change: str, at: int) -> None:
    half = nn.ParameterList(parameters(torch.bfloat16))
    full = nn.ParameterList([nn.Parameter(p.detach().float()) for p in half])
    optimizer, peer = case(half.parameters()), case(full.parameters())

    def both(steps: Iterable[int]) -> None:
        for i in steps:
            push(half, i)
            for p, q in zip(half, full, strict=True):
                q.grad = None if p.grad is None else p.grad.float()
            optimizer.step()
            peer.step()

    both(range(at))
    new = [x.detach() for x in parameters(torch.bfloat16, seed=4)]
    CHANGES[change](half, new)
    CHANGES[change](full, [x.float() for x in new])
    both(range(at, at + 1))
    assert_same(half, [q.to(torch.bfloat16) for q in full])
    both(range(at + 1, 8))
    torch.testing.assert_close(values(half), [q.detach().to(torch.bfloat16) for q in full], rtol=2**-7, atol=1e-4)


@every
def test_a_state_loads_onto_another_device(case: Case) -> None:
    ps = parameters()
    saving = case(ps)
    train(ps, saving, range(5))
    qs = [nn.Parameter(torch.empty_like(p, device="meta")) for p in ps]
    loading = case(qs)
    loading.load_state_dict(saving.state_dict())
    for q in qs:
        tensors = [x for key, x in loading.state[q].items() if isinstance(x, Tensor) and key != "step"]
        assert tensors
        assert all(x.device == q.device for x in tensors)
    if case.lawn:
        assert radii_of(loading) == radii_of(saving)
        assert loading.constrained == saving.constrained


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every
def test_a_run_moves_to_an_accelerator_and_back(case: Case) -> None:
    ps, whole = parameters(), parameters()
    train(whole, case(whole), range(9))
    optimizer = case(ps)
    for start, device in ((0, "cpu"), (3, "cuda"), (6, "cpu")):
        moved: list[Tensor] = [nn.Parameter(p.detach().to(device)) for p in ps]
        other = case(moved)
        other.load_state_dict(through_disk(optimizer.state_dict()))
        for i in range(start, start + 3):
            push(ps, i)
            for p, q in zip(ps, moved, strict=True):
                q.grad = None if p.grad is None else p.grad.to(device)
            other.step()
            assign(ps, moved)
        ps, optimizer = moved, other
    torch.testing.assert_close(values(ps), values(whole), rtol=1e-5, atol=1e-5)


# --- hooks ------------------------------------------------------------------------------------------------------------


@every
def test_step_hooks_fire_once_a_step_with_the_optimizer_as_argument(case: Case) -> None:
    ps = parameters()
    optimizer = case(ps)
    fired: list[str] = []

    def noting(name: str) -> Any:
        def hook(given: Optimizer, args: Any, kwargs: Any) -> None:
            assert given is optimizer
            fired.append(name)

        return hook

    handles = [
        register_optimizer_step_pre_hook(noting("global pre")),
        optimizer.register_step_pre_hook(noting("pre")),
        optimizer.register_step_post_hook(noting("post")),
        register_optimizer_step_post_hook(noting("global post")),
    ]
    try:
        train(ps, optimizer, range(5))
        assert fired == ["global pre", "pre", "post", "global post"] * 5
        optimizer.load_state_dict(optimizer.state_dict())
        train(ps, optimizer, range(1))
        assert len(fired) == 6 * 4
    finally:
        for handle in handles:
            handle.remove()
    train(ps, optimizer, range(5))
    assert len(fired) == 6 * 4


@every
def test_a_pre_hook_may_change_gradients_and_arguments(case: Case) -> None:
    ps, plain = parameters(), parameters()
    optimizer = case(ps)

    def hook(_: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for p in ps:
            assert p.grad is not None
            p.grad.mul_(2)
        return (*args, lambda: 5.0), kwargs

    optimizer.register_step_pre_hook(hook)
    other = case(plain)
    for i in range(5):
        push(ps, i)
        push(plain, i)
        assert optimizer.step() == 5.0
        for p in plain:
            assert p.grad is not None
            p.grad.mul_(2)
        other.step()
    assert_same(ps, plain)


@every
def test_a_post_hook_sees_what_the_step_has_made(case: Case) -> None:
    ps = parameters()
    optimizer = case(ps)
    seen: list[list[Tensor]] = []
    optimizer.register_step_post_hook(lambda *_: seen.append(values(ps)))
    for i in range(5):
        train(ps, optimizer, [i])
        assert_same(seen[i], ps)


@every
def test_hooks_of_saving(case: Case) -> None:
    ps = parameters()
    optimizer = case(ps)
    train(ps, optimizer, range(5))
    plain = copy.deepcopy(optimizer.state_dict())
    seen: list[Any] = []

    def post(given: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        assert given is optimizer
        seen.append(copy.deepcopy(state_dict))
        return state_dict | {"mine": 1}

    def pre(given: Optimizer) -> None:
        seen.append("pre")

    handles = [optimizer.register_state_dict_post_hook(post), optimizer.register_state_dict_pre_hook(pre)]
    assert list(optimizer.state_dict()) == ["state", "param_groups", "mine"]
    assert seen[0] == "pre"
    assert equal(seen[1], plain)  # complete, norms included
    for handle in handles:
        handle.remove()
    assert equal(optimizer.state_dict(), plain)


@pytest.mark.parametrize("prepend", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
@through_both
def test_a_hook_of_loading_may_replace_the_state(case: Case, in_place: bool, prepend: bool) -> None:
    """Also with one that would be refused as it was given: the check is of what the hooks leave."""
    ps, qs = parameters(), parameters()
    saving, loading = case(ps), case(qs, lr=0.5)
    train(ps, saving, range(5))
    right = copy.deepcopy(saving.state_dict())

    def pre(given: Optimizer, state_dict: dict[str, Any]) -> Any:
        assert given is loading
        if in_place:
            state_dict.update(right)
            return None
        return right

    loading.register_load_state_dict_pre_hook(pre, prepend=prepend)
    wrong = {"state": {0: {"m": torch.ones(7)}}, "param_groups": []}
    loading.load_state_dict(wrong)
    assert list(wrong) == ["state", "param_groups"]
    assert wrong["param_groups"] == []
    assert equal(loading.state_dict(), saving.state_dict())


@pytest.mark.parametrize("prepend", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@through_both
def test_a_hook_after_loading_sees_the_final_state(case: Case, dtype: torch.dtype, prepend: bool) -> None:
    if not case.own:
        dtype = torch.float64
    ps, qs = parameters(dtype), parameters(dtype)
    saving, loading = case(ps), case(qs, lr=0.5)
    train(ps, saving, range(5))
    seen: list[dict[str, Any]] = []
    loading.register_load_state_dict_post_hook(
        lambda given: seen.append(copy.deepcopy(given.state_dict())), prepend=prepend
    )
    loading.load_state_dict(
        through_disk(with_tensors_for_numbers(saving.state_dict()) if case.own else saving.state_dict())
    )
    assert len(seen) == 1
    assert equal(seen[0], saving.state_dict())


@every
def test_loading_leaves_no_hooks_behind(case: Case) -> None:
    optimizer = case(parameters())

    def hooks() -> list[int]:
        return [len(value) for name, value in vars(optimizer).items() if name.endswith("_hooks")]

    before = hooks()
    optimizer.load_state_dict(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"loaded state dict|phase"):
        optimizer.load_state_dict({"state": {}, "param_groups": []})
    assert hooks() == before


# --- warnings ---------------------------------------------------------------------------------------------------------


WARNED: Mapping[str, tuple[Callable[[], list[Tensor]], str]] = {
    "norm zero": (lambda: [nn.Parameter(torch.zeros(2, 3)), *parameters()], r"norm zero free: shapes \[\(2, 3\)\]"),
    "nothing to hold": (lambda: [nn.Parameter(torch.ones(3))], "LAWN holds no tensor"),
}


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("what", WARNED)
@every_lawn
def test_a_warning_is_given_once_and_points_to_the_loop(case: Case, what: str, hooked: bool) -> None:
    make, text = WARNED[what]
    ps = make()
    optimizer = case(ps)
    if hooked:
        lr_scheduler.StepLR(optimizer, 10)  # puts a frame of torch between the loop and the step
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(5):
            push(ps, i)
            ps[0].grad = torch.zeros_like(ps[0])  # or it is not zero any more when the free phase ends
            optimizer.step()
        optimizer.constrain()
    assert len(caught) == 1
    assert re.search(text, str(caught[0].message))
    assert Path(caught[0].filename).name == Path(__file__).name
    assert optimizer.constrained


# --- surroundings -----------------------------------------------------------------------------------------------------


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS: Mapping[str, Callable[[], Any]] = {
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device": lambda: torch.device("meta"),
    "inference off": lambda: torch.inference_mode(mode=False),
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "deterministic": deterministic,
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SURROUNDINGS)
@through_both
def test_global_settings_change_nothing(case: Case, name: str, dtype: torch.dtype) -> None:
    dtype = dtype if case.own else torch.float64
    ps, plain = parameters(dtype), parameters(dtype)
    gradients = [[torch.full_like(p, 0.5 + i).add_(p.detach()) for p in ps] for i in range(6)]
    optimizer, other = None, case(plain)
    for i, step in enumerate(gradients):
        for p, q, grad in zip(ps, plain, step, strict=True):
            p.grad, q.grad = grad.clone(), grad.clone()
        with SURROUNDINGS[name]():
            optimizer = optimizer or case(ps)
            optimizer.step()
            if i == 4:
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        other.step()
    assert optimizer is not None
    assert_same(ps, plain)
    if case.own:  # torch's optimizers take the default dtype for their step counts
        assert equal(optimizer.state_dict(), other.state_dict())


WITHOUT_HOME = """
import pwd
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown  # as for a container's user without an entry in /etc/passwd
import torch
from torch.optim import AdamW
from trainables.optimizers import AdamLawn, Lamb, LambLawn, Lawn, SgdLawn
for make in (AdamLawn, SgdLawn, LambLawn, lambda ps, **o: Lawn(AdamW(ps, weight_decay=0), **o)):
    p = torch.nn.Parameter(torch.ones(3, 3))
    optimizer = make([p], free_steps=2)
    for _ in range(4):
        p.grad = torch.eye(3)
        optimizer.step()
    assert abs(float(p.detach().norm()) - float(optimizer.radii[p])) < 1e-5
p.grad = torch.eye(3)
Lamb([p]).step()
"""


def test_no_home_folder_is_needed(tmp_path: Path) -> None:
    kept = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME", "LOGNAME", "USER")}
    environment = kept | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", WITHOUT_HOME]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
