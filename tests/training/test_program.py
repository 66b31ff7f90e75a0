"""A program has no operation that only names what there was before, and computes what its function does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainables.training import program as program_module
from trainables.training.program import Program, Recorder
from trainables.training.recorded import Recorded

SIDE = 3
Tensors = Sequence[Tensor]
Function = Callable[[Tensors], list[Tensor]]


def program_of(function: Function, tensors: Tensors) -> Program | None:
    recorder = Recorder(tensors)
    with recorder:
        results = function(tensors)
    return recorder.program(results)


def operations(function: Function, *shapes: tuple[int, ...]) -> int:
    program = program_of(function, [torch.randn(shape) for shape in shapes])
    assert program is not None
    return program.operations


SAME: dict[str, Callable[[Tensor], Tensor]] = {
    "detached": lambda x: x.detach(),
    "expanded to its shape": lambda x: x.expand(SIDE, SIDE),
    "viewed in its shape": lambda x: x.view(SIDE, SIDE),
    "transposed twice": lambda x: x.t().t(),
    "stretched and squeezed": lambda x: x.unsqueeze(0).squeeze(0),
    "all of it": lambda x: x[:, :],
}


@pytest.mark.parametrize("same", SAME.values(), ids=SAME.keys())
def test_a_view_that_is_no_other_is_no_operation(same: Callable[[Tensor], Tensor]) -> None:
    assert operations(lambda tensors: [same(tensors[0]) * 2], (SIDE, SIDE)) == 1


def test_the_same_view_is_taken_once() -> None:
    assert operations(lambda tensors: [tensors[0].t() @ tensors[1], tensors[0].t() + 1], (3, 3), (3, 3)) == 3


def test_what_nothing_needs_is_no_operation_unless_it_changes_something() -> None:
    def function(tensors: Tensors) -> list[Tensor]:
        tensors[0].exp().log()
        tensors[0].mul_(2)
        return [tensors[1] + 1]

    assert operations(function, (2,), (2,)) == 2


def test_tensors_that_lie_in_the_same_memory_when_recorded_are_not_taken_for_one() -> None:
    memory = torch.randn(2, SIDE, SIDE)
    one = memory[0]
    program = program_of(lambda tensors: [tensors[0].t() - tensors[1].t()], [one, one.view(SIDE, SIDE)])
    assert program is not None
    assert program(list(memory))[0].equal((memory[0] - memory[1]).t())


def test_a_tensor_that_became_another_view_cannot_be_recorded() -> None:
    assert program_of(lambda tensors: [tensors[0].clone().t_() + 1], [torch.randn(2, 3)]) is None


def test_other_strides_are_another_program() -> None:
    """A transposed tensor is contiguous here and not there: the list of operations differs."""
    calls: list[int] = []

    def function(tensors: Tensors) -> list[Tensor]:
        calls.append(1)
        return [tensors[0].t().reshape(-1) * 2]

    recorded = Recorded(function)
    for _ in range(6):
        for given_ in (torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE).t()):
            assert recorded([given_])[0].equal(given_.t().reshape(-1) * 2)
    assert len(calls) == 8


VIEWS: tuple[Callable[[Tensor], Tensor], ...] = (
    Tensor.t,
    Tensor.detach,
    lambda x: x.view(x.shape),
    lambda x: x.expand(x.shape),
    lambda x: x.unsqueeze(1).squeeze(1),
    lambda x: x.tensor_split(SIDE)[0].expand(SIDE, SIDE),
    lambda x: x.tensor_split(SIDE)[1].expand(SIDE, SIDE),
    lambda x: x.narrow(0, 0, SIDE),
    lambda x: x.contiguous(),
    torch._neg_view,
)
CHANGES: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda x: x.add_(1) if x.stride(0) and x.stride(1) else x + 1,
    lambda x: x[0].mul_(2).expand(SIDE, SIDE) if x.stride(1) else x - 1,
    lambda x: x * 3,
    lambda x: x.clone(),
)
MOVES = VIEWS[:2] + CHANGES + VIEWS[2:]


@given(
    moves=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(MOVES)), max_size=12),
    offset=st.integers(0, 4),
)
def test_views_and_changes_in_any_order_are_what_they_were(
    moves: list[tuple[int, Callable[[Tensor], Tensor]]], offset: int
) -> None:
    """With other tensors than those that were recorded, which lie elsewhere in their memory."""

    def function(tensors: Tensors) -> list[Tensor]:
        made = list(tensors)
        for position, move in moves:
            made.append(move(made[position % len(made)]))
        return [tensor * 1.5 for tensor in made]

    generator = torch.Generator().manual_seed(0)

    def some(offset: int) -> list[Tensor]:
        memory = torch.randn(2, 20, generator=generator)
        return [part[offset : offset + SIDE * SIDE].view(SIDE, SIDE) for part in memory]

    program = program_of(function, some(0))
    assert program is not None
    ours = some(offset)
    theirs = [tensor.clone() for tensor in ours]
    assert all(map(torch.equal, program(ours), function(theirs)))
    assert all(map(torch.equal, ours, theirs))


def test_operations_are_called_by_their_functions_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer microseconds, same bits; where a function of that name does something else, the operation itself is."""
    given_ = [torch.randn(2, 3), torch.randn(3, 2)]

    def function(tensors: Tensors) -> list[Tensor]:
        return [(tensors[0] @ tensors[1]).add_(1).relu_()]

    def called(binding: Any) -> tuple[bool, bool]:
        with monkeypatch.context() as patch:
            patch.setattr(program_module, "_binding", binding)
            recorded = Recorded(function)
            for _ in range(5):
                assert recorded(given_)[0].equal(function(given_)[0])
        (known,) = recorded._known.values()
        assert known.program is not None
        return known.trusted, known.program.bound

    assert {
        program_module._binding(torch.ops.aten.mm.default),
        program_module._binding(torch.ops.aten.add_.Tensor),
    } == {
        torch.mm,
        Tensor.add_,
    }
    assert called(program_module._binding) == (True, True)
    assert called(lambda operation: None) == (True, True)
    assert called(lambda operation: torch.add) == (True, False)  # which raises, as the shapes do not fit
    assert called(lambda operation: torch.matmul if "mm" in str(operation) else torch.sub) == (True, False)
