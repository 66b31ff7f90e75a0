"""`rules.step` in place on a GPU, by the Triton kernels of `gpu_kernels`: 2 to 8 launches for any number of tensors.

torch's list operations take about a hundred launches for a constrained step, and twelve passes over memory where the
kernels make three. Nothing waits for the device: numbers that change from step to step stay on it.

The kernels are compiled for the device at their first use and tried there on a small problem; where that fails, or
Triton is not installed, the caller uses torch operations.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import cache, lru_cache, partial
from itertools import accumulate, product
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from trainables.optimizers import fused, rules
from trainables.optimizers.layers import Layer
from trainables.optimizers.lists import Number
from trainables.optimizers.native import disabled
from trainables.out_of_memory import memory_ended

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether Triton's interpreter runs the kernels, on tensors of the CPU as well; for tests."""
BLOCK = 4096
"""Weights per program."""
WARPS = 8
"""Of a program; by the compiler's report, more of them have no more weights in flight."""
GROUP = 16
"""Blocks that a program looks at before it finds that none needs care."""
WIDTH, MANY = 1024, 8192
"""Blocks that are summed at once, of a layer and of a row."""
POSITIONS = 2**31
"""Weights of a tensor that the kernels' positions, int32, can tell apart."""

_log = logging.getLogger(__name__)


def usable(*tensors: Tensor) -> bool:
    """True if the kernels work on the device of these tensors and support them: contiguous fp32 on one GPU."""
    device = tensors[0].device
    return (
        _reachable(device)
        and not fused.intercepted()
        and all(fused.plain(x, torch.float32, device) and x.numel() < POSITIONS for x in tensors)
        and not disabled()
        and _trusted(device)
    )


def kernels_for(*tensors: Tensor) -> ModuleType | None:
    """Returns the module whose `step` takes these tensors: `fused`, or this one; None for neither."""
    return next((module for module in (fused, sys.modules[__name__]) if module.usable(*tensors)), None)


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

    Args, returns and errors are those of `fused.step`, with every tensor on the device of w.
    """
    names = fused.check_call(rule, w, gradients, state, hyper, layers)
    if radii is not None and "weight_decay" in hyper:
        raise ValueError(rules.NO_DECAY)
    sizes = [layer.stop - layer.start for layer in layers]
    weights, first, last = (x.split_with_sizes(sizes, dim=1) for x in (w, *(state[name] for name in names)))
    dense = [x.reshape(len(w), -1).contiguous() for x in gradients]
    squares = step_lists(rule, weights, first, last, dense, lr=lr, t=t, hyper=hyper, radii=radii)
    for changed in (w, *(state[name] for name in names)):
        torch.autograd.graph.increment_version(changed)  # as an in-place operation does, for autograd's checks
    return squares


def step_lists(
    rule: str,
    w: Sequence[Tensor],
    first: Sequence[Tensor],
    last: Sequence[Tensor],
    gradients: Sequence[Tensor],
    *,
    lr: Number,
    t: int | Tensor,
    hyper: rules.Hyper,
    radii: Tensor | None = None,
) -> Tensor:
    """As `step`, for lists with a tensor [R, n] for each layer, whose rows are contiguous.

    Args:
        rule, lr, hyper: as for `step`.
        w, first, last: weights and the rule's first and last slot; changed. `last` is `first` for SGD.
        gradients: shaped like w.
        t: as for `step`, or int64 [R, L], one for each layer.
        radii: c of each layer that LAWN holds and 0 elsewhere, [R, L]; None for no layer.
    """
    rows, device = len(w[0]), w[0].device
    cut = cut_of(tuple(x.shape[1] for x in w), device)
    addresses, strides = table(*(_where(xs) for xs in (w, first, last, gradients)), device=device)
    if capturing(device):
        _read_by_graphs.append((cut, addresses, strides))
    numbers = _numbers(lr, hyper, rows, device)
    steps = _steps(t, rows, len(w), device)
    held = torch.zeros((rows, len(w)), device=device) if radii is None else radii.to(device, torch.float32)
    call = Step(fused.CODES[rule], rows, cut, numbers, steps, held.contiguous()).at(addresses, strides)
    with current(device):
        call.launch(three_passes=radii is not None or rules.RULES[rule].trust_ratio)
        return call.squares()


# --- launches ---------------------------------------------------------------------------------------------------------


def current(device: torch.device) -> AbstractContextManager[object]:
    """Makes a GPU the current one: Triton launches there, whatever device the tensors are on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


class _Cut:
    """How the weights of a row are divided into blocks; the same for every step.

    Args:
        sizes: the number of weights of each layer.
        device: where the tables are needed.
    """

    def __init__(self, sizes: Sequence[int], device: torch.device) -> None:
        _check_no_capture(device)
        counts = [-(-size // BLOCK) for size in sizes]
        places = [(layer, block) for layer, count in enumerate(counts) for block in range(count)]
        self.layers, self.blocks = len(sizes), len(places)
        self.places = torch.tensor(places, dtype=torch.int32).to(device)
        self.sizes = torch.tensor(sizes, dtype=torch.int64).to(device)
        self.firsts = torch.tensor([*accumulate(counts, initial=0)], dtype=torch.int32).to(device)


class Step:
    """One step of tensors that may be anywhere, with what it needs on the device.

    Args:
        rule: its code.
        rows: of each tensor.
        cut: of a row.
        numbers: hyperparameters, float64 [R, 6] in the order of the kernels.
        steps: t of each row and layer, int64 [R, L].
        radii: c of each layer that LAWN holds and 0 elsewhere, fp32 [R, L].
    """

    def __init__(self, rule: int, rows: int, cut: _Cut, numbers: Tensor, steps: Tensor, radii: Tensor) -> None:
        from trainables.optimizers import gpu_kernels  # not every machine has Triton

        self._kernels, empty = gpu_kernels, partial(torch.empty, dtype=torch.float64, device=radii.device)
        self._cut, self._rule, self._rows, self._radii, self._numbers = cut, rule, rows, radii, numbers
        self._where: tuple[Tensor, ...] = ()
        self._steps = (steps, *steps.stride())
        self._factors = empty((rows, cut.layers, gpu_kernels.FACTORS.value))
        self._sums, self._squares = empty((rows, cut.blocks, 2)), empty((rows, cut.blocks))

    def at(self, addresses: Tensor, strides: Tensor) -> Step:
        """Returns the same step, in the same memory, of the tensors of a `table`."""
        other = copy(self)
        other._where = (self._cut.places, self._cut.sizes, addresses, strides, self._radii)
        return other

    def launch(self, three_passes: bool, moves: bool = True) -> None:
        """Launches the kernels in their order.

        Args:
            three_passes: whether a layer takes three passes.
            moves: with three passes, False leaves the weights as they are.
        """
        kernels, cut, counts = self._kernels, self._cut, (self._cut.layers, self._cut.blocks)
        of_layers, numbers = (self._sums, cut.firsts, self._radii, self._numbers), (self._numbers, self._factors)
        all_sums = self._sums, self._squares
        if three_passes:
            self._by_block(kernels.projection_sums, *self._where[:-1], *all_sums, *counts)
        self._by_layer(kernels.layer_factors, *of_layers, *self._steps, self._factors, *counts)
        self._by_block(kernels.directions, *self._where, *numbers, *all_sums, *counts, THREE=three_passes)
        if three_passes and moves:
            self._by_layer(kernels.moves, *of_layers, self._factors, *counts)
            self._by_block(kernels.careful_sums, *self._where, *numbers, self._sums, *counts, GROUP=GROUP)
            self._by_layer(kernels.careful_moves, *of_layers, self._factors, *counts)
            self._by_block(kernels.move, *self._where, *numbers, cut.layers)

    def squares(self) -> Tensor:
        """Returns |g|² of each row of the last step, float64 [R]."""
        result = torch.empty(self._rows, dtype=torch.float64, device=self._radii.device)
        _launch(self._kernels.total, (self._rows,), self._squares, result, self._cut.blocks, WIDTH=MANY, num_warps=16)
        return result

    def _by_block(self, kernel: Any, *arguments: Any, **constants: int) -> None:
        programs = -(-self._cut.blocks // constants.get("GROUP", 1))
        options = {"RULE": self._rule, "BLOCK": BLOCK, "num_warps": WARPS, **constants}
        _launch(kernel, (programs, self._rows), *arguments, **options)

    def _by_layer(self, kernel: Any, *arguments: Any) -> None:
        _launch(kernel, (self._cut.layers, self._rows), *arguments, RULE=self._rule, WIDTH=WIDTH)


def _launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: int) -> None:
    try:
        kernel[grid](*arguments, **options)
    except Exception:
        _forget_unloaded(kernel)
        raise


def _forget_unloaded(kernel: Any) -> None:
    """Lets the next launch load what could not be, for want of memory: Triton itself never tries again, and fails."""
    for compiled, *_ in getattr(kernel, "device_caches", {}).values():
        for key in [key for key, made in compiled.items() if getattr(made, "function", True) is None]:
            del compiled[key]


# --- tables on the device ---------------------------------------------------------------------------------------------


_Where = tuple[tuple[int, int], ...]


@lru_cache(maxsize=64)
def cut_of(sizes: tuple[int, ...], device: torch.device) -> _Cut:
    """Returns how layers of these sizes are divided, copied to the device once."""
    return _Cut(sizes, device)


def _where(xs: Sequence[Tensor]) -> _Where:
    """Address and distance of rows of each tensor."""
    return tuple((x.data_ptr(), x.stride(0)) for x in xs)


@lru_cache(maxsize=64)
def table(*lists: _Where, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns addresses and strides of lists of tensors, int64 [4, L] each, on the device.

    From one step to the next tensors stay where they are, gradients nearly always: what has been copied is kept.
    """
    _check_no_capture(device)
    table = torch.tensor(lists, dtype=torch.int64).movedim(-1, 0).contiguous()
    on_device = (table.pin_memory() if device.type == "cuda" else table).to(device, non_blocking=True)
    return on_device[0], on_device[1]


_read_by_graphs: list[tuple[_Cut, Tensor, Tensor]] = []
"""Tables whose addresses are in a CUDA graph: kept as long as the process, a few KB a graph."""


def capturing(device: torch.device) -> bool:
    """Whether launches go into a CUDA graph instead of to the device."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _check_no_capture(device: torch.device) -> None:
    """Raises if a graph would copy from memory of the host, which may hold something else when it is replayed."""
    if capturing(device):
        raise RuntimeError("the tables of a step must be on the device before it is captured")


def _numbers(lr: Number, hyper: rules.Hyper, rows: int, device: torch.device) -> Tensor:
    """A row's numbers in the order of the kernels, float64 [R, 6]."""
    values = [lr, *(hyper.get(name, 0.0) for name in fused.HYPER)]
    return torch.cat([_column(value, rows, device) for value in values], dim=1)


def _column(value: Number, rows: int, device: torch.device) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(device, torch.float64).reshape(-1, 1).expand(rows, 1)
    return torch.full((rows, 1), value, dtype=torch.float64, device=device)  # a launch, not a copy from the host


def _steps(t: int | Tensor, rows: int, layers: int, device: torch.device) -> Tensor:
    if isinstance(t, int):
        t = torch.full((1, 1), t, dtype=torch.int64, device=device)
    return (t if t.dim() == 2 else t.reshape(-1, 1)).to(device, torch.int64).expand(rows, layers)


def forget() -> None:
    """Drops what is kept from step to step, and what was found of devices."""
    for kept in (cut_of, table, _trusted):
        kept.cache_clear()


# --- trust ------------------------------------------------------------------------------------------------------------


def _reachable(device: torch.device) -> bool:
    return device.type == "cuda" or (INTERPRETED and device.type == "cpu")


@cache
def _trusted(device: torch.device) -> bool:
    """Compiles the kernels for a device and compares a small step by each rule with `rules.step`, once a process."""
    try:
        torch.cuda.empty_cache()  # the driver loads kernels into what torch does not keep
        differences = [_difference(rule, held, device) for rule, held in product(fused.CODES, (False, True))]
    except Exception as error:  # whatever a compiler or a driver raises, training goes on without the kernels
        if memory_ended(error):
            raise  # the next pack may have it, and would else train without the kernels, with other bits
        _log.warning("no optimizer kernels on %s, using torch operations: %s", device, error)
        return False
    worst = float(torch.tensor(differences).max())  # NaN if one is
    if not worst < 1e-4:
        _log.warning("the optimizer kernels on %s differ from torch operations by %.1e and are not used", device, worst)
    return worst < 1e-4


def _difference(rule: str, held: bool, device: torch.device) -> float:
    """The largest difference of weights after a step of two small layers, relative to the largest weight."""
    size = BLOCK + 3
    layers = (Layer("a", 0, BLOCK, True), Layer("b", BLOCK, size, False))
    values = torch.linspace(-1, 1, 2 * size).sin().view(2, -1).to(device)
    w, g = values.clone(), (7 * values).cos()
    hyper = dict.fromkeys(rules.find(rule).hyper, 0.9)
    radii = rules.radii_of(w, layers)
    state = {name: slot + values.square() for name, slot in rules.init_state(rule, w).items()}
    options: dict[str, Any] = {"lr": 0.1, "t": 2, "hyper": hyper, "layers": layers}
    expected, _ = rules.step(rule, w, g, state, constrained=held, radii=radii, **options)
    step(rule, w, [g[:, :BLOCK], g[:, BLOCK:]], state, radii=radii if held else None, **options)
    return float((w - expected).abs().max() / expected.abs().max())
