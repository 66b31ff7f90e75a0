"""States in the forms of older versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from tests.helpers.conventions import (
    OPTIMIZERS,
    Case,
    assert_close,
    parameters,
    radii_of,
    through_both,
    through_disk,
    train,
    with_numbers,
    with_tensors_for_numbers,
)


def without_optional_keys(saved: dict[str, Any]) -> dict[str, Any]:
    groups = [{key: value for key, value in group.items() if key != "constrained"} for group in saved["param_groups"]]
    return saved | {"param_groups": groups}


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
