"""A program of a step as one CUDA graph: captured where its tensors are, then replayed by a single launch.

A graph repeats launches at the addresses it was captured with, and no Python runs between them. So it is used only
while the weights, buffers and other tensors that stay from step to step are at these addresses, gradients too where
another graph leaves them; a batch is copied to where the graph reads it. A graph is captured again after a fork or a
load, and used once it has given the same bits as the program. Where there is no room for one, or it cannot be captured,
the program runs operation by operation.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Sequence, Set
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from trainables.optimizers.cuda_graphs import Backend, backend_of
from trainables.out_of_memory import memory_ended
from trainables.training.trust import Tensors, Way, both_ways, kinds, put

WORTH = 20
"""Replays a graph for which it may be captured again; the first `EARLY` captures are free."""
EARLY = 3
FREE = 2 / 3
"""Share of the device's memory that must be free: a graph holds as much as the program does while it runs."""
OFTEN = 2
"""Times that an argument may leave a graph that reads it where it was: once as graphs come into use, once by chance."""
SETTLED, WATCHED = 20, 200
"""Calls in a row after which an argument that is copied has come to stay, and calls of a graph in which this counts."""
COPIES = 4
"""Copies of what a program changes that must fit, for the comparison of both ways."""

_log = logging.getLogger(__name__)


class Plain:
    """Runs programs operation by operation."""

    def __call__(self, program: Way, tensors: Tensors, devices: Set[str] = frozenset()) -> list[Tensor]:
        """Returns the results of a program.

        Args:
            program: tensors → results; apart from the tensors it reads only what stays as it is.
            tensors: its arguments.
            devices: kinds of the devices that it uses besides.
        """
        return program(tensors)

    def fits(self, changed: Tensors) -> bool:
        """Whether there is memory for a comparison of programs that change these tensors."""
        return True


class Graphed(Plain):
    """Runs a program as a graph once its arguments have come twice in a row, and the graph is seen to do the same.

    The graph reads arguments that stay where they are from there, and copies of those that come from elsewhere at each
    call, as batches do. One that has left it twice is copied from then on.

    Args:
        backend: captures it.
        fixed: the number of first arguments that are never copied; where they move, there is no graph.
        changes: positions of those that it changes in place.
        lasting: positions of the results that are copied; the others are overwritten by the next call.

    `replays` counts the calls that a trusted graph made.
    """

    def __init__(self, backend: Backend, fixed: int, changes: slice, lasting: slice) -> None:
        self._backend, self._fixed, self._changes, self._lasting = backend, fixed, changes, lasting
        self._graph: _Graph | None = None
        self._last: _Place | None = None
        self._moved: frozenset[int] | None = None
        self._left: Counter[int] = Counter()
        self._captures = self.replays = 0
        self._refused = False

    def __call__(self, program: Way, tensors: Tensors, devices: Set[str] = frozenset()) -> list[Tensor]:
        """See `Plain`."""
        place = _place(tensors)
        last, self._last = self._last, place
        if self._graph is not None and self._graph.copies_in_vain(place, last):
            self._graph = None
        if self._graph is None or not self._graph.serves(place):
            stay = self._staying(last, place)
            if stay is None or not self._worth():
                return program(tensors)
            self._graph = self._captured(place, stay, program, tensors, devices)
        if self._graph is None:
            return program(tensors)
        self._moved = None
        return self._by_graph(self._graph, program, tensors)

    def fits(self, changed: Tensors) -> bool:
        """See `Plain`."""
        return self._backend.memory()[0] > COPIES * sum(tensor.nbytes for tensor in changed)

    def forget(self) -> None:
        """Gives the memory of the graph back."""
        self._graph = self._last = self._moved = None

    def _staying(self, last: _Place | None, place: _Place) -> list[int] | None:
        """Returns the positions that a graph may read where they are; None while that is not known."""
        before, self._moved = self._moved, None
        if last is None or last.kinds != place.kinds:
            return None
        pairs = zip(last.addresses, place.addresses, strict=True)
        self._moved = moved = frozenset(i for i, (one, other) in enumerate(pairs) if one != other)
        if before is None:
            self._note_leaving(place)
            return None  # whether what has moved now moves every time is seen at the next call
        if moved - before or min(moved, default=self._fixed) < self._fixed:
            return None
        every = range(len(place.addresses))
        return [i for i in every if i < self._fixed or (i not in moved and self._left[i] < OFTEN)]

    def _note_leaving(self, place: _Place) -> None:
        """Counts arguments that have left the graph; gives it up once it should copy one of them."""
        left = [i for i in self._graph.left_by(place) if i >= self._fixed] if self._graph else []
        self._left.update(left)
        if any(self._left[i] >= OFTEN for i in left):
            self._graph = None

    def _by_graph(self, graph: _Graph, program: Way, tensors: Tensors) -> list[Tensor]:
        if graph.trusted:
            self.replays += 1
            results = graph(tensors)
            results[self._lasting] = [result.clone() for result in results[self._lasting]]
            return results
        found = both_ways(program, graph, tensors, tensors[self._changes])
        if found.same is False:
            self._refuse(found.reason)
        graph.trusted = found.same is True
        return found.results

    def _worth(self) -> bool:
        often = self._captures >= EARLY and self._captures * WORTH > self.replays
        return not (self._backend.broken or self._refused or often)

    def _captured(
        self, place: _Place, stay: Sequence[int], program: Way, tensors: Tensors, devices: Set[str]
    ) -> _Graph | None:
        """Returns an untried graph; None if there can be none. Changes no value."""
        self._graph, self._captures = None, self._captures + 1
        free, total = self._backend.memory()
        if free < FREE * total:
            return None
        if len({tensor.device.type for tensor in tensors} | devices) > 1:
            self._refuse("it uses memory of the host")
            return None
        changed = tensors[self._changes]
        try:
            before = [tensor.clone() for tensor in changed]
            try:
                left = {i for i, count in self._left.items() if count >= OFTEN}
                return _Graph(self._backend, place, stay, program, tensors, self._fixed, left)
            finally:
                put(changed, before)
        except Exception as error:  # whatever the device or a driver raises, training goes on without graphs
            self._backend.broken = not memory_ended(error)  # of which the next program or pack may find more
            self._refuse(f"{type(error).__name__}: {error}")
            return None

    def _refuse(self, reason: str) -> None:
        self.forget()
        self._refused = True
        _warn(reason)


class _Place(NamedTuple):
    """Shape, strides and dtype of each argument of a call, and where it is."""

    kinds: tuple[Hashable, ...]
    addresses: tuple[int, ...]


def _place(tensors: Tensors) -> _Place:
    return _Place(kinds(tensors), tuple([tensor.data_ptr() for tensor in tensors]))


class _Graph:
    """A captured program, with its constants and the tensors that it needs for as long as it exists.

    Args:
        backend: captures it.
        place: of the tensors.
        stay: positions of those that it reads where they are.
        program: what is captured.
        tensors: its arguments.
        fixed: the number of first ones that live as long as the graph. Others that stay do not belong to it, so that
            their memory is free for the same ones of the next call.
        left: positions of those that are to be copied even if they stay.
    """

    def __init__(
        self,
        backend: Backend,
        place: _Place,
        stay: Sequence[int],
        program: Way,
        tensors: Tensors,
        fixed: int,
        left: Set[int],
    ) -> None:
        self.trusted = False
        self._kinds, self._stay = place.kinds, stay
        self._addresses = [place.addresses[i] for i in stay]
        self._moving = sorted(set(range(len(tensors))) - set(stay))
        self._given = [torch.empty_like(tensors[i]) for i in self._moving]
        put(self._given, [tensors[i] for i in self._moving])
        read = dict(enumerate(tensors)) | dict(zip(self._moving, self._given, strict=True))
        self._replay, self._results = backend.capture(partial(program, list(read.values())))
        self._needs = program, tensors[:fixed]
        self._calls, self._still = 0, dict.fromkeys(set(self._moving) - left, 0)

    def copies_in_vain(self, place: _Place, last: _Place | None) -> bool:
        """Whether an argument that it copies has come to stay, as gradients do once they come from a graph."""
        self._calls += 1
        if last is None or self._calls > WATCHED:
            return False
        still = {i: self._still[i] + 1 for i in self._still if place.addresses[i] == last.addresses[i]}
        self._still = dict.fromkeys(self._still, 0) | still
        return SETTLED in still.values()

    def serves(self, place: _Place) -> bool:
        """Whether it does what its program does for arguments there."""
        return place.kinds == self._kinds and [place.addresses[i] for i in self._stay] == self._addresses

    def left_by(self, place: _Place) -> list[int]:
        """Returns the positions of arguments that are no longer where it reads them; none for others of its kinds."""
        places = zip(self._stay, self._addresses, strict=True) if place.kinds == self._kinds else ()
        return [i for i, at in places if place.addresses[i] != at]

    def __call__(self, tensors: Tensors) -> list[Tensor]:
        """Returns the results, which are overwritten by the next call."""
        if self._given:
            torch._foreach_copy_(self._given, [tensors[i] for i in self._moving])
        self._replay()
        return list(self._results)


class Graphs:
    """The graphs of a pack's programs; a device without any has none.

    Args:
        device: of the pack.
    """

    def __init__(self, device: torch.device) -> None:
        self._backend = backend_of(device)
        self._runners: list[Graphed] = []

    @property
    def any(self) -> bool:
        """Whether the device has graphs."""
        return self._backend is not None

    @property
    def replays(self) -> int:
        """How often any of them was used."""
        return sum(runner.replays for runner in self._runners)

    def runner(self, fixed: int, changes: slice, lasting: slice) -> Plain:
        """Returns what runs a program, see `Graphed`."""
        if self._backend is None:
            return Plain()
        self._runners.append(Graphed(self._backend, fixed, changes, lasting))
        return self._runners[-1]

    def forget(self) -> None:
        """Gives the memory of all graphs back."""
        for runner in self._runners:
            runner.forget()


@cache
def _warn(reason: str) -> None:
    _log.warning("a training step is not run as a CUDA graph, which takes longer but computes the same: %s", reason)
