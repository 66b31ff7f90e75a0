"""Param groups: each trains as an optimizer of its own, and all carry the phase."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.conventions import (
    PHASES,
    Case,
    assert_close,
    assert_same,
    every,
    every_lawn,
    parameters,
    push,
    through_disk,
    train,
)


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
        warnings.filterwarnings("ignore", "LAWN does not constrain tensors of norm zero")
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
