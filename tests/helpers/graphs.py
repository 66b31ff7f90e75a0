"""Graphs on a CPU that behave as CUDA graphs do, so that what is done with them can be tested without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from trainables.optimizers import fused, gpu
from trainables.training import graphed


class StandIn:
    """Captures operations with their tensors, and repeats exactly these on the same memory.

    As on a GPU, a capture computes nothing: what it has changed is put back, and its results hold garbage until a
    replay, as does every tensor in between before each replay.
    """

    def __init__(self) -> None:
        self.broken = False
        self.captures = self.replays = 0
        self.room = 1.0

    def memory(self) -> tuple[int, int]:
        return int(self.room * 2**40), 2**40

    def capture(self, run: Callable[[], list[Tensor]], warm_up: int = 1) -> tuple[Callable[[], None], list[Tensor]]:
        self.captures += 1
        for _ in range(warm_up):
            run()
        tape = Tape()
        with tape, _capturing(tape):
            results = run()
        tape.undo()

        def replay() -> None:
            self.replays += 1
            with _disable_current_modes():  # which see a launch, and not what the device does
                tape.replay()

        return replay, results


@dataclass
class Operation:
    function: Any
    args: Any
    kwargs: Any
    results: list[Tensor | None]
    """New tensors; None for what is no tensor, or a view of an argument."""
    changes: bool


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes operations down with their tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operations: list[Operation] = []
        self._made: set[int] = set()
        self._before: list[tuple[Tensor, Tensor]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Otherwise torch imports its compiler, whose import keeps the frames that it interrupts, and their tensors."""
        return False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        written = list(_written(function, args, kwargs))
        outside = [tensor for tensor in written if _memory(tensor) not in self._made]
        self._before += [(tensor, tensor.clone()) for tensor in outside]
        result = function(*args, **kwargs)
        given = {_memory(tensor) for tensor in _tensors((args, kwargs))}
        parts = result if isinstance(result, list | tuple) else [result]
        new = [part if isinstance(part, Tensor) and _memory(part) not in given else None for part in parts]
        self._made |= {_memory(part) for part in new if part is not None}
        self._operations.append(Operation(function, args, kwargs, new, bool(written)))
        return result

    def launch(self, kernel: Callable[[], object]) -> None:
        """Writes the launch of a kernel down in place of making it."""
        self._operations.append(Operation(kernel, (), {}, [], True))

    def undo(self) -> None:
        for tensor, value in reversed(self._before):
            tensor.copy_(value)
        self._spoil()

    def replay(self) -> None:
        self._spoil()
        with torch.no_grad():
            for operation in self._operations:
                if not operation.changes and not any(part is not None for part in operation.results):
                    continue  # a view is where it is
                result = operation.function(*operation.args, **operation.kwargs)
                parts = result if isinstance(result, list | tuple) else [result]
                for place, part in zip(operation.results, parts, strict=bool(operation.results)):
                    if place is not None:
                        place.copy_(part)

    def _spoil(self) -> None:
        for operation in self._operations:
            for place in operation.results:
                if place is not None:
                    place.fill_(torch.nan if place.is_floating_point() else 1)


@contextmanager
def _capturing(tape: Tape) -> Iterator[None]:
    """What a capture is for a GPU's kernels, which Triton may interpret: no mode, and launches are written down."""
    with (
        mock.patch.object(fused, "intercepted", return_value=False),
        mock.patch.object(gpu, "capturing", return_value=True),
        _launches(tape) if gpu.INTERPRETED else nullcontext(),
    ):
        yield


def _launches(tape: Tape) -> AbstractContextManager[object]:
    from triton.runtime.interpreter import InterpretedFunction  # type: ignore[import-untyped, unused-ignore]

    run = InterpretedFunction.run

    def noted(self: Any, *arguments: Any, **options: Any) -> None:
        tape.launch(partial(run, self, *arguments, **options))

    return mock.patch.object(InterpretedFunction, "run", noted)


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _written(function: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """Yields the arguments that an operation changes."""
    schema = function._schema.arguments
    for place, argument in enumerate(schema):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            yield from _tensors(value)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The graphs of every pack that is made in the test."""
    found = StandIn()
    monkeypatch.setattr(graphed, "backend_of", lambda device: found)
    monkeypatch.setattr("trainables.training.recorded.LONG", float("inf"))  # on a busy machine a step may be long
    return found
