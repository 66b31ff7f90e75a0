"""The step of a param group on a GPU, again and again: what stays from step to step stays on the device.

The kernels of a step take less time than their launches from Python do. So the second step captures them as a CUDA
graph, and the next ones repeat it by a single launch. It reads from a table on the device where the tensors are:
gradients may be elsewhere at every step.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor

from trainables.optimizers import cuda_graphs, fused, gpu, rules
from trainables.optimizers.cuda_graphs import Backend, Replay
from trainables.optimizers.lists import constants

CHOICES = 4
"""Choices of sizes for which steps are kept, as not every parameter has a gradient at every step."""

Addresses = tuple[tuple[int, ...], ...]
"""Those of the weights, of the first and the last slot, and of the gradients."""

_log = logging.getLogger(__name__)


class Repeated:
    """Steps of as many tensors of the same sizes, [1, n] each, wherever they are.

    Args:
        rule: name of the rule.
        sizes: the number of weights of each tensor.
        device: where they are.
        backend: captures graphs; None for launches only.
    """

    def __init__(self, rule: str, sizes: tuple[int, ...], device: torch.device, backend: Backend | None) -> None:
        self._sizes, self._device, self._backend = sizes, device, backend
        self._always_three = rules.RULES[rule].trust_ratio
        shape, count = (1, len(sizes)), 1 + len(fused.HYPER)
        numbers = torch.full((1, count), torch.nan, dtype=torch.float64, device=device)
        self._columns, self._values = numbers.unbind(1), [torch.nan] * count
        self._steps, self._next = torch.zeros(shape, dtype=torch.int64, device=device), [1] * len(sizes)
        self._radii, self._held = torch.zeros(shape, device=device), (0.0,) * len(sizes)
        self._step = gpu.Step(fused.CODES[rule], 1, gpu.cut_of(sizes, device), numbers, self._steps, self._radii)
        self._at: Addresses = ()
        self._table: tuple[Tensor, Tensor] | None = None
        self._ways: dict[tuple[bool, ...], _Way] = {}
        self._replays = 0

    def __call__(
        self,
        addresses: Addresses,
        lr: float,
        counts: list[int] | None,
        hyper: Mapping[str, float],
        radii: tuple[float, ...],
        moves: bool = True,
    ) -> None:
        """Makes one step in place.

        Args:
            addresses: of the tensors, which the caller has checked: the kernels write there.
            lr: the learning rate.
            counts: t of each tensor; None for one more than at the last step.
            hyper: the other hyperparameters, floats.
            radii: c of each tensor that LAWN holds, 0 for the others.
            moves: see `gpu.Step.launch`.
        """
        three_passes = self._always_three or any(radii)
        way = self._way(addresses, three_passes, moves)
        self._write_numbers([lr, *(hyper.get(name, 0.0) for name in fused.HYPER)])
        self._write_counts(counts)
        if radii != self._held:
            self._radii.copy_(constants((radii,), torch.float32, self._device))
            self._held = radii
        self._next = []  # unknown if the step fails
        self._make(way)
        self._next = [count + 1 for count in counts or ()]

    def _write_numbers(self, values: list[float]) -> None:
        if values != self._values:
            for column, value, before in zip(self._columns, values, self._values, strict=True):
                if value != before:
                    column.fill_(value)
            self._values = values

    def _write_counts(self, counts: list[int] | None) -> None:
        """Sets the step counts on the device to those before the step, which adds one itself."""
        if counts is None or counts == self._next:
            return
        if len(set(counts)) == 1:
            self._steps.fill_(counts[0] - 1)
        else:
            self._steps.copy_(torch.tensor([counts]) - 1)

    def _way(self, addresses: Addresses, *how: bool) -> _Way:
        """Returns what makes a step of tensors there: the table that it reads stays where it is."""
        if addresses != self._at or self._table is None:
            pairs = (tuple(zip(some, self._sizes, strict=True)) for some in addresses)
            places, strides = gpu.table(*pairs, device=self._device)
            if self._table is None:
                self._table = places.clone(), strides
            else:
                self._table[0].copy_(places)
            self._at = addresses
        if how not in self._ways:
            self._ways[how] = _Way(self._step.at(*self._table), self._steps, how)
        return self._ways[how]

    def _make(self, way: _Way) -> None:
        if way.replay is None and way.launched and self._backend is not None and not self._backend.broken:
            self._capture(way, self._backend)
        if way.replay is not None:
            self._replays += 1
            way.replay()
        else:
            with gpu.current(self._device):
                way.launch()
            way.launched = True  # and so compiled

    def _capture(self, way: _Way, backend: Backend) -> None:
        try:
            way.replay, _ = backend.capture(way.launch, warm_up=0)
        except Exception as error:  # whatever the device or a driver raises, training goes on without graphs
            backend.broken = True
            _warn(f"{type(error).__name__}: {error}")


class _Way:
    """Makes a step of the tensors in a table by launches, or by a graph of them.

    Args:
        step: launches its kernels.
        steps: t of each tensor before it.
        how: the arguments of `gpu.Step.launch`.
    """

    def __init__(self, step: gpu.Step, steps: Tensor, how: tuple[bool, ...]) -> None:
        self._step, self._steps, self._how = step, steps, how
        self.launched = False
        self.replay: Replay | None = None

    def launch(self) -> list[Tensor]:
        self._steps.add_(1)
        self._step.launch(*self._how)
        return []


class Choices:
    """What makes the steps of tensors of several choices of sizes.

    Args:
        rule: name of the rule.
    """

    def __init__(self, rule: str) -> None:
        self._rule = rule
        self._found: dict[tuple[tuple[int, ...], torch.device], Repeated] = {}

    def of(self, tensors: Sequence[Tensor]) -> Repeated:
        """Returns what makes the steps of tensors of these sizes on their device."""
        device = tensors[0].device
        key = tuple([x.numel() for x in tensors]), device
        found = self._found.pop(key, None) or Repeated(self._rule, *key, graphs(device))
        self._found[key] = found  # the last one is the one used last
        if len(self._found) > CHOICES:
            del self._found[next(iter(self._found))]
        return found


def addresses_of(xs: Sequence[Tensor]) -> tuple[int, ...]:
    """Returns the addresses of tensors that the caller has checked."""
    return tuple([x.data_ptr() for x in xs])


# --- trust ------------------------------------------------------------------------------------------------------------


@cache
def graphs(device: torch.device) -> Backend | None:
    """Returns what captures steps on a device; None if it has no graphs, or a trial gives other bits than launches."""
    backend = cuda_graphs.backend_of(device)
    if backend is None or backend.broken:
        return None
    if not torch.equal(*(_trial(device, way) for way in (None, backend))):
        _warn("it gives other bits than its launches on a small problem")
        return None
    return backend


def _trial(device: torch.device, backend: Backend | None) -> Tensor:
    """Returns weights and slots after a few steps with a new learning rate in between."""
    size = gpu.BLOCK + 3
    tensors = [(k + torch.linspace(-1, 1, size)).sin().to(device) for k in range(4)]
    hyper = dict.fromkeys(rules.find("adam").hyper, 0.9)
    make = Repeated("adam", (size,), device, backend)
    tensors[2].square_()
    for t, lr in enumerate((0.1, 0.1, 0.1, 0.2), start=1):
        make(tuple((x.data_ptr(),) for x in tensors), lr, [t], hyper, (1.0,))
    return torch.stack(tensors)


@cache
def _warn(reason: str) -> None:
    _log.warning("optimizer steps are not run as CUDA graphs, which takes longer but computes the same: %s", reason)
