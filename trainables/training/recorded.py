"""A training step as a list of tensor operations: recorded once for each shape, then run without autograd and vmap.

Which operations a step runs depends on the shapes alone, yet autograd and vmap work it out again at every step, which
takes as long as a small model's arithmetic. The operations are those of the function itself, in its order and on its
tensors, without those that only name a tensor again (see `program`), so the bits are the same. Source: our choice; what
`torch.func` and CUDA graphs do, without their set-up time.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor

from trainables.training.graphed import Plain
from trainables.training.program import Program, Recorder
from trainables.training.trust import Tensors, Way, both_ways, kinds

LONG = 1.0
"""Seconds of a call beyond which its dispatch, some milliseconds, is not worth a program."""


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
        self._known: dict[Hashable, _Known] = {}

    def __call__(self, tensors: Tensors) -> list[Tensor]:
        """Returns `function(tensors)`, detached."""
        known = self._known.setdefault(kinds(tensors), _Known())
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
        recorder = Recorder(tensors)
        with recorder:
            results = self._plain(tensors)
        known.program = recorder.program(results)
        known.refused = known.program is None
        return results

    def _try(self, known: _Known, tensors: Tensors) -> list[Tensor]:
        assert known.program is not None
        found = both_ways(self._plain, known.program, tensors, tensors[self._changes])
        known.trusted = found.same is True
        if found.same is False:
            known.refused = not known.program.bound
            known.program.unbind()
        return found.results
