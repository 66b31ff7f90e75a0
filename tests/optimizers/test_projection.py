"""Invariants of the two parts that LAWN adds to a rule: projection (eq. 3) and rescaling (eq. 2)."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainables.optimizers import rules
from trainables.optimizers.layers import Layer
from trainables.optimizers.lists import Sums
from trainables.optimizers.weights import Weights, rescale_, tangent_

LAYERS = (Layer("a", 0, 3, True), Layer("b", 3, 5, False), Layer("c", 5, 9, True))
HELD = torch.tensor([True, False, True])
numbers = st.floats(-1e3, 1e3).filter(lambda x: x == 0 or abs(x) > 1e-100)  # squares neither vanish nor turn denormal
vectors = st.lists(numbers, min_size=9, max_size=9).map(lambda x: torch.tensor(x, dtype=torch.float64))


def project(d: Tensor, w: Tensor, held: Tensor) -> Tensor:
    """P d, layer by layer; a layer that is not held keeps d."""
    d = d.clone()
    tangent_(Weights(views(w), sums=Sums(rows=True), held=list(torch.split(held, 1))), views(d))
    return d


def rescale(w: Tensor, held: Tensor, radii: Tensor) -> Tensor:
    """c·w/|w| of each held layer."""
    w = w.clone()
    rescale_(Weights(views(w), torch.split(radii, 1), sums=Sums(rows=True), held=list(torch.split(held, 1))))
    return w


def views(x: Tensor) -> list[Tensor]:
    return [x[layer.start : layer.stop] for layer in LAYERS]


def norms(x: Tensor) -> Tensor:
    return torch.stack([part.norm() for part in views(x)])


def dots(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([part.sum() for part in views(x * y)])


def test_a_hand_computed_projection_and_step() -> None:
    w, g = torch.tensor([3.0, 4.0], dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    layers = (Layer("a", 0, 2, True),)
    tangent = g.clone()
    tangent_(Weights([w]), [tangent])
    assert torch.allclose(tangent, torch.tensor([0.64, -0.48], dtype=torch.float64))
    moved, _ = rules.step(
        "sgd",
        w,
        g,
        rules.init_state("sgd", w),
        lr=0.5,
        t=1,
        hyper={"momentum": 0.9},
        layers=layers,
        constrained=True,
        radii=rules.radii_of(w, layers),
    )
    # w − 0.5·(0.64, −0.48) = (2.68, 4.24), brought back from norm √25.16 to 5
    assert torch.allclose(moved, torch.tensor([2.68, 4.24], dtype=torch.float64) * 5 / 25.16**0.5)


@given(vectors, vectors)
def test_projection_is_orthogonal_idempotent_and_shrinks(d: Tensor, w: Tensor) -> None:
    held = rules.radii_of(w, LAYERS) > 0
    once = project(d, w, held)
    size = norms(d) * norms(w)
    assert (dots(once, w).abs()[held] <= 1e-13 * size[held]).all()
    assert torch.allclose(project(once, w, held), once, rtol=1e-13, atol=1e-13 * float(norms(d).max()))
    assert (norms(once) <= norms(d) * (1 + 1e-13)).all()


@given(vectors, vectors)
def test_projection_leaves_tangents_and_removes_the_weights_themselves(d: Tensor, w: Tensor) -> None:
    held = rules.radii_of(w, LAYERS) > 0
    assert (norms(project(w, w, held))[held] <= 1e-13 * norms(w)[held]).all()
    shifted = project(d + 2 * w, w, held)
    tolerance = 1e-12 * float((norms(d) + norms(w)).max())
    assert torch.allclose(shifted[held_span(held)], project(d, w, held)[held_span(held)], atol=tolerance)


def held_span(held: Tensor) -> Tensor:
    return torch.cat([x.expand(layer.stop - layer.start) for x, layer in zip(held, LAYERS, strict=True)])


@given(vectors, vectors)
def test_what_is_not_held_passes_through_bit_for_bit(d: Tensor, w: Tensor) -> None:
    none = torch.zeros(3, dtype=torch.bool)
    d = torch.cat([d[:-1], torch.tensor([-0.0], dtype=torch.float64)])
    radii = rules.radii_of(w, LAYERS)
    assert bits(project(d, w, none)) == bits(d)
    assert bits(rescale(d, none, radii)) == bits(d)
    assert bits(project(d, w, HELD)[3:5]) == bits(d[3:5])


def bits(x: Tensor) -> list[int]:
    return [int(i) for i in x.view(torch.int64)]


@given(vectors, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_rescaling_restores_the_norm_and_keeps_the_direction(w: Tensor, a: float, c: float) -> None:
    radii = torch.tensor([c, 0.0, 2 * c], dtype=torch.float64)
    held = (norms(w) > 1e-100) & (radii > 0)
    once = rescale(w, held, radii)
    assert torch.allclose(norms(once)[held], radii[held], rtol=1e-13)
    assert torch.allclose(rescale(a * w, held, radii)[:3], once[:3] if held[0] else a * w[:3], rtol=1e-12)


def test_an_overflowing_norm_shows_as_nan_not_as_zeros() -> None:
    w = torch.full((9,), 3e38)
    assert rescale(w, HELD, torch.ones(3))[:3].isnan().all()


def test_small_norms_do_not_shrink() -> None:
    w = torch.full((9,), 1e-9, dtype=torch.float64)
    radii = rules.radii_of(w, LAYERS)
    for _ in range(100):
        w = rescale(w, HELD, radii)
    assert torch.allclose(w, torch.full((9,), 1e-9, dtype=torch.float64), rtol=1e-12, atol=0)


def test_norms_of_half_precision_weights_are_taken_in_fp32() -> None:
    layers = (Layer("a", 0, 70_000, True),)
    ones = torch.ones(70_000)
    for dtype in (torch.float16, torch.bfloat16):
        radius = rules.radii_of(ones.to(dtype), layers)
        assert radius.dtype == torch.float32
        assert torch.allclose(radius, torch.tensor([70_000.0]).sqrt())
