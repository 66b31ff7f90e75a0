"""The compiled step equals `rules.step` up to rounding, with the same bits for any other rows and thread count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.catalogue.methods import METHODS
from trainables.optimizers import AdamLawn, fused, rules
from trainables.optimizers.layers import layers_of
from trainables.training.pack import Pack

SHAPES = [("a", (7, 9)), ("bias", (9,)), ("b", (70, 1000)), ("gain", (3,)), ("c", (4, 3, 2, 2)), ("dot", (1, 1))]
LAYERS = layers_of([(name, torch.Size(shape)) for name, shape in SHAPES])
HYPER: dict[str, dict[str, float]] = {
    "sgd": {"momentum": 0.9},
    "adam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-3},
    "lamb": {"beta1": 0.9, "beta2": 0.99, "eps": 1e-3},
}
"""With a smaller eps, Adam's first direction is the sign of rounding errors wherever P g is nearly 0."""
RULES = sorted(HYPER)


def _start(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    size = LAYERS[-1].stop
    return torch.randn(rows, size, generator=generator) * 0.1, torch.randn(rows, size, generator=generator)


def _by_layer(g: Tensor) -> list[Tensor]:
    return [g[:, layer.start : layer.stop] for layer in LAYERS]


def _fused(rule: str, w: Tensor, g: Tensor, state: rules.State, **options: Any) -> Tensor:
    return fused.step(rule, w, _by_layer(g), state, layers=LAYERS, **options)


def test_this_machine_has_the_kernels() -> None:
    assert fused.build_kernels(), "the tests need a C compiler: apt-get install gcc"


def test_usable_are_real_tensors_in_single_precision_where_there_are_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    w, g = _start(1)
    assert fused.usable(w, g)
    assert not fused.usable(w, g.double())
    with TorchDispatchMode():  # type: ignore[no-untyped-call]
        assert not fused.usable(w, g)
    monkeypatch.setattr(fused, "kernels", lambda: None)
    assert not fused.usable(w, g)
    with pytest.raises(RuntimeError, match="no compiled kernels on this machine"):
        _fused("sgd", w, g, rules.init_state("sgd", w), lr=0.1, t=1, hyper=HYPER["sgd"])


@given(
    rule=st.sampled_from(RULES),
    rows=st.integers(1, 3),
    held=st.sampled_from(["none", "all", "some"]),
    decay=st.sampled_from([None, 0.0, 0.1]),
    seed=st.integers(0, 1000),
)
def test_equals_the_rules_step_by_step(rule: str, rows: int, held: str, decay: float | None, seed: int) -> None:
    w, _ = _start(rows, seed)
    hyper: dict[str, Any] = {k: torch.full((rows, 1), v, dtype=torch.float64) for k, v in HYPER[rule].items()}
    if held == "none" and decay is not None:
        hyper["weight_decay"] = torch.linspace(0, decay, rows, dtype=torch.float64).unsqueeze(1)
    constrained = torch.tensor([[held == "all" or (held == "some" and i == 0)] for i in range(rows)])
    radii = rules.radii_of(w, LAYERS)
    lr = torch.linspace(1e-3, 1e-2, rows, dtype=torch.float64).unsqueeze(1)
    state = rules.init_state(rule, w)
    for t in (1, 2, 3):
        g = torch.sin(5 * w + t)
        start, moments = w.clone(), {name: slot.clone() for name, slot in state.items()}
        squares = _fused(
            rule, w, g, state, lr=lr, t=t, hyper=hyper, radii=None if held == "none" else radii * constrained
        )
        expected, slots = rules.step(
            rule, start, g, moments, lr=lr, t=t, hyper=hyper, layers=LAYERS, radii=radii,
            constrained=False if held == "none" else constrained,
        )  # fmt: skip
        torch.testing.assert_close(w, expected, rtol=2e-6, atol=1e-3 * float(lr.max()))
        for name, slot in slots.items():
            torch.testing.assert_close(state[name], slot, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(squares.float(), (g * g).sum(dim=1))


@pytest.mark.parametrize("rule", RULES)
def test_held_norms_stay_for_a_thousand_steps(rule: str) -> None:
    w, _ = _start(2)
    radii, state = rules.radii_of(w, LAYERS), rules.init_state(rule, w)
    for t in range(1, 1001):
        _fused(rule, w, torch.sin(5 * w), state, lr=0.01, t=t, hyper=HYPER[rule], radii=radii)
    torch.testing.assert_close(rules.radii_of(w, LAYERS), radii, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rule", RULES)
def test_a_row_has_the_bits_it_has_alone(rule: str) -> None:
    w, g = _start(3)
    radii = rules.radii_of(w, LAYERS) * torch.tensor([[1.0], [0.0], [1.0]])
    together, state = w.clone(), rules.init_state(rule, w)
    _fused(rule, together, g, state, lr=0.01, t=1, hyper=HYPER[rule], radii=radii)
    for i in range(3):
        alone, own = w[i : i + 1].clone(), rules.init_state(rule, w[i : i + 1])
        _fused(rule, alone, g[i : i + 1], own, lr=0.01, t=1, hyper=HYPER[rule], radii=radii[i : i + 1])
        assert torch.equal(alone[0], together[i])


@pytest.mark.parametrize("rule", RULES)
def test_threads_change_no_bit(rule: str) -> None:
    w, g = _start(1)
    radii, found = rules.radii_of(w, LAYERS), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            moved, state = w.clone(), rules.init_state(rule, w)
            _fused(rule, moved, g, state, lr=0.01, t=1, hyper=HYPER[rule], radii=radii)
            found.append(moved)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("rule", RULES)
def test_a_row_that_is_lost_leaves_the_others_alone(rule: str) -> None:
    w, g = _start(2)
    healthy, state = w[1:].clone(), rules.init_state(rule, w[1:])
    _fused(rule, healthy, g[1:], state, lr=0.01, t=1, hyper=HYPER[rule], radii=rules.radii_of(healthy, LAYERS))
    radii = rules.radii_of(w, LAYERS)
    g[0, 3] = torch.nan
    state = rules.init_state(rule, w)
    _fused(rule, w, g, state, lr=0.01, t=1, hyper=HYPER[rule], radii=radii)
    assert torch.equal(w[1:], healthy)
    assert not torch.isfinite(w[0]).all()


def test_a_norm_that_overflows_is_divergence_and_not_zero() -> None:
    w, g = _start(1)
    radii = rules.radii_of(w, LAYERS)
    w[0, LAYERS[0].start : LAYERS[0].stop] = 1e30
    _fused("sgd", w, g, rules.init_state("sgd", w), lr=0.01, t=1, hyper=HYPER["sgd"], radii=radii)
    assert w[0, : LAYERS[0].stop].isnan().all()


def test_refuses_what_the_rules_refuse() -> None:
    w, g = _start(1)
    state, radii = rules.init_state("adam", w), rules.radii_of(w, LAYERS)
    with pytest.raises(ValueError, match="LAWN uses no weight decay"):
        _fused("adam", w, g, state, lr=0.1, t=1, hyper=HYPER["adam"] | {"weight_decay": 0.1}, radii=radii)
    with pytest.raises(ValueError, match="adam takes beta1, beta2, eps"):
        _fused("adam", w, g, state, lr=0.1, t=1, hyper={"beta1": 0.9})


def test_autograd_notices_the_change() -> None:
    p = torch.nn.Parameter(torch.randn(5, 5))
    product = (p * p).sum()
    p.grad = torch.ones(5, 5)
    AdamLawn([p], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("way", ["float64", "strided"])
def test_other_tensors_take_the_rules(way: str) -> None:
    p = torch.nn.Parameter(torch.randn(6, 4, dtype=torch.float64) if way == "float64" else torch.randn(4, 6).t())
    assert not fused.usable(p)
    optimizer = AdamLawn([p], lr=0.1, free_steps=0)
    norm = p.detach().norm().item()
    for _ in range(3):
        p.grad = torch.sin(p.detach())
        optimizer.step()
    assert p.detach().norm().item() == pytest.approx(norm, rel=1e-6)


def test_a_pack_whose_rule_has_no_kernel_takes_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    def squares(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().sum(1)

    def trained() -> Tensor:
        torch.manual_seed(0)
        values = HYPER["adam"] | {"weight_decay": 0.01}
        hyper = {name: torch.full((1, 1), value, dtype=torch.float64) for name, value in values.items()}
        linear, device = torch.nn.Linear(3, 2), torch.device("cpu")
        pack = Pack([linear], METHODS["adam"], hyper, squares, constrain="all", device=device)
        for _ in range(3):
            pack.gradients((torch.ones(4, 3),), torch.zeros(4, 2), shared=True)
            pack.apply(torch.full((1, 1), 0.01, dtype=torch.float64))
        return pack.state.weights

    with_kernel = trained()
    monkeypatch.setattr(fused, "CODES", {"sgd": 0})
    monkeypatch.setattr(fused, "step", None)
    torch.testing.assert_close(trained(), with_kernel)
