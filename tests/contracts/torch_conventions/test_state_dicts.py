"""State dicts: their form, what they share, what is refused, and which edits of a saved group win."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from tests.helpers.conventions import (
    OPTIMIZERS,
    Case,
    assert_same,
    assign,
    each_optimizer,
    equal,
    every,
    every_lawn,
    lawn_through_both,
    parameters,
    through_both,
    through_disk,
    train,
    values,
)
from trainables.optimizers.phases import UNREAD


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


@pytest.mark.parametrize("shape", [(3, 4), (3, 5), (15,), (5,), (5, 1, 3)], ids=str)
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
