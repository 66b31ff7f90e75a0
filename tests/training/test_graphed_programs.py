"""One program by graphs: when it is captured, replayed and given up."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.graphs import StandIn, stand_in
from trainables.training import graphed
from trainables.training.graphed import Graphed, Graphs
from trainables.training.recorded import Recorded

__all__ = ["stand_in"]

CPU = torch.device("cpu")
ENOUGH = 8
"""Calls after which a program is replayed: four until it is recorded, and four until there is a trusted graph."""


class Counted:
    """Adds what is given to a state in place; knows how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        self.calls += 1
        tensors[0].mul_(0.5).add_(tensors[1])
        return [tensors[0].sum().reshape(1), tensors[0] * 2]


def recorded(backend: StandIn, function: Any = None, lasting: slice = slice(1)) -> tuple[Recorded, Graphed]:
    runner = Graphed(backend, fixed=1, changes=slice(1), lasting=lasting)
    return Recorded(function or Counted(), slice(1), runner), runner


ELSEWHERE: list[Tensor] = []


def elsewhere(tensor: Tensor) -> Tensor:
    """Keeps a tensor, so that no other one has its place."""
    ELSEWHERE.append(tensor)
    return tensor


def calls(call: Recorded, state: Tensor, count: int = ENOUGH) -> list[Tensor]:
    """Calls often, and checks state and results; returns the last results."""
    expected, results = state.clone(), list[Tensor]()
    for step in range(count):
        given = elsewhere(torch.arange(3.0) + step)
        results = call([state, given])
        wanted = Counted()([expected, given])
        assert state.equal(expected)
        assert all(one.equal(other) for one, other in zip(results, wanted, strict=True))
    return results


def test_from_the_eighth_call_on_the_graph_is_replayed(stand_in: StandIn) -> None:
    call, _ = recorded(stand_in)
    calls(call, torch.ones(3), 7)
    assert (stand_in.captures, stand_in.replays) == (1, 1)
    calls(call, torch.ones(3), 1)  # another place
    assert (stand_in.captures, stand_in.replays) == (1, 1)


def test_a_graph_is_replayed_at_its_own_addresses_only(stand_in: StandIn) -> None:
    call, _ = recorded(stand_in)
    first, second = torch.ones(3), torch.ones(3)
    calls(call, first)
    seen = stand_in.replays
    for state in (second, first, second, first):
        calls(call, state, 1)
    assert stand_in.replays == seen + 2  # of the first
    calls(call, second, 4)
    assert stand_in.captures == 2
    assert stand_in.replays == seen + 2 + 3


def test_another_shape_is_not_replayed(stand_in: StandIn) -> None:
    """As that of an epoch's last batch, whose program is not worth a graph either: it comes once an epoch."""

    def function(tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tensors[0] * tensors[1].sum()]

    call, _ = recorded(stand_in, function)
    state = torch.ones(3)
    for step in range(3 * ENOUGH):
        given = torch.full((2 if step % 4 == 3 else 5,), float(step))
        assert call([state, given])[0].equal(state * given.sum())
    assert stand_in.captures == 1
    assert stand_in.replays > ENOUGH


def test_only_results_that_last_may_be_kept(stand_in: StandIn) -> None:
    call, _ = recorded(stand_in)
    state = torch.ones(3)
    lasting, other = calls(call, state)
    before = lasting.clone()
    again = call([state, torch.ones(3)])
    assert lasting.equal(before)
    assert other.data_ptr() == again[1].data_ptr()


def test_a_graph_that_is_forgotten_is_captured_again(stand_in: StandIn) -> None:
    call, runner = recorded(stand_in)
    state = torch.ones(3)
    calls(call, state)
    runner.forget()
    calls(call, state)
    assert stand_in.captures == 2


def test_what_moves_all_the_time_is_not_captured_all_the_time(stand_in: StandIn) -> None:
    call, _ = recorded(stand_in)
    states = [torch.ones(3) for _ in range(20)]
    calls(call, states[0], 4)
    for state in states:
        calls(call, state, 4)
    assert stand_in.captures == graphed.EARLY


def test_a_result_that_is_not_finite_proves_nothing(stand_in: StandIn) -> None:
    call, _ = recorded(stand_in)
    state = torch.ones(3)
    calls(call, state, 6)
    for _ in range(3):
        assert call([state, torch.full((3,), torch.nan)])[0].isnan().all()
    assert (stand_in.captures, stand_in.replays) == (1, 0)
    state.fill_(1.0)
    calls(call, state, 3)
    assert (stand_in.captures, stand_in.replays) == (1, 3)


def test_nor_does_one_that_is_finite_in_part(stand_in: StandIn) -> None:
    """As the losses of a pack of which one row has diverged."""
    call, _ = recorded(stand_in, lambda tensors: [tensors[0] * tensors[1]])
    state, given = torch.ones(3), torch.tensor([1.0, torch.nan, 2.0])
    for values in [*[state] * 6, *[given] * 3, *[state] * 3]:
        call([state, elsewhere(values.clone())])
    assert (stand_in.captures, stand_in.replays) == (1, 3)


# --- arguments that stay ----------------------------------------------------------------------------------------------


def copied(call: Recorded, state: Tensor, given: Tensor) -> int:
    """How many arguments a call copies; it does what it should."""
    expected = state.clone()
    wanted = Counted()([expected, given])
    with Copies() as copies:
        results = call([state, given])
    assert state.equal(expected)
    assert all(one.equal(other) for one, other in zip(results, wanted, strict=True))
    return int(copies.count)


class Copies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts tensors that are copied by `_foreach_copy_`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._foreach_copy_.default:
            self.count += len(args[0])
        return function(*args, **(kwargs or {}))


def test_an_argument_that_stays_is_read_where_it_is_with_its_new_values(stand_in: StandIn) -> None:
    call, _ = recorded(stand_in)
    state, given = torch.ones(3), torch.ones(3)
    for step in range(2 * ENOUGH):
        assert copied(call, state, given.fill_(step)) == 0
    assert (stand_in.captures, stand_in.replays) == (1, ENOUGH + 2)


def test_one_that_leaves_is_read_at_its_new_place_and_copied_if_it_leaves_again(stand_in: StandIn) -> None:
    call, _ = recorded(stand_in)
    state, places = torch.ones(3), [torch.ones(3) for _ in range(4)]
    for number, given in enumerate(places):
        for step in range(2 * ENOUGH):
            copies = copied(call, state, given.fill_(step))
            assert copies == ((number, step) > (graphed.OFTEN, 0)), (number, step)
    assert stand_in.captures == 1 + graphed.OFTEN
    assert stand_in.replays > 5 * ENOUGH


@pytest.mark.parametrize("pattern", [(0, 1), (0, 0, 1, 1), (0, 0, 0, 1)])
def test_one_that_comes_from_several_places_is_copied(pattern: Sequence[int], stand_in: StandIn) -> None:
    call, _ = recorded(stand_in)
    state, places = torch.ones(3), [torch.ones(3), torch.ones(3)]
    for step in range(4 * ENOUGH):
        copies = copied(call, state, places[pattern[step % len(pattern)]].fill_(step))
    assert copies == 1
    assert stand_in.captures <= 1 + graphed.OFTEN
    assert stand_in.replays > ENOUGH


def test_one_that_comes_to_stay_is_no_longer_copied(stand_in: StandIn) -> None:
    """As gradients, which come from everywhere until they come from a graph."""
    call, _ = recorded(stand_in)
    state, given = torch.ones(3), torch.ones(3)
    calls(call, state)
    assert stand_in.captures == 1
    copies = [copied(call, state, given.fill_(step)) for step in range(graphed.SETTLED + 5)]
    assert copies == [1] * graphed.SETTLED + [0] * 5
    assert stand_in.captures == 2


def test_a_graph_keeps_no_memory_of_an_argument_that_it_does_not_copy() -> None:
    """Else an allocator could not give its place to that of the next step."""
    kept: list[weakref.ref[Tensor]] = []
    backend = Forgetful()
    runner = Graphed(backend, fixed=1, changes=slice(1), lasting=slice(0))
    state, given = torch.ones(3), torch.ones(3)
    for _ in range(ENOUGH):
        runner(lambda tensors: [tensors[0] + tensors[1]], [state, given])
    kept.append(weakref.ref(given))
    assert backend.captures == 1
    del given
    assert kept[0]() is None


class Forgetful(StandIn):
    """A graph that keeps no tensor, as those of CUDA; what it replays is its second call."""

    def capture(self, run: Callable[[], list[Tensor]], warm_up: int = 1) -> tuple[Callable[[], None], list[Tensor]]:
        self.captures += 1
        return (lambda: None), run()


# --- what goes wrong --------------------------------------------------------------------------------------------------


class Broken(StandIn):
    """Its captures fail after the operations have run."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error or RuntimeError("operation not permitted when stream is capturing")

    def capture(self, run: Any, warm_up: int = 1) -> Any:
        self.captures += 1
        run()
        raise self.error


class Wrong(StandIn):
    """Its graphs compute something else, and do harm besides."""

    def capture(self, run: Any, warm_up: int = 1) -> Any:
        replay, results = super().capture(run, warm_up)

        def wrong() -> None:
            replay()
            results[1].add_(1e-6)

        return wrong, results


class Raising(StandIn):
    """Its graphs cannot be replayed."""

    def capture(self, run: Any, warm_up: int = 1) -> Any:
        _, results = super().capture(run, warm_up)

        def replay() -> None:
            raise RuntimeError("no replay")

        return replay, results


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    graphed._warn.cache_clear()
    yield caplog
    graphed._warn.cache_clear()


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("kind", "reason"), [(Broken, "not permitted"), (Wrong, "something else"), (Raising, "no replay")]
)
def test_a_graph_that_fails_or_differs_costs_one_warning_and_no_bit(
    kind: type[StandIn], reason: str, log: pytest.LogCaptureFixture
) -> None:
    backend = kind()
    call, _ = recorded(backend)
    state = torch.ones(3)
    calls(call, state, 3 * ENOUGH)
    assert backend.captures == 1
    assert [reason in record.getMessage() for record in log.records] == [True]


def test_after_a_capture_that_failed_there_is_no_other(log: pytest.LogCaptureFixture) -> None:
    backend = Broken()
    for _ in range(3):
        calls(recorded(backend)[0], torch.ones(3))
    assert backend.captures == 1
    assert len(log.records) == 1


def test_after_a_capture_that_found_no_memory_other_programs_have_theirs(log: pytest.LogCaptureFixture) -> None:
    backend = Broken(torch.OutOfMemoryError("CUDA out of memory"))
    for _ in range(3):
        calls(recorded(backend)[0], torch.ones(3), 3 * ENOUGH)
    assert backend.captures == 3
    assert len(log.records) == 1


def test_without_free_memory_there_is_no_graph(stand_in: StandIn, log: pytest.LogCaptureFixture) -> None:
    stand_in.room = 0.5
    function = Counted()
    calls(recorded(stand_in, function)[0], torch.ones(3))
    assert stand_in.captures == 0
    assert function.calls == 4
    assert not log.records


def test_what_could_not_be_compared_is_not_even_recorded(stand_in: StandIn) -> None:
    stand_in.room = 2.0**-40 * 40  # bytes; the state has 12
    function = Counted()
    calls(recorded(stand_in, function)[0], torch.ones(3))
    assert function.calls == ENOUGH


def devices_of(function: Any) -> set[str]:
    call = Recorded(function)
    for _ in range(3):
        call([torch.ones(3)])
    (known,) = call._known.values()
    assert known.program is not None
    return known.program.devices


def test_a_program_knows_where_its_constants_are_and_where_it_makes_tensors() -> None:
    constant = torch.ones(3)
    assert devices_of(lambda tensors: [tensors[0] + 1]) == set()
    assert devices_of(lambda tensors: [tensors[0] + constant]) == {"cpu"}
    assert devices_of(lambda tensors: [tensors[0], torch.zeros(3, device="meta")]) == {"meta"}


@pytest.mark.parametrize("way", ["constant", "argument"])
def test_a_program_that_uses_memory_elsewhere_is_not_captured(
    way: str, stand_in: StandIn, log: pytest.LogCaptureFixture
) -> None:
    def function(tensors: Sequence[Tensor]) -> list[Tensor]:
        made = torch.zeros(3, device="meta").add_(1) if way == "constant" else tensors[-1].mul_(2)
        assert made.device.type == "meta"
        return [tensors[0] + 1]

    call, _ = recorded(stand_in, function)
    tensors = [torch.ones(3), *([torch.ones(3, device="meta")] if way == "argument" else [])]
    for _ in range(ENOUGH):
        call(tensors)
    assert stand_in.captures == 0
    assert not stand_in.broken
    assert "memory of the host" in log.text


def test_on_a_cpu_nothing_is_captured() -> None:
    graphs = Graphs(CPU)
    assert not graphs.any
    assert type(graphs.runner(1, slice(1), slice(1))) is graphed.Plain
