"""Steps of the classes on a GPU, here a stand-in: what they keep and repeat leaves no trace in the numbers."""

from __future__ import annotations

import copy
import ctypes
import gc
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode

from tests.helpers.graphs import StandIn, Tape
from trainables.optimizers import (
    AdamLawn,
    Lamb,
    LambLawn,
    Lawn,
    SgdLawn,
    controls,
    cuda_graphs,
    fused,
    gpu,
    repeated,
    rules,
)
from trainables.optimizers.controls import Control
from trainables.optimizers.layers import Layer

pytest.importorskip("triton")
from trainables.optimizers import gpu_kernels

FACES: Mapping[str, Callable[..., Any]] = {
    "SgdLawn": partial(SgdLawn, free_steps=5),
    "AdamLawn": partial(AdamLawn, free_steps=5),
    "LambLawn": partial(LambLawn, free_steps=5),
    "Lamb": partial(Lamb, weight_decay=0.1),
}
SHAPES = [(3, 5), (5,), (4, 3), (0, 2)]
CONTROLS = (controls.HYPERBALL, controls.Cpr(rate=0.1))
STEPS = 14
every_face = pytest.mark.parametrize("face", FACES)


def _memory(address: int, count: int) -> Tensor:
    return torch.frombuffer((ctypes.c_float * count).from_address(address), dtype=torch.float32).view(1, -1)


def _compute(step: gpu.Step, moves: bool) -> None:
    """What the kernels do, by `rules.step_` on the memory that they would access."""
    _, sizes, addresses, _, radii = step._where
    rule = next(rule for rule, code in fused.CODES.items() if code == step._rule)
    spec, counts = rules.RULES[rule], step._steps[0]
    assert isinstance(counts, Tensor)
    numbers = dict(zip(("lr", *fused.HYPER), step._numbers[0].tolist(), strict=True))
    for layer, size in enumerate(sizes.tolist()):
        if size:
            w, first, last, g = (_memory(at, size) for at in addresses[:, layer].tolist())
            held = bool(radii[0, layer] > 0)
            w = w if moves or not held else w.clone()
            names = spec.hyper if held else (*spec.hyper, "weight_decay")
            rules.step_(
                rule, w, g.clone(), {spec.slots[0]: first, spec.slots[-1]: last}, lr=numbers["lr"],
                t=int(counts[0, layer]), hyper={name: numbers[name] for name in names},
                layers=(Layer("", 0, size, held),), constrained=held, radii=radii[:, layer : layer + 1],
            )  # fmt: skip


@pytest.fixture(autouse=True)
def _gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The CPU passes for a GPU."""

    def launch(step: gpu.Step, three_passes: bool, moves: bool = True) -> None:
        mode = _get_current_dispatch_mode()
        if isinstance(mode, Tape):
            mode.launch(partial(_compute, step, moves))
        else:
            _compute(step, moves)

    monkeypatch.setattr(fused, "usable", lambda *tensors: False)
    monkeypatch.setattr(gpu, "_reachable", lambda device: True)
    monkeypatch.setattr(gpu, "_trusted", lambda device: True)
    monkeypatch.setattr(gpu.Step, "launch", launch)
    caches = repeated.graphs, repeated._warn
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return _with(StandIn(), monkeypatch)


def _with(backend: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.setattr(cuda_graphs, "backend_of", lambda device: backend)
    return backend


def _parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


class Loop:
    """Trains parameters whose gradients are computed from the weights, in memory of theirs that stays where it is."""

    def __init__(self, make: Callable[..., Any], params: list[nn.Parameter] | None = None) -> None:
        self.params = params or _parameters()
        self.optimizer = make(self.params, lr=0.01)
        self.memory = [torch.empty_like(p) for p in self.params]
        self.steps = 0

    def step(self, lr: float | None = None) -> None:
        self.steps += 1
        for p, grad in zip(self.params, self.memory, strict=True):
            p.grad = grad.copy_(torch.sin(5 * p.detach() + self.steps))
        for group in self.optimizer.param_groups if lr is not None else ():
            group["lr"] = lr
        self.optimizer.step()

    def all(self) -> list[Tensor]:
        """Everything that steps change."""
        states = [self.optimizer.state[p] for p in self.params]
        slots = [torch.as_tensor(x) for state in states for _, x in sorted(state.items())]
        return [*(p.detach() for p in self.params), *slots]


def _by_lists(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, drive: Callable[[Loop], None]) -> list[Tensor]:
    with monkeypatch.context() as patch:
        patch.setattr(gpu, "usable", lambda *tensors: False)
        return _driven(make, drive)


def _driven(make: Callable[..., Any], drive: Callable[[Loop], None]) -> list[Tensor]:
    loop = Loop(make)
    drive(loop)
    return loop.all()


def _train(loop: Loop) -> None:
    for t in range(STEPS):
        loop.step(lr=0.01 * (1 + t // 3))


def _close(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-6)


def _equal(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    assert all(one.equal(other) for one, other in zip(found, expected, strict=True))


@every_face
def test_graphs_have_the_bits_of_launches_and_both_follow_the_rules(
    face: str, graphs: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the switch and new learning rates."""
    by_graphs = _driven(FACES[face], _train)
    assert graphs.replays >= STEPS - 4
    with monkeypatch.context() as patch:
        patch.setattr("trainables.optimizers.repeated.graphs", lambda device: None)
        _equal(by_graphs, _driven(FACES[face], _train))
    _close(by_graphs, _by_lists(FACES[face], monkeypatch, _train))


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.namespace == "aten":  # and not of the profiler
            self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@every_face
def test_a_step_is_one_launch_and_a_new_learning_rate_one_more(
    face: str, graphs: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop(FACES[face])
    for _ in range(8):
        loop.step()
    monkeypatch.setattr(fused, "intercepted", lambda: False)
    for lr, names in [(None, []), (0.02, ["aten.fill_.Scalar"]), (0.02, [])]:
        for group in loop.optimizer.param_groups if lr else ():
            group["lr"] = lr
        before = graphs.replays
        with Operations() as operations:
            loop.optimizer.step()
        assert operations.names == names
        assert graphs.replays == before + 1


# --- what others change between two steps -----------------------------------------------------------------------------


def _move_weights(loop: Loop) -> None:
    loop.params[0].data = loop.params[0].data.clone() + 1


def _swap_weights(loop: Loop) -> None:
    torch.utils.swap_tensors(loop.params[2], nn.Parameter(loop.params[2].detach() * 2))  # type: ignore[no-untyped-call]


def _strided_weights(loop: Loop) -> None:
    loop.params[0].data = loop.params[0].data.t().contiguous().t()
    loop.memory[0] = torch.empty_like(loop.params[0])


def _move_slots(loop: Loop) -> None:
    state = loop.optimizer.state[loop.params[0]]
    state |= {name: x.clone() for name, x in state.items() if isinstance(x, Tensor)}


def _resize(loop: Loop) -> None:
    for p in loop.params:
        weights = p.detach().clone()
        p.untyped_storage().resize_(0)
        p.untyped_storage().resize_(weights.nbytes)
        p.data.copy_(weights)


def _count_again(loop: Loop) -> None:
    for state in loop.optimizer.state.values():
        state["step"] = 1


def _count_one_again(loop: Loop) -> None:
    loop.optimizer.state[loop.params[0]]["step"] = 2


def _start_again(loop: Loop) -> None:
    loop.optimizer.state.clear()


def _start_one_again(loop: Loop) -> None:
    del loop.optimizer.state[loop.params[1]]["step"]


def _load(loop: Loop) -> None:
    loop.optimizer.load_state_dict(copy.deepcopy(loop.optimizer.state_dict()))


def _copy(loop: Loop) -> None:
    loop.params, loop.optimizer = copy.deepcopy((loop.params, loop.optimizer))


def _add_group(loop: Loop) -> None:
    loop.params.append(nn.Parameter(torch.ones(2, 2)))
    loop.memory.append(torch.empty(2, 2))
    loop.optimizer.add_param_group({"params": [loop.params[-1]], "lr": 0.05})


def _drop_gradient(loop: Loop) -> None:
    loop.params[2].requires_grad_(False)
    loop.params[2].grad = None
    loop.params, loop.memory = loop.params[:2], loop.memory[:2]


def _move_gradients(loop: Loop) -> None:
    loop.memory = [torch.empty_like(p) for p in loop.params]


def _strided_gradients(loop: Loop) -> None:
    loop.memory[0] = torch.empty(5, 3).t()


def _other_numbers(loop: Loop) -> None:
    for group in loop.optimizer.param_groups:
        group |= {"betas": (0.8, 0.9), "eps": 1e-3} if "betas" in group else {"momentum": 0.5}


def _radius(loop: Loop) -> None:
    for state in loop.optimizer.state.values():
        if state.get("radius", 0) > 0:
            state["radius"] *= 2


EVENTS = {
    event.__name__.removeprefix("_"): event
    for event in (
        _move_weights, _swap_weights, _strided_weights, _move_slots, _resize, _count_again, _count_one_again,
        _start_again, _start_one_again, _load, _copy, _add_group, _drop_gradient, _move_gradients, _strided_gradients,
        _other_numbers, _radius,
    )
}  # fmt: skip


@pytest.mark.parametrize("at", [3, 10])
@pytest.mark.parametrize("event", EVENTS)
@every_face
def test_what_changed_between_two_steps_is_noticed(
    face: str, event: str, at: int, graphs: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each phase, once there is a graph."""

    def drive(loop: Loop) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for t in range(STEPS):
                loop.step()
                if t == at:
                    EVENTS[event](loop)

    found = _driven(FACES[face], drive)
    assert graphs.replays > 3
    _close(found, _by_lists(FACES[face], monkeypatch, drive))


@pytest.mark.parametrize("base", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adam], ids=lambda base: base.__name__)
def test_lawn_around_another_optimizer_follows_its_torch_operations(
    base: Any, graphs: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose gradients stay what they are, and whose other parameters move freely."""

    def make(params: list[nn.Parameter], lr: float) -> Lawn:
        return Lawn(base(params, lr=lr, weight_decay=0.0), free_steps=5)

    def drive(loop: Loop) -> None:
        for t in range(STEPS):
            loop.step(lr=0.01 * (1 + t // 3))
            if t == 9:
                loop.params[0].data = loop.params[0].data.t().contiguous().t()  # which the kernels do not take
        loop.memory = [grad + 1 for grad in loop.memory]

    assert repeated.graphs(torch.device("cpu")) is graphs
    calls = _noted(monkeypatch)
    loop = Loop(make)
    drive(loop)
    assert calls == [False, True] * 5
    _close(loop.all(), _by_lists(make, monkeypatch, drive))
    norms = {p: float(p.detach().norm()) for p in loop.params if p in loop.optimizer.radii}
    assert norms == pytest.approx({p: float(c) for p, c in loop.optimizer.radii.items()}, rel=1e-6)


def test_lawn_makes_few_operations_around_another_optimizer(graphs: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop(lambda params, lr: Lawn(torch.optim.SGD(params, lr=lr, foreach=True), free_steps=0))
    for _ in range(3):
        loop.step()
    monkeypatch.setattr(fused, "intercepted", lambda: False)
    monkeypatch.setattr(repeated.Repeated, "__call__", lambda *given: None)  # a launch, if its tensors are in place
    with Operations() as operations:
        loop.optimizer.step()
    lists = [name for name in operations.names if name not in ("aten.empty_like.default", "aten.detach.default")]
    assert lists == [
        "aten._foreach_copy_.default",  # the weights before the step
        "aten._foreach_zero_.default",  # for projected gradients
        "aten._foreach_copy_.default",  # the gradients of the others
        "aten._foreach_add_.List",  # SGD's step
        "aten._foreach_sub.List",  # its move
        "aten._foreach_copy_.default",
    ]


def _noted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Notes of every step by the kernels whether it moves weights."""
    calls: list[bool] = []
    call = repeated.Repeated.__call__

    def noted(self: repeated.Repeated, *given: Any) -> None:
        calls.append(given[-1])
        call(self, *given)

    monkeypatch.setattr(repeated.Repeated, "__call__", noted)
    return calls


@pytest.mark.parametrize("control", CONTROLS, ids=str)
def test_other_controls_take_over_at_the_switch(
    control: Control, graphs: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = partial(FACES["AdamLawn"], control=control)
    found = _driven(make, _train)
    assert graphs.replays > 3
    _close(found, _by_lists(make, monkeypatch, _train))


@pytest.mark.parametrize("dtypes", [[torch.bfloat16], [torch.float32, torch.bfloat16]], ids=str)
@every_face
def test_half_precision_and_changing_sets_of_gradients_have_the_bits_of_launches(
    face: str, dtypes: list[torch.dtype], graphs: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained() -> list[Tensor]:
        loop = Loop(FACES[face], [p for dtype in dtypes for p in _parameters(dtype)])
        for t in range(STEPS):
            loop.step()
            for p in loop.params[t % 2 :: 3]:
                p.grad = None
            loop.optimizer.step()
        return loop.all()

    by_graphs = trained()
    assert graphs.replays > STEPS or torch.float32 not in dtypes  # whose gradients are converted to who knows where
    monkeypatch.setattr("trainables.optimizers.repeated.graphs", lambda device: None)
    _equal(by_graphs, trained())
    monkeypatch.setattr(gpu, "usable", lambda *tensors: False)
    for one, other in zip(by_graphs, trained(), strict=True):  # in bf16 by one step of its precision
        torch.testing.assert_close(one, other, rtol=1e-2 if one.dtype == torch.bfloat16 else 1e-4, atol=1e-5)


def test_a_gradient_of_another_size_is_never_read(graphs: StandIn) -> None:
    loop = Loop(FACES["AdamLawn"])
    for _ in range(4):
        loop.step()
    loop.memory[0].data = torch.empty(2)
    with pytest.raises(RuntimeError, match="size"):
        loop.optimizer.step()


def test_a_step_that_failed_can_be_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*given: object) -> None:
        raise RuntimeError("no launch")

    loops = [Loop(FACES["AdamLawn"]) for _ in range(2)]
    for loop in loops:
        loop.step()
    with monkeypatch.context() as patch:
        patch.setattr(gpu.Step, "launch", failing)
        with pytest.raises(RuntimeError, match="no launch"):
            loops[0].optimizer.step()
    for state in loops[0].optimizer.state.values():
        state["step"] -= 1
    for loop in loops:
        loop.step()
    _equal(*(loop.all() for loop in loops))


@every_face
def test_autograd_notices_every_step(face: str, graphs: StandIn) -> None:
    loop = Loop(FACES[face])
    for _ in range(STEPS):
        before = [p._version for p in loop.params]
        loop.step()
        assert all(p._version > version for p, version in zip(loop.params, before, strict=True))
    assert graphs.replays


def test_nothing_of_a_state_that_is_dropped_stays_in_memory(graphs: StandIn) -> None:
    loop = Loop(FACES["AdamLawn"])
    for _ in range(4):
        loop.step()
    slots = [weakref.ref(state["m"]) for state in loop.optimizer.state.values()]
    gradients = [weakref.ref(grad) for grad in loop.memory]
    gc.disable()
    try:
        loop.optimizer.state.clear()
        loop.memory.clear()
        loop.optimizer.zero_grad()
        assert [ref() for ref in (*slots, *gradients)] == [None] * (len(slots) + len(gradients))
    finally:
        gc.enable()


# --- graphs: when they are captured, and when not ---------------------------------------------------------------------


def _captured(graphs: StandIn, places: int, rounds: int) -> tuple[int, int]:
    """Captures and replays of steps whose gradients come to several places in turn, after the first step."""
    loop = Loop(AdamLawn)
    loop.step()
    before = graphs.captures, graphs.replays
    memories = [[torch.empty_like(p) for p in loop.params] for _ in range(places)]
    for i in range(rounds * places):
        loop.memory = memories[i % places]
        loop.step()
    return graphs.captures - before[0], graphs.replays - before[1]


@pytest.mark.parametrize("places", [1, 3, 50])
def test_one_graph_makes_the_steps_wherever_the_gradients_are(places: int, graphs: StandIn) -> None:
    """The first step of all launches, the next ones replay what the second captures."""
    assert _captured(graphs, places=places, rounds=2) == (1, 2 * places)


def test_while_others_capture_nothing_is_replayed_or_captured(graphs: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop(FACES["AdamLawn"])
    for _ in range(4):
        loop.step()
    before, calls = (graphs.captures, graphs.replays), list[Any]()
    monkeypatch.setattr(gpu, "capturing", lambda device: True)
    monkeypatch.setattr(gpu, "step_lists", lambda *given, **options: calls.append(options["t"]))
    for t in (5, 6):
        loop.optimizer.step()
        assert calls[-1] == t if t == 5 else calls[-1] == 1  # reset at the switch
    assert (graphs.captures, graphs.replays) == before


class Broken(StandIn):
    def capture(self, run: Any, warm_up: int = 1) -> Any:
        self.captures += 1
        raise RuntimeError("operation not permitted when stream is capturing")


class Wrong(StandIn):
    def capture(self, run: Any, warm_up: int = 1) -> Any:
        _, results = super().capture(run, warm_up)
        return (lambda: None), results


@pytest.mark.parametrize(("kind", "reason"), [(Broken, "not permitted"), (Wrong, "other bits")])
def test_graphs_that_fail_or_differ_cost_one_warning_and_no_bit(
    kind: type[StandIn], reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backend = _with(kind(), monkeypatch)
    found = [_driven(FACES["AdamLawn"], _train) for _ in range(2)]
    assert backend.captures == 1
    assert [reason in record.getMessage() for record in caplog.records] == [True]
    monkeypatch.setattr("trainables.optimizers.repeated.graphs", lambda device: None)
    expected = _driven(FACES["AdamLawn"], _train)
    for one in found:
        _equal(one, expected)


def test_a_kernel_that_could_not_be_loaded_is_loaded_at_the_next_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton keeps it as if it were, and every launch in the same process would fail."""
    kernel = gpu_kernels.total

    def run(*given: object, **options: object) -> None:
        raise RuntimeError("Triton Error [CUDA]: out of memory")

    kept = {"loaded": SimpleNamespace(function=7), "not loaded": SimpleNamespace(function=None)}
    monkeypatch.setattr(kernel, "device_caches", {0: (kept, {}, None, None, None)})
    monkeypatch.setattr(type(kernel), "run", run)
    ones = torch.ones(1, 1)
    step = gpu.Step(0, 1, gpu.cut_of((3,), ones.device), ones.double().expand(1, 6), ones.long(), ones)
    with pytest.raises(RuntimeError, match="out of memory"):
        step.squares()
    assert list(kept) == ["loaded"]
