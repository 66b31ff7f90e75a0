"""The GPU's kernels, by Triton's interpreter on the CPU: equal to `rules.step` up to rounding, and who uses them when.

Triton decides when it is imported whether its functions are interpreted, so the laws run in a process of their own:
`TRITON_INTERPRET=1 python -m pytest tests/optimizers/test_gpu.py`. It takes about 10 ms a program,
so tensors are small.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.graphs import StandIn, stand_in
from trainables.catalogue.methods import METHODS
from trainables.losses import cross_entropy
from trainables.optimizers import AdamLawn, LambLawn, Lawn, SgdLawn, fused, gpu, rules
from trainables.optimizers.layers import layers_of
from trainables.training import graphed
from trainables.training.pack import Pack

__all__ = ["stand_in"]

LAYERS = layers_of([("a", torch.Size((3, 5))), ("bias", torch.Size((5,))), ("b", torch.Size((13, 10)))])
SIZE = LAYERS[-1].stop
HYPER: dict[str, dict[str, float]] = {
    "sgd": {"momentum": 0.9},
    "adam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-3},
    "lamb": {"beta1": 0.9, "beta2": 0.99, "eps": 1e-3},
}
FACES: dict[str, Any] = {"sgd": SgdLawn, "adam": AdamLawn, "lamb": LambLawn}
RULES = sorted(HYPER)
laws = pytest.mark.skipif(not gpu.INTERPRETED, reason="runs in a process of its own, see below")


@pytest.mark.long
@pytest.mark.skipif(gpu.INTERPRETED, reason="this is that process")
@pytest.mark.timeout(600)
def test_the_laws_hold_in_a_process_of_their_own() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    surroundings = {**os.environ, "TRITON_INTERPRET": "1"}
    result = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert " 1 skipped" in result.stdout  # this test alone


@pytest.fixture(autouse=True, scope="module")
def _small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "BLOCK", 32)  # "b" has five blocks, summed two at a time
        patch.setattr(gpu, "WIDTH", 2)
        patch.setattr(gpu, "GROUP", 2)
        patch.setattr(gpu, "MANY", 4)
        patch.setattr(fused, "usable", lambda *tensors: False)  # these tensors are on the CPU
        yield


def _start(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, SIZE, generator=generator) * 0.1, torch.randn(rows, SIZE, generator=generator)


def _step(rule: str, w: Tensor, g: Tensor, state: rules.State, **options: Any) -> Tensor:
    gradients = [g[:, layer.start : layer.stop] for layer in LAYERS]
    return gpu.step(rule, w, gradients, state, layers=LAYERS, **{"hyper": HYPER[rule], "lr": 0.01, "t": 1, **options})


@laws
@pytest.mark.parametrize("held", ["none", "some", "all"])
@pytest.mark.parametrize("rule", RULES)
def test_equals_the_rules_step_by_step(rule: str, held: str) -> None:
    w, _ = _start(2)
    hyper: dict[str, Any] = {k: torch.full((2, 1), v, dtype=torch.float64) for k, v in HYPER[rule].items()}
    if held == "none":
        hyper["weight_decay"] = torch.tensor([[0.0], [0.1]], dtype=torch.float64)
    constrained = torch.tensor([[held != "none"], [held == "all"]])
    lr = torch.tensor([[1e-3], [1e-2]], dtype=torch.float64)
    radii, state = rules.radii_of(w, LAYERS), rules.init_state(rule, w)
    for t in (1, 2):
        g = torch.sin(5 * w + t)
        options: dict[str, Any] = {"lr": lr, "t": torch.tensor([[t], [t + 3]]), "hyper": hyper}
        start, moments = w.clone(), {name: slot.clone() for name, slot in state.items()}
        expected, slots = rules.step(
            rule, start, g, moments, layers=LAYERS, radii=radii, constrained=constrained if held != "none" else False,
            **options,
        )  # fmt: skip
        squares = _step(rule, w, g, state, **options, radii=None if held == "none" else radii * constrained)
        torch.testing.assert_close(w, expected, rtol=2e-6, atol=1e-5)
        for name, slot in slots.items():
            torch.testing.assert_close(state[name], slot, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(squares.float(), (g * g).sum(dim=1))


@laws
@pytest.mark.parametrize(("rule", "lr", "error"), [("adam", 5e-4, 1e-6), ("lamb", 0.5, 1e-3)])
def test_a_direction_along_the_weights_loses_few_digits(rule: str, lr: float, error: float) -> None:
    """With no gradient left, the moments alone give the direction; here it is 1,000·w but for one part in 10,000.

    LAMB gives the part that is left, and the rounding errors in it, the length of the weights.
    """
    w, _ = _start(2)
    radii, state = rules.radii_of(w, LAYERS), rules.init_state(rule, w)
    state["m"], state["v"] = 1e3 * (w + 1e-4 * w.roll(1, dims=1)), torch.ones_like(w)
    options: dict[str, Any] = {"lr": lr, "t": 9, "hyper": HYPER[rule]}
    exact, _ = rules.step(
        rule, w.double(), torch.zeros_like(w).double(), {k: v.double() for k, v in state.items()}, layers=LAYERS,
        radii=radii.double(), constrained=True, **options,
    )  # fmt: skip
    _step(rule, w, torch.zeros_like(w), state, radii=radii, **options)
    torch.testing.assert_close(w, exact.float(), rtol=0, atol=error)
    torch.testing.assert_close(rules.radii_of(w, LAYERS), radii, rtol=1e-6, atol=0)


@laws
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, which interprets
@pytest.mark.parametrize("rule", RULES)
def test_a_row_has_the_bits_it_has_alone_even_next_to_a_lost_one(rule: str) -> None:
    w, g = _start(2)
    radii, state = rules.radii_of(w, LAYERS), rules.init_state(rule, w)
    alone, own = w[1:].clone(), rules.init_state(rule, w[1:])
    _step(rule, alone, g[1:], own, radii=radii[1:])
    g[0, 3] = torch.nan
    _step(rule, w, g, state, radii=radii)
    assert torch.equal(w[1], alone[0])
    assert not w[0].isfinite().all()


@laws
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_norm_that_overflows_is_divergence_and_not_zero() -> None:
    w, g = _start(1)
    radii = rules.radii_of(w, LAYERS)
    w[0, :15] = 1e30
    _step("sgd", w, g, rules.init_state("sgd", w), radii=radii)
    assert w[0, :15].isnan().all()


@laws
@pytest.mark.parametrize("rule", RULES)
def test_without_weights_or_gradients_they_go_where_the_rules_lead(rule: str) -> None:
    """Where the ratios of LAMB and of the projection divide by zero."""
    w, g = _start(2)
    w[0, :15], g[1] = 0, 0
    radii, state = rules.radii_of(w, LAYERS), rules.init_state(rule, w)
    expected, _ = rules.step(
        rule, w, g, state, lr=0.01, t=1, hyper=HYPER[rule], layers=LAYERS, radii=radii, constrained=True
    )  # fmt: skip
    _step(rule, w, g, state, radii=radii)
    torch.testing.assert_close(w, expected)


@laws
@pytest.mark.parametrize("rule", RULES)
def test_the_classes_use_them(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained() -> list[Tensor]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2).bfloat16())
        optimizer = FACES[rule](model.parameters(), lr=0.01, free_steps=1)
        for _ in range(2):
            for p in model.parameters():
                p.grad = torch.sin(5 * p.detach() + 1)
            optimizer.step()
        return [p.detach() for p in model.parameters()]

    calls = _counted(monkeypatch)
    by_kernels = trained()
    assert calls == [rule] * 4  # a call for each precision and step
    monkeypatch.setattr(gpu, "usable", lambda *tensors: False)
    torch.testing.assert_close(by_kernels, trained())


@laws
@pytest.mark.parametrize("rule", RULES)
def test_the_classes_replay_them_in_a_graph_with_the_same_bits(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(backend: StandIn | None) -> list[Tensor]:
        monkeypatch.setattr("trainables.optimizers.repeated.graphs", lambda device: backend)
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 13)
        optimizer = FACES[rule](model.parameters(), lr=0.01, free_steps=3)
        gradients = [torch.empty_like(p) for p in model.parameters()]
        for t in range(6):
            for p, gradient in zip(model.parameters(), gradients, strict=True):
                p.grad = gradient.copy_(torch.sin(5 * p.detach() + t))
            optimizer.param_groups[0]["lr"] = 0.01 + 0.01 * (t // 2)
            optimizer.step()
        return [*model.parameters(), *(x for state in optimizer.state.values() for x in state.values())]

    graphs = StandIn()
    by_graphs = trained(graphs)
    assert graphs.replays >= 4  # the first step of each phase is launched
    assert all(torch.as_tensor(one).equal(torch.as_tensor(x)) for one, x in zip(by_graphs, trained(None), strict=True))


@laws
def test_lawn_uses_them_around_another_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    def trained() -> list[Tensor]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 13), torch.nn.Linear(13, 2))
        optimizer = Lawn(torch.optim.Adam(model.parameters(), lr=0.05), free_steps=0)
        for t in range(3):
            for p in model.parameters():
                p.grad = torch.sin(5 * p.detach() + t)
            optimizer.step()
        return [p.detach() for p in model.parameters()]

    calls = _counted(monkeypatch)
    by_kernels = trained()
    assert calls == ["sgd", "sgd"] * 3  # the projection of the gradients and that of the move
    monkeypatch.setattr(gpu, "usable", lambda *tensors: False)
    torch.testing.assert_close(by_kernels, trained(), rtol=1e-5, atol=1e-6)


@laws
def test_a_pack_uses_them_across_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    def squares(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().sum(1)

    def trained() -> Tensor:
        torch.manual_seed(0)
        hyper = {name: torch.full((2, 1), value, dtype=torch.float64) for name, value in HYPER["adam"].items()}
        models, device = [torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)], torch.device("cpu")
        pack = Pack(models, METHODS["adam-lawn"], hyper, squares, constrain="all", device=device)
        for _ in range(2):
            pack.gradients((torch.ones(4, 3),), torch.zeros(4, 2), shared=True)
            pack.apply(torch.full((2, 1), 0.01, dtype=torch.float64))
            pack.constrain([0])
        return pack.state.weights

    calls = _counted(monkeypatch)
    by_kernels = trained()
    assert calls == ["adam"] * 2
    monkeypatch.setattr(gpu, "usable", lambda *tensors: False)
    torch.testing.assert_close(by_kernels, trained())


def _trained(rule: str, rows: int) -> list[Tensor]:
    """All that the steps of a pack return and change, over the switch of one row and of all, and a load."""

    def load() -> None:
        pack.state.weights = pack.state.weights.clone()

    torch.manual_seed(0)
    hyper = {name: torch.full((rows, 1), value, dtype=torch.float64) for name, value in HYPER[rule].items()}
    models, device = [torch.nn.Linear(3, 2) for _ in range(rows)], torch.device("cpu")
    pack = Pack(models, METHODS[f"{rule}-lawn"], hyper, cross_entropy, constrain="all", device=device)
    events: list[Callable[[], None]] = [lambda: pack.constrain([0]), lambda: pack.constrain(range(rows)), load]
    seen: list[Tensor] = []
    for event in (lambda: None, *events):
        event()
        for _ in range(4):
            pack.gradients((torch.eye(3),), torch.tensor([0, 1, 1]), shared=True)
            loss = pack.apply(torch.full((rows, 1), 0.01 + 0.001 * len(seen), dtype=torch.float64))
            changed = [tensor.clone() for tensor in (pack.state.weights, *pack.state.slots.values())]
            seen += [loss, pack.grad_norm, *changed]
    return seen


@laws
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("rule", RULES)
def test_a_pack_replays_them_in_a_graph_with_the_same_bits(
    rule: str, rows: int, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "_read_by_graphs", [])
    by_graphs = _trained(rule, rows)
    assert stand_in.replays >= 6
    assert len(gpu._read_by_graphs) == 2 + rows  # in each phase, and after the load
    monkeypatch.setattr(graphed, "backend_of", lambda device: None)
    assert all(one.equal(other) for one, other in zip(by_graphs, _trained(rule, rows), strict=True))


@laws
def test_they_are_launched_on_the_device_of_their_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton launches on the current device, which need not be that of the model of a training script."""
    entered: list[torch.device] = []

    @contextmanager
    def current(device: torch.device) -> Iterator[None]:
        entered.append(device)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gpu.Step, "launch", launch)
            yield

    def nowhere(*given: Any, **options: Any) -> None:
        raise AssertionError("launched on whatever device is current")

    launch = gpu.Step.launch
    monkeypatch.setattr(gpu, "current", current)
    monkeypatch.setattr(gpu.Step, "launch", nowhere)
    w, g = _start(1)
    _step("sgd", w, g, rules.init_state("sgd", w))
    assert entered == [w.device]


@laws
def test_no_table_is_copied_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    w, g = _start(1)
    gpu.forget()
    monkeypatch.setattr(gpu, "capturing", lambda device: True)
    with pytest.raises(RuntimeError, match="before it is captured"):
        _step("sgd", w, g, rules.init_state("sgd", w))


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes the rule of every step by the kernels; the trial steps of `usable` are not counted."""
    assert gpu.usable(torch.ones(3))
    rules_of, calls = {code: rule for rule, code in fused.CODES.items()}, list[str]()
    launch = gpu.Step.launch

    def noted(step: gpu.Step, three_passes: bool, moves: bool = True) -> None:
        calls.append(rules_of[step._rule])
        launch(step, three_passes, moves)

    monkeypatch.setattr(gpu.Step, "launch", noted)
    return calls


@pytest.mark.parametrize(
    ("rule", "added", "logged"),
    [
        (None, 0.0, ""),
        ("sgd", 0.01, "differ from torch operations by"),
        ("lamb", float("nan"), "differ from torch operations by nan"),
        ("adam", None, "no C compiler found"),
    ],
)
def test_kernels_that_fail_or_compute_something_else_are_not_used(
    rule: str | None,
    added: float | None,
    logged: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def step(name: str, w: Tensor, gradients: list[Tensor], state: rules.State, *, radii: Any, **options: Any) -> None:
        change = added if name == rule else 0.0
        if change is None:
            raise RuntimeError("no C compiler found")
        g = torch.cat(gradients, dim=1)
        w.copy_(rules.step(name, w, g, state, radii=radii, constrained=radii is not None, **options)[0])
        w[0, 0] += change

    monkeypatch.setattr(gpu, "_reachable", lambda device: True)
    monkeypatch.setattr(gpu, "step", step)
    gpu.forget()
    assert gpu.usable(torch.ones(3)) == (rule is None)
    assert logged in caplog.text
    gpu.forget()


def test_a_trial_without_memory_says_nothing_of_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pack is tried again as halves, which have the kernels as every other pack of this process."""
    errors = [RuntimeError("Triton Error [CUDA]: out of memory")]

    def difference(*given: object) -> float:
        if errors:
            raise errors.pop()
        return 0.0

    monkeypatch.setattr(gpu, "_reachable", lambda device: True)
    monkeypatch.setattr(gpu, "_difference", difference)
    gpu.forget()
    with pytest.raises(RuntimeError, match="out of memory"):
        gpu.usable(torch.ones(3))
    assert gpu.usable(torch.ones(3))
    gpu.forget()


def test_what_they_do_not_support_is_not_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU nothing is, unless interpreted; nor are other precisions, tensors with strides or of 2³¹ weights."""
    assert gpu.usable(torch.ones(3)) == gpu.INTERPRETED
    assert not gpu.usable(torch.ones(3, device="meta"))
    monkeypatch.setattr(gpu, "_reachable", lambda device: True)
    monkeypatch.setattr(gpu, "_trusted", lambda device: True)
    assert gpu.usable(torch.ones(3))
    for other in (torch.ones(3).double(), torch.ones(4, 3).t()):
        assert not gpu.usable(torch.ones(3), other)
    assert gpu.usable(torch.empty(gpu.POSITIONS - 1, device="meta"))
    assert not gpu.usable(torch.empty(gpu.POSITIONS, device="meta"))
    x = torch.ones(3)
    with TorchDispatchMode():  # type: ignore[no-untyped-call]
        assert not gpu.usable(x)
    monkeypatch.setenv("LAWN_TUNE_KERNELS", "0")
    assert not gpu.usable(torch.ones(3))
