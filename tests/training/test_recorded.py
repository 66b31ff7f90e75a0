"""A recorded step does what the step itself does, to the last bit, or is not used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.helpers.tasks import eight_points, pack, task, training
from trainables.training.loop import Training
from trainables.training.recorded import Recorded

CALLS = 6


def trained(optimizer: str, plain: bool, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Training:
    with monkeypatch.context() as patch:
        if plain:
            patch.setattr(Recorded, "__call__", lambda self, tensors: self._plain(tensors))
        run = training(pack(task(optimizer, epochs=6, **changes), eight_points(optimizer)))
        while not run.finished:
            run.run_epoch()
    return run


@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [("sgd-lawn", "float32"), ("adam", "bfloat16"), ("adam-lawn", "float32"), ("lamb", "bfloat16")],
)
def test_training_by_recorded_steps_gives_the_same_bits(
    optimizer: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over forks, whose stacks have other shapes, odd last batches, and BN's statistics, which change in place."""
    monkeypatch.setattr("trainables.training.recorded.LONG", float("inf"))  # on a busy machine a step may be long
    plain, recorded = (trained(optimizer, way, monkeypatch, precision=precision) for way in (True, False))
    known = [known for each in recorded.pack._gradients.values() for known in each._known.values()]
    assert any(one.trusted for one in known)
    assert not any(one.refused for one in known)
    assert recorded.records == plain.records
    assert recorded.pack.state.weights.equal(plain.pack.state.weights)
    buffers = plain.pack.state.buffers
    assert buffers
    assert all(buffer.equal(buffers[name]) for name, buffer in recorded.pack.state.buffers.items())


class Counted:
    """A function that knows how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        self.calls += 1
        return [self.of(tensors)]

    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        return (tensors[0] * 2 + tensors[1]).relu()


class Random(Counted):
    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        return tensors[0] + torch.rand(3)


class Looks(Counted):
    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        return tensors[0] if tensors[1].sum() > 0 else tensors[1]


class Chooses(Counted):
    """How many results there are depends on values."""

    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        return tensors[0][tensors[1] > 0].sum()


class Remembers(Counted):
    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        return tensors[0] + self.calls


def arguments(calls: int = CALLS) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [[torch.randn(3, generator=generator) for _ in range(2)] for _ in range(calls)]


def test_after_four_calls_the_function_is_needed_no_more() -> None:
    function = Counted()
    recorded = Recorded(function)
    for tensors in arguments():
        assert recorded(tensors)[0].equal(Counted().of(tensors))
    assert function.calls == 4
    recorded([torch.ones(4), torch.ones(4)])
    assert function.calls == 5  # another shape is another program


@pytest.mark.parametrize("kind", [Random, Looks, Chooses, Remembers])
def test_what_differs_from_call_to_call_is_always_called(kind: type[Counted]) -> None:
    function, alike = kind(), kind()
    recorded = Recorded(function)
    for call, tensors in enumerate(arguments()):
        torch.manual_seed(call)
        found = recorded(tensors)
        torch.manual_seed(call)
        assert found[0].equal(alike(tensors)[0])
    assert function.calls == CALLS


def test_what_is_changed_in_place_is_changed_once_a_call() -> None:
    def function(tensors: Sequence[Tensor]) -> list[Tensor]:
        tensors[1].mul_(0.5).add_(tensors[0])
        return [tensors[1] * 2]

    recorded = Recorded(function, changes=slice(1, 2))
    state, expected = torch.ones(3), torch.ones(3)
    for first, _ in arguments():
        assert recorded([first, state])[0].equal(function([first, expected])[0])
        assert state.equal(expected)


def test_a_result_that_is_no_number_proves_nothing() -> None:
    function = Counted()
    recorded = Recorded(function)
    nan = [torch.full((3,), torch.nan), torch.ones(3)]
    for _ in range(4):
        assert recorded(nan)[0].isnan().all()
    assert function.calls == 4
    for tensors in arguments(3):
        assert recorded(tensors)[0].equal(Counted().of(tensors))
    assert function.calls == 5


def test_what_takes_long_is_not_worth_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.training.recorded.LONG", 0.0)
    monkeypatch.setattr(Recorded, "_record", None)
    function = Counted()
    recorded = Recorded(function)
    for tensors in arguments():
        recorded(tensors)
    assert function.calls == CALLS


def test_gradients_are_recorded_too() -> None:
    def gradient(tensors: Sequence[Tensor]) -> list[Tensor]:
        x = tensors[0].detach().requires_grad_()
        return list(torch.autograd.grad((x.sin() * tensors[1]).sum(), x))

    recorded = Recorded(gradient)
    for tensors in arguments():
        assert recorded(tensors)[0].equal(gradient(tensors)[0])
        assert not recorded(tensors)[0].requires_grad


RECORD = """
from trainables.training.recorded import Recorded
recorded = Recorded(lambda tensors: [tensors[0] * 2])
for _ in range(5): recorded([torch.ones(3)])
assert next(iter(recorded._known.values())).trusted
"""
TRAIN = """
from tests.helpers.tasks import pack, point, run, task
from trainables.catalogue.methods import METHODS
for name in METHODS: run(pack(task(name, epochs=2), [point(name), point(name, warmup_epochs=0.5)]))
"""


@pytest.mark.parametrize("work", [RECORD, TRAIN], ids=["record", "train with every method"])
def test_no_step_brings_a_compiler_or_symbolic_mathematics(work: str) -> None:
    """They take each worker process a second to import, more than recording ever saves in a short trial."""
    script = f"import sys, torch\n{work}\nprint({{'sympy', 'torch._dynamo'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "set()", done.stderr
