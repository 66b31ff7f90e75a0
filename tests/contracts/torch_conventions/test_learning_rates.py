"""Learning rates: numbers, tensors of one element, and torch's schedulers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer, lr_scheduler

from tests.helpers.conventions import (
    Case,
    assert_close,
    assert_same,
    assign,
    each_class,
    each_optimizer,
    every,
    parameters,
    through_both,
    through_disk,
    train,
)


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
