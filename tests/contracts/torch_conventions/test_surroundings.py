"""What surrounds a step: warnings point to the loop, and global settings change nothing."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from tests.helpers.conventions import Case, assert_same, equal, every_lawn, parameters, push, through_both

WARNED: Mapping[str, tuple[Callable[[], list[Tensor]], str]] = {
    "norm zero": (
        lambda: [nn.Parameter(torch.zeros(2, 3)), *parameters()],
        r"tensors of norm zero: shapes \[\(2, 3\)\]",
    ),
    "nothing to hold": (lambda: [nn.Parameter(torch.ones(3))], "LAWN constrains no tensor"),
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
    root = Path(__file__).parents[3]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
