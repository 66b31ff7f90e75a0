"""A function of tensors as the list of operations it ran, without those that change nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from trainables.training.trust import Tensors

VARYING = frozenset(
    {
        torch.Tag.nondeterministic_seeded,
        torch.Tag.data_dependent_output,
        torch.Tag.dynamic_output_shape,
        torch.Tag.inplace_view,
    }
)
"""Tags of operations that a list of operations cannot stand for: what comes next may differ from call to call, or a
tensor is not what it was."""

BINDINGS = BuiltinFunctionType, MethodDescriptorType
"""What torch's functions and methods are that are not written in Python."""


class Program:
    """Recorded operations as a function of tensors.

    Args:
        constants: tensors that it reads besides its arguments, by name.
        graph: the operations.

    `bound` says whether it calls torch's Python functions of the same names, which takes a microsecond less for each.
    """

    def __init__(self, constants: dict[str, Tensor], graph: fx.Graph) -> None:
        self._operations = [(node, node.target) for node in graph.nodes if isinstance(node.target, OpOverload)]
        for node, operation in self._operations:
            node.target = _binding(operation) or operation
        self.bound = True
        self._module = fx.GraphModule(constants, graph)

    def unbind(self) -> None:
        """Calls the operations themselves from now on."""
        for node, operation in self._operations:
            node.target = operation
        self.bound = False
        self._module.recompile()

    def __call__(self, tensors: Tensors) -> list[Tensor]:
        """Runs them, without autograd; returns their results."""
        with torch.no_grad():
            return list(self._module.forward(*tensors))

    @property
    def operations(self) -> int:
        """How many there are."""
        return len(self._operations)

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


class _Known(NamedTuple):
    """What is known of a tensor.

    Args:
        node: makes it.
        memory: made the memory that it is a view of.
    """

    node: fx.Node
    memory: fx.Node


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every operation below autograd and vmap as a node of a graph.

    Autograd and vmap make many views that are no other than one there was before: detached, expanded to the shape it
    has, transposed twice. The first is taken in place of all others, which costs nothing at each call.

    Args:
        tensors: the arguments of the function to come, whose place other tensors of their shapes, strides and dtypes
            will take.
    """

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._graph = fx.Graph()
        self._known: Any = WeakTensorKeyDictionary()
        self._places: dict[Hashable, fx.Node] = {}
        self._constants: dict[str, Tensor] = {}
        self._fixed = True
        for position, tensor in enumerate(tensors):
            self._note(self._graph.placeholder(f"tensor_{position}"), tensor)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled; torch would import its compiler, which takes a second, to see to that."""
        return False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        node = self._graph.call_function(function, *fx.node.map_aggregate((args, kwargs), self._node))
        result = function(*args, **kwargs)
        self._fixed &= VARYING.isdisjoint(function.tags)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        viewed = given[0] if len(given) == 1 else None
        if isinstance(result, Tensor):
            self._note(node, result, viewed)
        elif isinstance(result, list | tuple):
            for position, part in enumerate(result):
                if isinstance(part, Tensor):
                    self._note(self._graph.call_function(_part, (node, position)), part, viewed)
        return result

    def program(self, results: Tensors) -> Program | None:
        """Returns what was recorded as a function of the tensors, or None if it may differ from call to call."""
        if not self._fixed:
            return None
        self._graph.output([self._node(result) for result in results])
        self._graph.eliminate_dead_code()
        return Program(self._constants, self._graph)

    def _note(self, node: fx.Node, tensor: Tensor, viewed: Tensor | None = None) -> None:
        """Notes that a node makes a tensor, which may be a view of the only one that it is made of."""
        memory = self._known[viewed].memory if viewed is not None and _shares(tensor, viewed) else node
        bits = tensor.dtype, tensor.is_conj(), tensor.is_neg()
        place = (memory, tensor.storage_offset(), tensor.shape, tensor.stride(), bits)
        self._known[tensor] = _Known(self._places.setdefault(place, node), memory)

    def _node(self, value: Any) -> Any:
        """The node that made a tensor; one that no operation made is the same at every call."""
        if not isinstance(value, Tensor):
            return value
        if value not in self._known:
            name = f"constant_{len(self._constants)}"
            self._constants[name] = value
            self._note(self._graph.get_attr(name), value)
        return self._known[value].node


def _binding(operation: OpOverload) -> Callable[..., Any] | None:
    """Returns torch's Python function of an operation's name, which finds the operation by the arguments, if any."""
    namespace, _, name = operation._schema.name.partition("::")
    found = [getattr(owner, name, None) for owner in (torch, Tensor) if namespace == "aten"]
    return next((function for function in found if isinstance(function, BINDINGS)), None)


def _shares(one: Tensor, other: Tensor) -> bool:
    return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)


def _part(parts: Sequence[Tensor], position: int) -> Tensor:
    return parts[position]
