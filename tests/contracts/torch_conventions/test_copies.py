"""Copies and pickles."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from tests.helpers.conventions import Case, assert_same, equal, parameters, through_both, train

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
