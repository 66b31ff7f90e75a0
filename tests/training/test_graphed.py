"""A step by graphs, here of a stand-in, does what the step itself does, to the last bit, or is not used."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers import tasks
from tests.helpers.graphs import StandIn, stand_in
from trainables.catalogue.methods import CONTROLS, METHODS, RULES
from trainables.catalogue.rows import Method
from trainables.losses import cross_entropy
from trainables.metrics import multiclass_margin
from trainables.outcomes import EpochRecord
from trainables.training import graphed
from trainables.training.graphed import Graphed, Graphs
from trainables.training.pack import Pack
from trainables.training.recorded import Recorded

__all__ = ["stand_in"]

CPU = torch.device("cpu")
VALUES = {"weight_decay": 0.05, "momentum": 0.9, "beta1": 0.9, "beta2": 0.99, "eps": 1e-3, "rate": 0.5}
VALUES |= {"smoothing": 0.1, "flood_level": 0.9, "logit_factor": 0.5}
ENOUGH = 7
"""Steps after which a program is replayed: four until it is recorded, and three until there is a trusted graph."""

PAIRS = {
    f"{rule}, {control or 'nothing'}": replace(
        METHODS["adam"], name="pair", rule=RULES[rule], control=CONTROLS.get(control)
    )
    for rule, control in product(RULES, ("", *CONTROLS))
}
LOSSES = {name: METHODS[name] for name in ("adam-flooding", "adam-lsr", "adam-lawn-attenuated")}


def cases() -> Iterator[Any]:
    """Every pair, alone and stacked; alone later, if no method of the catalogue is that pair."""
    known = {(method.rule, method.control) for method in METHODS.values()}
    for (name, method), rows in product(PAIRS.items(), (1, 3)):
        later = rows == 1 and (method.rule, method.control) not in known
        yield pytest.param(method, rows, id=f"{name}, {rows}", marks=[pytest.mark.long] if later else [])


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))


def pack_of(method: Method, rows: int, device: torch.device = CPU) -> Pack:
    names = [name for role in ("control", "loss", "rule") for name in method.names(role)]
    factors = 1 + 0.01 * torch.arange(rows).double().unsqueeze(1)
    hyper = {name: VALUES[name] / factors for name in names if name != method.switch}
    pack = Pack([net(seed) for seed in range(rows)], method, hyper, cross_entropy, constrain="all", device=device)
    pack.watch = multiclass_margin
    return pack


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(12, 6, generator=generator), torch.randint(3, (12,), generator=generator)


def reload(pack: Pack) -> None:
    """Gives all that a checkpoint holds other places."""
    for name in ("weights", "step", "constrained", "radii"):
        setattr(pack.state, name, getattr(pack.state, name).clone())
    for group in (pack.state.slots, pack.state.buffers, pack.hyper):
        group.update({name: tensor.clone() for name, tensor in group.items()})
    pack.note_phases()


def trail(pack: Pack, parts: int = 1) -> Iterator[list[Tensor]]:
    """Yields all that a step returns, and copies of what it changes, over a switch of some rows, of all, fork and load.

    What a step returns may be kept: the next one must not overwrite it.
    """
    held = pack.control.held
    events: list[Any] = [lambda: None]
    events += [lambda: pack.constrain([0])] if held and pack.size > 1 else []
    events += [lambda: pack.constrain(range(pack.size))] if held else []
    events += [lambda: pack.select([*range(pack.size), 0]), lambda: reload(pack)]
    for number, event in enumerate(events):
        event()
        for step in range(ENOUGH):
            inputs, targets = (tensor.to(pack.device) for tensor in batch(ENOUGH * number + step))
            pieces = list(zip(inputs.chunk(parts), targets.chunk(parts), strict=True))
            for index, (x, y) in enumerate(pieces):
                pack.gradients((x,), y, True, len(y) / len(targets), index, len(pieces))
            rates = torch.full((pack.size, 1), 0.02 / (1 + step), dtype=torch.float64, device=pack.device)
            loss = pack.apply(rates)
            state = pack.state
            changed = (state.weights, state.step, *state.slots.values(), *state.buffers.values())
            yield [loss, pack.margins, pack.grad_norm, *(tensor.clone() for tensor in changed)]


def check(
    method: Method, rows: int, monkeypatch: pytest.MonkeyPatch, parts: int = 1, device: torch.device = CPU
) -> Pack:
    """Compares all steps with plain ones; returns the pack that may use graphs."""
    with monkeypatch.context() as patch:
        patch.setattr(graphed, "backend_of", lambda device: None)
        patch.setattr(Recorded, "__call__", lambda self, tensors: self._plain(tensors))
        plain = list(trail(pack_of(method, rows, device), parts))
    pack = pack_of(method, rows, device)
    graphs = list(trail(pack, parts))
    for step, (found, expected) in enumerate(zip(graphs, plain, strict=True)):
        for one, other in zip(found, expected, strict=True):
            assert one.isfinite().all()
            assert one.equal(other), step
    return pack


@pytest.mark.parametrize(("method", "rows"), list(cases()))
def test_every_rule_with_every_control_has_the_bits_of_the_plain_step(
    method: Method, rows: int, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.optimizers.fused.usable", lambda *tensors: False)
    check(method, rows, monkeypatch)
    assert not stand_in.broken
    assert stand_in.captures >= 6
    assert stand_in.replays > 12


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("method", LOSSES.values(), ids=list(LOSSES))
def test_losses_with_parameters_and_micro_batches_have_the_bits_of_the_plain_step(
    method: Method, parts: int, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(method, 3, monkeypatch, parts)
    assert stand_in.replays > 12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", ["sgd-lawn", "adam-lawn", "lamb-lawn", "adam", "lamb-plus", "adam-flooding"])
def test_a_gpu_replays_its_own_graphs_with_the_bits_of_the_plain_step(
    name: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(METHODS[name], rows, monkeypatch, device=torch.device("cuda")).graphs.replays > 12


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations, except those that only make a view."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not function.is_view:
            self.calls.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "most"), [("adam-lawn", 6), ("lamb-plus", 6), ("adam-flooding", 16)])
def test_a_step_is_two_graphs_and_a_few_operations(
    name: str, most: int, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.optimizers.fused.usable", lambda *tensors: False)
    stack, lr = pack_of(METHODS[name], 3), torch.full((3, 1), 0.01, dtype=torch.float64)
    inputs, targets = batch(0)
    for _ in range(ENOUGH + 3):
        before = stand_in.replays
        with Launches() as launches:
            stack.gradients((inputs,), targets, shared=True)
            stack.apply(lr)
    assert stand_in.replays == before + 2
    assert len(launches.calls) <= most, launches.calls


# --- whole trainings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "changes"),
    [
        ("adam-lawn", {}),
        ("adam-cpr", {"micro_batch": 6}),
        ("lamb-plus", {"precision": "bfloat16"}),
        ("adam-flooding", {"micro_batch": 4}),
    ],
)
def test_a_training_that_is_interrupted_has_the_records_of_a_plain_one(
    optimizer: str, changes: dict[str, Any], stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over forks, odd last batches and BN's statistics, each epoch in a pack of its own, from a checkpoint."""
    monkeypatch.setattr("trainables.optimizers.fused.usable", lambda *tensors: False)
    config = tasks.pack(tasks.task(optimizer, epochs=4, batch_size=10, **changes), tasks.eight_points(optimizer)[:4])
    with monkeypatch.context() as patch:
        patch.setattr(graphed, "backend_of", lambda device: None)
        plain, _ = tasks.run(config)
    assert not stand_in.captures
    records: list[EpochRecord] = []
    while len(records) < 4:
        records, _ = tasks.run(config, lambda: True, checkpoint=tmp_path / "pack")
    assert records == plain
    assert stand_in.replays > 50


def test_the_memory_of_graphs_is_given_back_before_a_fork_and_at_the_end(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Tensor]] = []
    capture = stand_in.capture

    def noted(call: Any) -> Any:
        replay, results = capture(call)
        alive.extend(map(weakref.ref, results))
        return replay, results

    def left() -> int:
        return sum(ref() is not None for ref in alive)

    monkeypatch.setattr(stand_in, "capture", noted)
    config = tasks.pack(tasks.task("adam-lawn", epochs=2, batch_size=10), tasks.eight_points("adam-lawn")[:4])
    forks: list[int] = []
    select = Pack.select

    def selected(self: Pack, source: Sequence[int]) -> None:
        moved, before = list(source) != list(range(self.size)), left()
        select(self, source)
        assert not (moved and left())
        forks.append(before if moved else 0)

    monkeypatch.setattr(Pack, "select", selected)
    gc.disable()  # at once, not when it is collected
    try:
        tasks.run(config)
        assert any(forks)
        assert left() == 0
    finally:
        gc.enable()


# --- one program ------------------------------------------------------------------------------------------------------


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


def calls(call: Recorded, state: Tensor, count: int = ENOUGH) -> list[Tensor]:
    """Calls often, and checks state and results; returns the last results."""
    expected, results = state.clone(), list[Tensor]()
    for step in range(count):
        given = torch.arange(3.0) + step
        results = call([state, given])
        wanted = Counted()([expected, given])
        assert state.equal(expected)
        assert all(one.equal(other) for one, other in zip(results, wanted, strict=True))
    return results


def test_from_the_seventh_call_on_the_graph_is_replayed(stand_in: StandIn) -> None:
    call, _ = recorded(stand_in)
    calls(call, torch.ones(3), 6)
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
        calls(call, state, 3)
    assert stand_in.captures == graphed.EARLY


def test_a_result_that_is_not_finite_proves_nothing(stand_in: StandIn) -> None:
    call, _ = recorded(stand_in)
    state = torch.ones(3)
    calls(call, state, 5)
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
    for values in [*[state] * 5, *[given] * 3, *[state] * 3]:
        call([state, values])
    assert (stand_in.captures, stand_in.replays) == (1, 3)


# --- what goes wrong --------------------------------------------------------------------------------------------------


class Broken(StandIn):
    """Its captures fail after the operations have run."""

    def capture(self, run: Any) -> Any:
        self.captures += 1
        run()
        raise RuntimeError("operation not permitted when stream is capturing")


class Wrong(StandIn):
    """Its graphs compute something else, and do harm besides."""

    def capture(self, run: Any) -> Any:
        replay, results = super().capture(run)

        def wrong() -> None:
            replay()
            results[1].add_(1e-6)

        return wrong, results


class Raising(StandIn):
    """Its graphs cannot be replayed."""

    def capture(self, run: Any) -> Any:
        _, results = super().capture(run)

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
        made = torch.zeros(3, device="meta") if way == "constant" else tensors[-1] * 2
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


# --- the calls of CUDA, in their order --------------------------------------------------------------------------------


class FakeCuda:
    """Notes what `Cuda` asks of torch, which here has no device.

    Args:
        fails: whether a capture does at its end.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: bool = False) -> None:
        self.calls: list[str] = []
        self._stream = "main"
        self._fails = fails
        fake = {
            "Stream": lambda device: self.stream("side"),
            "current_stream": lambda device: self.stream(self._stream),
            "device": lambda device: nullcontext(),
            "stream": self.on,
            "graph_pool_handle": lambda: (0, 1),
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: self.calls.append("replay")),
            "graph": self.graph,
            "mem_get_info": lambda device: (3, 4),
        }
        for name, value in fake.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *given: self.calls.append(f"end {given}"))

    def stream(self, name: str) -> Any:
        return SimpleNamespace(name=name, wait_stream=lambda other: self.calls.append(f"{name} waits for {other.name}"))

    @contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        before, self._stream = self._stream, stream.name
        yield
        self._stream = before

    @contextmanager
    def graph(self, graph: object, *, pool: object, stream: Any, capture_error_mode: str) -> Iterator[None]:
        self.calls.append(f"capture on {stream.name}, {capture_error_mode}")
        yield
        if self._fails:
            raise RuntimeError("capture invalidated")

    def run(self) -> list[Tensor]:
        self.calls.append(f"run on {self._stream}")
        return [torch.ones(1)]


def test_cuda_warms_up_and_captures_on_a_stream_that_waits_and_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda(monkeypatch)
    cuda = graphed.Cuda(torch.device("cuda", 0))
    replay, results = cuda.capture(fake.run)
    assert fake.calls == [
        "side waits for main",
        *["run on side"] * graphed.WARM_UP,
        "capture on side, thread_local",
        "run on side",
        "main waits for side",
    ]
    assert results[0].equal(torch.ones(1))
    replay()
    assert fake.calls[-1] == "replay"
    assert cuda.memory() == (3, 4)


def test_cuda_leaves_a_capture_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda(monkeypatch, fails=True)
    with pytest.raises(RuntimeError, match="capture invalidated"):
        graphed.Cuda(torch.device("cuda", 1)).capture(fake.run)
    assert fake.calls[-2:] == ["end (1, (0, 1))", "main waits for side"]


def test_a_gpu_has_graphs_unless_kernels_are_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(monkeypatch)
    find = graphed.backend_of.__wrapped__
    assert isinstance(find(torch.device("cuda", 0)), graphed.Cuda)
    monkeypatch.setenv("LAWN_TUNE_KERNELS", "0")
    assert find(torch.device("cuda", 0)) is None
