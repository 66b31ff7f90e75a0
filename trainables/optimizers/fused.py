"""`rules.step` in place and in fewer passes over memory, by kernels.c where it is compiled on this machine (`native`).

At 20 million weights the operations of a constrained step pass over memory some fifty times, and compiling them by
`torch.compile` takes 20 s and still leaves most passes (docs/performance.md); the kernels pass three times.

C trusts every pointer and every size, so everything is checked here: `_addresses` is the only place that takes the
address of a tensor, after it has checked all tensors of the call.
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
"""Weights a block of kernels.c; sums need three doubles for each."""

HYPER = ("weight_decay", "momentum", "beta1", "beta2", "eps")
"""Order of a row's hyperparameters in kernels.c, after lr and before the two bias corrections."""

PLAIN = (Tensor, torch.nn.Parameter)
"""Exact types of tensors that own the memory they show: a subclass may keep its numbers elsewhere, or nowhere."""

_room = threading.local()


def usable(*tensors: Tensor) -> bool:
    """True if the kernels can take these tensors: plain contiguous fp32 on a CPU, and the kernels are compiled."""
    return not _intercepted() and all(_plain(x, torch.float32) for x in tensors) and kernels() is not None


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
        gradients: one a layer, each with R times the layer's weights, in any strides.
        state: the rule's slots, each [R, P]; changed.
        layers: end to end, the first at 0, the last up to P.
        radii: c of each layer where LAWN holds it and 0 elsewhere, [R, L], in any floating dtype; None holds nothing.

    Returns:
        The squared norm of each row's gradient, float64 [R].

    Raises:
        ValueError: as `rules.step`, weight decay in a constrained step, or a tensor that is not as above: the text
            names it, what it must be and what it is. Nothing was changed.
        RuntimeError: the kernels are not compiled; ask `usable` first.
    """
    first, last = _check_call(rule, w, gradients, state, hyper, layers)
    rows, sizes = len(w), [layer.stop - layer.start for layer in layers]
    numbers = _numbers(rows, lr, t, hyper)
    held = _radii(radii, rows, len(layers), hyper)
    squares = torch.empty(rows, dtype=torch.float64, device="cpu")
    dense = [_dense(gradient) for gradient in gradients]  # has a name, as a temporary would be freed before the call
    w_at, first_at, last_at, held_at, squares_at, *gradients_at = _addresses(
        ("w", w, torch.float32, w.shape),
        (f"slot '{first}'", state[first], torch.float32, w.shape),
        (f"slot '{last}'", state[last], torch.float32, w.shape),
        ("radii", held, torch.float32, (rows, len(layers))),
        ("squares", squares, torch.float64, (rows,)),
        *((f"gradient {i}", x, torch.float32, rows * sizes[i]) for i, x in enumerate(dense)),
    )
    room_at, sums_at = _scratch(max(sizes))
    ends = (ctypes.c_int64 * len(layers))(*(layer.stop for layer in layers))
    pointers = (ctypes.c_void_p * len(layers))(*gradients_at)
    _library().lawn_tune_step(
        CODES[rule], rows, len(layers), ends, w_at, first_at, last_at, pointers, numbers,
        held_at, room_at, sums_at, squares_at, torch.get_num_threads(),
    )  # fmt: skip
    for changed in (w, state[first], state[last]):
        torch.autograd.graph.increment_version(changed)  # as an in-place operation would, so that autograd notices
    return squares


def _library() -> Any:
    library = kernels()
    if library is None:
        raise RuntimeError("there are no compiled kernels on this machine; ask `usable` first, or call build_kernels()")
    return library


# --- what C is given --------------------------------------------------------------------------------------------------


_Argument = tuple[str, Tensor, torch.dtype, Sequence[int] | int]
"""A tensor of the call: its name, and the dtype and the shape (or number of elements) that the kernel takes it for."""


def _addresses(*arguments: _Argument) -> list[int]:
    """Returns where the arguments are in memory, once all of them are what the kernel takes them for.

    Raises:
        ValueError: one is not.
    """
    for name, x, dtype, size in arguments:
        if not _plain(x, dtype) or size != (x.numel() if isinstance(size, int) else x.shape):
            amount = f"{size} elements" if isinstance(size, int) else f"shape {list(size)}"
            wanted = f"a plain contiguous {_short(dtype)} tensor of {amount} on the CPU"
            raise ValueError(f"{name} must be {wanted}, got {_described(x)}")
    return [x.data_ptr() for _, x, _, _ in arguments]


def _plain(x: Tensor, dtype: torch.dtype) -> bool:
    """True if the memory at `x.data_ptr()` holds the elements of x one after the other, all of them."""
    return (
        type(x) in PLAIN
        and x.dtype is dtype
        and x.layout is torch.strided
        and x.is_cpu
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
        and not torch._is_functional_tensor(x)
        and x.is_contiguous()
        and not x.is_neg()
        and not x._is_zerotensor()
        and x.data_ptr() % dtype.itemsize == 0
        and int(x.storage_offset() + x.numel()) * dtype.itemsize <= x.untyped_storage().nbytes()
    )


def _intercepted() -> bool:
    """True where operations are traced, faked or mapped instead of done: new tensors may have no memory there."""
    level: object = torch._C._functorch.peek_interpreter_stack()  # None outside of torch.func, whatever its stub says
    return torch._C._len_torch_dispatch_stack() > 0 or level is not None


def _dense(x: Tensor) -> Tensor:
    """Lays out a strided tensor one element after the other; whatever else it is, is refused later."""
    return x.resolve_neg().contiguous() if type(x) in PLAIN and x.layout is torch.strided else x


def _described(x: Any) -> str:
    if not isinstance(x, Tensor):
        return f"a {type(x).__name__}"
    kind = "" if type(x) in PLAIN else f"{type(x).__name__} of "
    if type(x) in PLAIN and x.is_cpu and x.layout is torch.strided and x.is_contiguous() and not _plain(x, x.dtype):
        return f"{_short(x.dtype)} {list(x.shape)} without aligned memory of its own for all of them"
    strides = "" if x.layout is not torch.strided or x.is_contiguous() else f", strides {list(x.stride())}"
    return f"{kind}{_short(x.dtype)} {list(x.shape)}, {_short(x.layout)}{strides}, on {x.device}"


def _short(what: object) -> str:
    return str(what).removeprefix("torch.")


def _check_call(
    rule: str, w: Tensor, gradients: Sequence[Tensor], state: rules.State, hyper: rules.Hyper, layers: Sequence[Layer]
) -> tuple[str, str]:
    """Checks what is not a matter of one tensor; returns the names of the rule's first and last slot.

    Raises:
        ValueError: see `step`.
    """
    if _intercepted():
        raise ValueError("kernels need real tensors: no step under FakeTensorMode, torch.func or another dispatch mode")
    if not isinstance(w, Tensor) or w.dim() != 2:
        raise ValueError(f"w must be a tensor [rows, weights], got {_described(w)}")
    slots = rules.check(rule, hyper, w, layers).slots
    if rule not in CODES:
        raise ValueError(f"there are kernels for {', '.join(CODES)}, got the rule '{rule}'")
    if missing := [slot for slot in slots if slot not in state]:
        raise ValueError(f"state must have the slots {', '.join(slots)} of {rule}, and lacks {', '.join(missing)}")
    if len(gradients) != len(layers):
        raise ValueError(f"gradients must be one for each of the {len(layers)} layers, got {len(gradients)}")
    starts, stops = [layer.start for layer in layers], [layer.stop for layer in layers]
    if starts != [0, *stops[:-1]] or any(stop < start for start, stop in pairwise([0, *stops])):
        raise ValueError(f"layers must follow one another from 0, got {list(zip(starts, stops, strict=True))}")
    return slots[0], slots[-1]


def _radii(radii: Tensor | None, rows: int, layers: int, hyper: rules.Hyper) -> Tensor:
    """Returns the radii as the kernels take them, float32 [R, L]."""
    if radii is None:
        return torch.zeros(rows, layers, dtype=torch.float32, device="cpu")
    if not isinstance(radii, Tensor) or not radii.is_cpu or not radii.is_floating_point():
        raise ValueError(f"radii must be floating point [{rows}, {layers}] on the CPU, got {_described(radii)}")
    held = _dense(radii).to(torch.float32)
    if "weight_decay" in hyper and bool((held > 0).any()):
        raise ValueError("LAWN uses no weight decay anywhere: leave weight_decay out of hyper in a constrained step")
    return held


def _numbers(rows: int, lr: Number, t: int | Tensor, hyper: rules.Hyper) -> ctypes.Array[ctypes.c_double]:
    """One row of numbers a row of weights, as the struct of kernels.c has them; [R * 8]."""
    given = [("lr", lr), *((name, hyper.get(name, 0.0)) for name in HYPER), ("t", t)]
    columns = [_column(name, value, rows) for name, value in given]
    numbers = []
    for lr_, decay, momentum, beta1, beta2, eps, step_ in zip(*columns, strict=True):
        numbers += [lr_, decay, momentum, beta1, beta2, eps, 1 / (1 - beta1**step_), 1 / (1 - beta2**step_)]
    return (ctypes.c_double * len(numbers))(*numbers)


def _column(name: str, value: Number, rows: int) -> list[float]:
    """One number a row."""
    if not isinstance(value, Tensor):
        return [float(value)] * rows
    if type(value) not in PLAIN or value.is_meta or value.is_complex() or value.numel() not in (1, rows):
        wanted = f"a number, or a tensor of one number for each of {rows} rows"
        raise ValueError(f"{name} must be {wanted}, got {_described(value)}")
    numbers: list[float] = value.detach().double().flatten().tolist()
    return numbers if len(numbers) == rows else numbers * rows


def _scratch(largest: int) -> tuple[int, int]:
    """Where there is room for the direction of the largest layer and the sums of its blocks, kept by each thread."""
    if getattr(_room, "size", -1) < largest:
        blocks = largest // BLOCK + 1
        direction = torch.empty(largest, dtype=torch.float32, device="cpu")
        sums = torch.empty(blocks, 3, dtype=torch.float64, device="cpu")
        _room.at = _addresses(
            ("direction", direction, torch.float32, (largest,)), ("sums", sums, torch.float64, (blocks, 3))
        )
        _room.tensors, _room.size = (direction, sums), largest
    return _room.at[0], _room.at[1]
