"""A training step as a list of tensor operations: recorded once for each shape, then run without autograd and vmap.

Which operations a step runs depends on the shapes alone, yet autograd and vmap work it out again at every step, which
takes as long as a small model's arithmetic. The operations are those of the function itself, in its order and on its
tensors, so the bits are the same. Source: our choice; what `torch.func` and CUDA graphs do, without their set-up time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from trainables.training.graphed import Plain
from trainables.training.trust import Tensors, Way, both_ways

Key = tuple[torch.Size, ...]
LONG = 1.0
"""Seconds of a call beyond which its dispatch, some milliseconds, is not worth a program."""
VARYING = frozenset(
    {torch.Tag.nondeterministic_seeded, torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
)
"""Tags of operations that a list of operations cannot stand for: what comes next may differ from call to call."""


@dataclass
class _Known:
    """What is known about one combination of shapes.

    Args:
        calls: how many there were before the program was trusted.
        program: what was recorded.
        trusted: the program did what the function does.
        refused: it did not, or there can be none.
    """

    calls: int = 0
    program: Program | None = None
    trusted: bool = False
    refused: bool = False


class Recorded:
    """Calls a function of tensors, by its recorded operations once they have been seen to do the same.

    The first two calls of each combination of shapes are ordinary ones, the third is recorded, the fourth does both
    and compares every bit, results and tensors changed in place. What draws random numbers or looks at a value
    (`item`, `if tensor`) cannot be recorded and is always called, as is what takes longer than `LONG`.

    Args:
        function: tensors → tensors; reads tensors that change from call to call from its arguments alone.
        changes: positions of the arguments that it changes in place.
        runner: runs what was recorded.
    """

    def __init__(self, function: Way, changes: slice = slice(0), runner: Plain | None = None) -> None:
        self._function, self._changes, self._runner = function, changes, runner or Plain()
        self._known: dict[Key, _Known] = {}

    def __call__(self, tensors: Tensors) -> list[Tensor]:
        """Returns `function(tensors)`, detached."""
        known = self._known.setdefault(tuple([tensor.shape for tensor in tensors]), _Known())
        if known.trusted and known.program is not None:
            return self._runner(known.program, tensors, known.program.devices)
        known.calls += 1
        if known.refused or known.calls == 1:
            return self._plain(tensors)
        if known.calls == 2:
            start = time.perf_counter()
            results = self._plain(tensors)
            known.refused = time.perf_counter() - start > LONG or not self._runner.fits(tensors[self._changes])
            return results
        return self._record(known, tensors) if known.program is None else self._try(known, tensors)

    def _plain(self, tensors: Tensors) -> list[Tensor]:
        return [tensor.detach() for tensor in self._function(tensors)]

    def _record(self, known: _Known, tensors: Tensors) -> list[Tensor]:
        recorder = _Recorder(tensors)
        with recorder:
            results = self._plain(tensors)
        known.program = recorder.program(results)
        known.refused = known.program is None
        return results

    def _try(self, known: _Known, tensors: Tensors) -> list[Tensor]:
        assert known.program is not None
        found = both_ways(self._plain, known.program, tensors, tensors[self._changes])
        known.trusted, known.refused = found.same is True, found.same is False
        return found.results


class Program:
    """Recorded operations as a function of tensors."""

    def __init__(self, module: fx.GraphModule) -> None:
        self._module = module

    def __call__(self, tensors: Tensors) -> list[Tensor]:
        """Runs them, without autograd; returns their results."""
        with torch.no_grad():
            return list(self._module.forward(*tensors))

    @cached_property
    def devices(self) -> set[str]:
        """The kinds of the devices of its constants, and of those that its operations name."""
        values: list[Any] = []
        for node in self._module.graph.nodes:
            of_node = (
                [getattr(self._module, node.target)] if node.op == "get_attr" else (*node.args, *node.kwargs.values())
            )
            values += [value.device if isinstance(value, Tensor) else value for value in of_node]
        return {value.type for value in values if isinstance(value, torch.device)}


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every operation below autograd and vmap as a node of a graph.

    Args:
        tensors: the arguments of the function to come, whose place other tensors will take.
    """

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._graph = fx.Graph()
        self._nodes: Any = WeakTensorKeyDictionary()
        self._constants: dict[str, Tensor] = {}
        self._fixed = True
        for position, tensor in enumerate(tensors):
            self._nodes[tensor] = self._graph.placeholder(f"tensor_{position}")

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled; torch would import its compiler, which takes a second, to see to that."""
        return False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        node = self._graph.call_function(function, *fx.node.map_aggregate((args, kwargs), self._node))
        result = function(*args, **kwargs)
        self._fixed &= VARYING.isdisjoint(function.tags)
        if isinstance(result, Tensor):
            self._nodes[result] = node
        elif isinstance(result, list | tuple):
            for position, part in enumerate(result):
                if isinstance(part, Tensor):
                    self._nodes[part] = self._graph.call_function(_part, (node, position))
        return result

    def program(self, results: Tensors) -> Program | None:
        """Returns what was recorded as a function of the tensors, or None if it may differ from call to call."""
        if not self._fixed:
            return None
        self._graph.output([self._node(result) for result in results])
        return Program(fx.GraphModule(self._constants, self._graph))

    def _node(self, value: Any) -> Any:
        """The node that made a tensor; one that no operation made is the same at every call."""
        if not isinstance(value, Tensor):
            return value
        if value not in self._nodes:
            name = f"constant_{len(self._constants)}"
            self._constants[name] = value
            self._nodes[value] = self._graph.get_attr(name)
        return self._nodes[value]


def _part(parts: Sequence[Tensor], position: int) -> Tensor:
    return parts[position]
