"""`rules.step` in place and with fewer passes over memory, by kernels.c if it is compiled on this machine (`native`).

At 20 million weights, a constrained step by torch operations makes about fifty passes over memory; `torch.compile`
takes 20 s and still leaves most of them (docs/performance.md). The kernels make three.

C checks no pointer or size, so everything is checked here: `_addresses` is the only function that takes the address of
a tensor, after checking all tensors of the call.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from trainables.catalogue.methods import RULES
from trainables.optimizers import rules
from trainables.optimizers.layers import Layer
from trainables.optimizers.lists import Number
from trainables.optimizers.native import build_kernels, kernels

__all__ = ["CODES", "build_kernels", "kernels", "step", "usable"]

CODES: Mapping[str, int] = {name: row.kernel for name, row in RULES.items() if row.kernel is not None}
"""The built-in rules that have a kernel, by their rows; any other rule takes `rules.step`."""

BLOCK = 4096
"""Weights per block of kernels.c; each block needs five doubles for its sums."""

HYPER = ("weight_decay", "momentum", "beta1", "beta2", "eps")
"""Order of a row's hyperparameters in kernels.c, after lr and before the two bias corrections."""

PLAIN = (Tensor, torch.nn.Parameter)
"""Exact types of tensors that own their memory: a subclass may store its numbers elsewhere, or not at all."""

CPU = torch.device("cpu")

_buffers = threading.local()


def usable(*tensors: Tensor) -> bool:
    """True if the kernels are compiled and support these tensors: plain contiguous fp32 on a CPU."""
    return not intercepted() and all(plain(x, torch.float32) for x in tensors) and kernels() is not None


def step(
    rule: str,
    w: Tensor,
    gradients: Sequence[Tensor],
    state: rules.State,
    *,
    lr: Number,
    t: int | Tensor,
    hyper: rules.Hyper,
    layers: Sequence[Layer],
    radii: Tensor | None = None,
) -> Tensor:
    """Makes one step in place; equal to `rules.step` up to rounding.

    Args:
        rule, lr, t, hyper: as for `rules.step`; `rule` is one of `CODES`.
        w: weights [R, P], a plain contiguous fp32 tensor on a CPU, as are all below; changed.
        gradients: one per layer, each with R times the layer's weights, with any strides.
        state: the rule's slots, each [R, P]; changed.
        layers: consecutive, the first at 0, the last ending at P.
        radii: c of each layer that LAWN holds and 0 elsewhere, [R, L], of any floating dtype; None for no layer.

    Returns:
        The squared norm of each row's gradient, float64 [R].

    Raises:
        ValueError: as `rules.step`, weight decay in a constrained step, or an unsupported tensor: the message names
            it, what it must be and what it is. Nothing was changed.
        RuntimeError: the kernels are not compiled; call `usable` first.
    """
    first, last = check_call(rule, w, gradients, state, hyper, layers)
    rows, sizes = len(w), [layer.stop - layer.start for layer in layers]
    numbers = _numbers(rows, lr, t, hyper)
    held = _radii(radii, rows, len(layers), hyper)
    squares = torch.empty(rows, dtype=torch.float64, device="cpu")
    dense = [_dense(gradient) for gradient in gradients]  # in a variable, as a temporary would be freed before the call
    w_at, first_at, last_at, held_at, squares_at, *gradients_at = _addresses(
        ("w", w, torch.float32, w.shape),
        (f"slot '{first}'", state[first], torch.float32, w.shape),
        (f"slot '{last}'", state[last], torch.float32, w.shape),
        ("radii", held, torch.float32, (rows, len(layers))),
        ("squares", squares, torch.float64, (rows,)),
        *((f"gradient {i}", x, torch.float32, rows * sizes[i]) for i, x in enumerate(dense)),
    )
    buffer_at, sums_at = _scratch(max(sizes))
    ends = (ctypes.c_int64 * len(layers))(*(layer.stop for layer in layers))
    pointers = (ctypes.c_void_p * len(layers))(*gradients_at)
    _library().lawn_tune_step(
        CODES[rule], rows, len(layers), ends, w_at, first_at, last_at, pointers, numbers,
        held_at, buffer_at, sums_at, squares_at, torch.get_num_threads(),
    )  # fmt: skip
    for changed in (w, state[first], state[last]):
        torch.autograd.graph.increment_version(changed)  # as an in-place operation does, for autograd's checks
    return squares


def _library() -> Any:
    library = kernels()
    if library is None:
        raise RuntimeError("no compiled kernels on this machine; check `usable` first, or call build_kernels()")
    return library


# --- arguments of the C function --------------------------------------------------------------------------------------


_Argument = tuple[str, Tensor, torch.dtype, Sequence[int] | int]
"""A tensor of the call: its name, and the dtype and shape (or number of elements) that the kernel expects."""


def _addresses(*arguments: _Argument) -> list[int]:
    """Returns the addresses of the arguments after checking that all are as the kernel expects.

    Raises:
        ValueError: one is not.
    """
    for name, x, dtype, size in arguments:
        if not plain(x, dtype) or size != (x.numel() if isinstance(size, int) else x.shape):
            amount = f"{size} elements" if isinstance(size, int) else f"shape {list(size)}"
            wanted = f"a plain contiguous {_short(dtype)} tensor of {amount} on the CPU"
            raise ValueError(f"{name} must be {wanted}, got {_described(x)}")
    return [x.data_ptr() for _, x, _, _ in arguments]


def plain(x: Tensor, dtype: torch.dtype, device: torch.device = CPU) -> bool:
    """True if the memory of that device at `x.data_ptr()` contains all elements of x, contiguously."""
    return (
        type(x) in PLAIN
        and x.dtype is dtype
        and x.layout is torch.strided
        and x.device == device
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
        and not torch._is_functional_tensor(x)
        and x.is_contiguous()
        and not x.is_neg()
        and not x._is_zerotensor()
        and x.data_ptr() % dtype.itemsize == 0
        and int(x.storage_offset()) * dtype.itemsize + x.nbytes <= x.untyped_storage().nbytes()
    )


def intercepted() -> bool:
    """True while operations are traced, faked or mapped instead of executed: new tensors may have no memory."""
    level: object = torch._C._functorch.peek_interpreter_stack()  # None outside of torch.func, contrary to its stub
    return torch._C._len_torch_dispatch_stack() > 0 or level is not None


def _dense(x: Tensor) -> Tensor:
    """Makes a strided tensor contiguous; anything else is rejected later."""
    return x.resolve_neg().contiguous() if type(x) in PLAIN and x.layout is torch.strided else x


def _described(x: Any) -> str:
    if not isinstance(x, Tensor):
        return f"a {type(x).__name__}"
    kind = "" if type(x) in PLAIN else f"{type(x).__name__} of "
    if type(x) in PLAIN and x.is_cpu and x.layout is torch.strided and x.is_contiguous() and not plain(x, x.dtype):
        return f"{_short(x.dtype)} {list(x.shape)} without its own aligned memory for all elements"
    strides = "" if x.layout is not torch.strided or x.is_contiguous() else f", strides {list(x.stride())}"
    return f"{kind}{_short(x.dtype)} {list(x.shape)}, {_short(x.layout)}{strides}, on {x.device}"


def _short(what: object) -> str:
    return str(what).removeprefix("torch.")


def check_call(
    rule: str, w: Tensor, gradients: Sequence[Tensor], state: rules.State, hyper: rules.Hyper, layers: Sequence[Layer]
) -> tuple[str, str]:
    """Checks everything that concerns more than one tensor; returns the names of the rule's first and last slot.

    Raises:
        ValueError: see `step`.
    """
    if intercepted():
        raise ValueError("kernels need real tensors: no step under FakeTensorMode, torch.func or another dispatch mode")
    if not isinstance(w, Tensor) or w.dim() != 2:
        raise ValueError(f"w must be a tensor [rows, weights], got {_described(w)}")
    slots = rules.check(rule, hyper, w, layers).slots
    if rule not in CODES:
        raise ValueError(f"rule must be one with a kernel ({', '.join(CODES)}), got '{rule}'")
    if missing := [slot for slot in slots if slot not in state]:
        raise ValueError(f"state must have the slots {', '.join(slots)} of {rule}, missing {', '.join(missing)}")
    if len(gradients) != len(layers):
        raise ValueError(f"gradients must have one tensor per layer ({len(layers)}), got {len(gradients)}")
    starts, stops = [layer.start for layer in layers], [layer.stop for layer in layers]
    if starts != [0, *stops[:-1]] or any(stop < start for start, stop in pairwise([0, *stops])):
        raise ValueError(f"layers must be consecutive from 0, got {list(zip(starts, stops, strict=True))}")
    return slots[0], slots[-1]


def _radii(radii: Tensor | None, rows: int, layers: int, hyper: rules.Hyper) -> Tensor:
    """Returns the radii as the kernels expect them, float32 [R, L]."""
    if radii is None:
        return torch.zeros(rows, layers, dtype=torch.float32, device="cpu")
    if not isinstance(radii, Tensor) or not radii.is_cpu or not radii.is_floating_point():
        raise ValueError(f"radii must be floating point [{rows}, {layers}] on the CPU, got {_described(radii)}")
    held = _dense(radii).to(torch.float32)
    if "weight_decay" in hyper and bool((held > 0).any()):
        raise ValueError(rules.NO_DECAY)
    return held


def _numbers(rows: int, lr: Number, t: int | Tensor, hyper: rules.Hyper) -> ctypes.Array[ctypes.c_double]:
    """One row of numbers per row of weights, in the order of the struct in kernels.c; [R * 8]."""
    given = [("lr", lr), *((name, hyper.get(name, 0.0)) for name in HYPER), ("t", t)]
    columns = [_column(name, value, rows) for name, value in given]
    numbers = []
    for lr_, decay, momentum, beta1, beta2, eps, step_ in zip(*columns, strict=True):
        numbers += [lr_, decay, momentum, beta1, beta2, eps, 1 / (1 - beta1**step_), 1 / (1 - beta2**step_)]
    return (ctypes.c_double * len(numbers))(*numbers)


def _column(name: str, value: Number, rows: int) -> list[float]:
    """Returns one number per row."""
    if not isinstance(value, Tensor):
        return [float(value)] * rows
    if type(value) not in PLAIN or value.is_meta or value.is_complex() or value.numel() not in (1, rows):
        wanted = f"a number, or a tensor with one number for each of {rows} rows"
        raise ValueError(f"{name} must be {wanted}, got {_described(value)}")
    numbers: list[float] = value.detach().double().flatten().tolist()
    return numbers if len(numbers) == rows else numbers * rows


def _scratch(largest: int) -> tuple[int, int]:
    """Returns the addresses of this thread's buffers: a direction of the largest layer and the sums of its blocks."""
    if getattr(_buffers, "size", -1) < largest:
        blocks = largest // BLOCK + 1
        direction = torch.empty(largest, dtype=torch.float32, device="cpu")
        sums = torch.empty(blocks, 5, dtype=torch.float64, device="cpu")
        _buffers.at = _addresses(
            ("direction", direction, torch.float32, (largest,)), ("sums", sums, torch.float64, (blocks, 5))
        )
        _buffers.tensors, _buffers.size = (direction, sums), largest
    return _buffers.at[0], _buffers.at[1]
