"""A step by graphs, here of a stand-in, does what the step itself does, to the last bit, or is not used."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers import tasks
from tests.helpers.graphs import StandIn, stand_in
from tests.helpers.steps import ENOUGH, LOSSES, PAIRS, batch, check, pack_of
from trainables.catalogue.methods import METHODS
from trainables.catalogue.rows import Method
from trainables.outcomes import EpochRecord
from trainables.training import graphed
from trainables.training.pack import Pack

__all__ = ["stand_in"]


def cases() -> Iterator[Any]:
    """Every pair, alone and stacked; alone later, if no method of the catalogue is that pair."""
    known = {(method.rule, method.control) for method in METHODS.values()}
    for (name, method), rows in product(PAIRS.items(), (1, 3)):
        later = rows == 1 and (method.rule, method.control) not in known
        yield pytest.param(method, rows, id=f"{name}, {rows}", marks=[pytest.mark.long] if later else [])


@pytest.mark.parametrize(("method", "rows"), list(cases()))
def test_every_rule_with_every_control_has_the_bits_of_the_plain_step(
    method: Method, rows: int, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.optimizers.fused.usable", lambda *tensors: False)
    check(method, rows, monkeypatch)
    assert not stand_in.broken
    assert stand_in.captures >= 6
    assert stand_in.replays > 12


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("method", LOSSES.values(), ids=list(LOSSES))
def test_losses_with_parameters_and_micro_batches_have_the_bits_of_the_plain_step(
    method: Method, parts: int, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(method, 3, monkeypatch, parts)
    assert stand_in.replays > 12


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations, except those that only make a view."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not function.is_view:
            self.calls.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "most"), [("adam-lawn", 6), ("lamb-plus", 6), ("adam-flooding", 16)])
def test_a_step_is_two_graphs_and_a_few_operations(
    name: str, most: int, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.optimizers.fused.usable", lambda *tensors: False)
    stack, lr = pack_of(METHODS[name], 3), torch.full((3, 1), 0.01, dtype=torch.float64)
    inputs, targets = batch(0)
    for _ in range(ENOUGH + 3):
        before = stand_in.replays
        with Launches() as launches:
            stack.gradients((inputs,), targets, shared=True)
            stack.apply(lr)
    assert stand_in.replays == before + 2
    assert len(launches.calls) <= most, launches.calls


# --- whole trainings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "changes"),
    [
        ("adam-lawn", {}),
        ("adam-cpr", {"micro_batch": 6}),
        ("lamb-plus", {"precision": "bfloat16"}),
        ("adam-flooding", {"micro_batch": 4}),
    ],
)
def test_a_training_that_is_interrupted_has_the_records_of_a_plain_one(
    optimizer: str, changes: dict[str, Any], stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over forks, odd last batches and BN's statistics, each epoch in a pack of its own, from a checkpoint."""
    monkeypatch.setattr("trainables.optimizers.fused.usable", lambda *tensors: False)
    config = tasks.pack(tasks.task(optimizer, epochs=6, batch_size=10, **changes), tasks.eight_points(optimizer)[:4])
    with monkeypatch.context() as patch:
        patch.setattr(graphed, "backend_of", lambda device: None)
        plain, _ = tasks.run(config)
    assert not stand_in.captures
    records: list[EpochRecord] = []
    while len(records) < 6:
        records, _ = tasks.run(config, lambda: True, checkpoint=tmp_path / "pack")
    assert records == plain
    assert stand_in.replays > 30


def test_the_memory_of_graphs_is_given_back_before_a_fork_and_at_the_end(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Tensor]] = []
    capture = stand_in.capture

    def noted(call: Any) -> Any:
        replay, results = capture(call)
        alive.extend(map(weakref.ref, results))
        return replay, results

    def left() -> int:
        return sum(ref() is not None for ref in alive)

    monkeypatch.setattr(stand_in, "capture", noted)
    config = tasks.pack(tasks.task("adam-lawn", epochs=2, batch_size=10), tasks.eight_points("adam-lawn")[:4])
    forks: list[int] = []
    select = Pack.select

    def selected(self: Pack, source: Sequence[int]) -> None:
        moved, before = list(source) != list(range(self.size)), left()
        select(self, source)
        assert not (moved and left())
        forks.append(before if moved else 0)

    monkeypatch.setattr(Pack, "select", selected)
    gc.disable()  # at once, not when it is collected
    try:
        tasks.run(config)
        assert any(forks)
        assert left() == 0
    finally:
        gc.enable()
