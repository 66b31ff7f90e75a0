"""Update rules: equal to torch's optimizers, equal alone and stacked, rows independent of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from trainables.optimizers import controls, rules
from trainables.optimizers.layers import layers_of

SHAPES = {"embedding": (6, 4), "bias": (5,), "kernel": (3, 2, 2, 2), "scale": ()}
LAYERS = layers_of((name, torch.Size(shape)) for name, shape in SHAPES.items())
SIZE = LAYERS[-1].stop
ADAM: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6}
HYPER: dict[str, dict[str, Any]] = {"sgd": {"momentum": 0.9}, "adam": ADAM, "lamb": ADAM, "lamb-plus": ADAM}


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def norms(w: Tensor) -> Tensor:
    return torch.stack([w.double()[..., layer.start : layer.stop].norm(dim=-1) for layer in LAYERS], dim=-1)


def run(rule: str, w: Tensor, steps: int, **options: Any) -> tuple[Tensor, rules.State]:
    """Makes steps along random gradients, the same ones for every row."""
    state = rules.init_state(rule, w)
    settings: dict[str, Any] = {"lr": 0.01, "hyper": HYPER[rule], "layers": LAYERS} | options
    for t in range(1, steps + 1):
        g = random(SIZE, seed=t, dtype=w.dtype).expand_as(w) + 0.1 * w
        w, state = rules.step(rule, w, g, state, t=t, **settings)
    return w, state


# --- equal to torch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("weight_decay", [None, 0.3])
@pytest.mark.parametrize(
    ("rule", "peer"),
    [
        ("sgd", lambda p, decay: SGD(p, lr=0.01, momentum=0.9, weight_decay=decay)),
        ("adam", lambda p, decay: AdamW(p, lr=0.01, betas=(0.9, 0.999), eps=1e-6, weight_decay=decay)),
    ],
)
def test_free_rules_equal_torch(
    rule: str,
    peer: Callable[[list[Tensor], float], Optimizer],
    weight_decay: float | None,
    dtype: torch.dtype,
    rtol: float,
) -> None:
    hyper = HYPER[rule] | ({} if weight_decay is None else {"weight_decay": weight_decay})
    p = torch.nn.Parameter(random(SIZE, seed=0, dtype=dtype))
    optimizer = peer([p], weight_decay or 0.0)
    w, state = p.detach().clone(), rules.init_state(rule, p.detach())
    for t in range(1, 101):
        g = random(SIZE, seed=t, dtype=dtype)
        p.grad = g.clone()
        optimizer.step()
        w, state = rules.step(rule, w, g, state, lr=0.01, t=t, hyper=hyper, layers=LAYERS)
        torch.testing.assert_close(w, p.detach(), rtol=rtol, atol=rtol)


# --- alone and stacked ------------------------------------------------------------------------------------------------

ROWS: dict[str, dict[str, Tensor]] = {
    "sgd": {"momentum": column(0.9, 0.5, 0.9, 0.0)},
    "adam": {
        "beta1": column(0.9, 0.8, 0.9, 0.0),
        "beta2": column(0.999, 0.99, 0.9, 0.5),
        "eps": column(1e-6, 1, 0.1, 2),
    },
}
ROWS["lamb"] = ROWS["lamb-plus"] = ROWS["adam"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", list(rules.RULES))
def test_rows_of_a_stack_in_mixed_phases_equal_their_solo_runs_bit_for_bit(rule: str, dtype: torch.dtype) -> None:
    """Each row has its own learning rate, hyperparameters, step count and phase; fp64 `pow` may round differently."""
    w = random(4, SIZE, seed=0, dtype=dtype)
    lr, t, constrained = column(0.1, 0.02, 0.0, 0.03), column(3, 1, 7, 2).long(), column(0, 1, 1, 0).bool()
    state = {slot: random(4, SIZE, seed=5, dtype=dtype).square() for slot in rules.init_state(rule, w)}
    g, radii = random(4, SIZE, seed=1, dtype=dtype), rules.radii_of(w, LAYERS)
    stacked, stacked_state = rules.step(
        rule, w, g, state, lr=lr, t=t, hyper=ROWS[rule], layers=LAYERS, constrained=constrained, radii=radii
    )
    for i in range(4):
        solo, solo_state = rules.step(
            rule,
            w[i],
            g[i],
            {slot: x[i] for slot, x in state.items()},
            lr=float(lr[i]),
            t=int(t[i]),
            hyper={name: float(x[i]) for name, x in ROWS[rule].items()},
            layers=LAYERS,
            constrained=bool(constrained[i]),
            radii=radii[i] if constrained[i] else None,
        )
        rtol, atol = (0.0, 0.0) if dtype == torch.float32 else (1e-14, 1e-15)
        torch.testing.assert_close(stacked[i], solo, rtol=rtol, atol=atol)
        for slot, x in solo_state.items():
            torch.testing.assert_close(stacked_state[slot][i], x, rtol=rtol, atol=atol)


@pytest.mark.parametrize("rule", list(rules.RULES))
def test_long_layers_agree_stacked_and_solo_within_a_few_roundings(rule: str) -> None:
    size = 100_003
    layers = layers_of([("a", torch.Size([1, size]))])
    w, g = random(2, size, seed=0, dtype=torch.float32), random(2, size, seed=1, dtype=torch.float32)
    options: dict[str, Any] = {"lr": 0.1, "t": 1, "hyper": HYPER[rule], "layers": layers, "constrained": True}
    radii = rules.radii_of(w, layers)
    both, _ = rules.step(rule, w, g, rules.init_state(rule, w), radii=radii, **options)
    for i in range(2):
        one, _ = rules.step(rule, w[i], g[i], rules.init_state(rule, w[i]), radii=radii[i], **options)
        torch.testing.assert_close(both[i], one, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rule", list(rules.RULES))
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_diverged_row_leaves_the_others_alone(rule: str, bad: float) -> None:
    w = random(3, SIZE, seed=0)
    radii = rules.radii_of(w, LAYERS)
    phase = column(1, 1, 0).bool()
    clean, clean_state = run(rule, w, 3, constrained=phase, radii=radii)
    broken = w.clone()
    broken[1] = bad
    dirty, dirty_state = run(rule, broken, 3, constrained=phase, radii=rules.radii_of(broken, LAYERS))
    assert not dirty[1].isfinite().any()
    for i in (0, 2):
        assert torch.equal(dirty[i], clean[i])
        assert all(torch.equal(dirty_state[slot][i], x[i]) for slot, x in clean_state.items())


# --- the constrained phase --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", list(rules.RULES))
def test_fp32_norms_stay_at_the_stored_radius_over_many_steps(rule: str) -> None:
    w = random(SIZE, seed=0, dtype=torch.float32)
    radii = rules.radii_of(w, LAYERS)
    held, state = radii > 0, rules.init_state(rule, w)
    for t in range(1, 301):
        g = random(SIZE, seed=t, dtype=torch.float32)
        w, state = rules.step(
            rule, w, g, state, lr=0.03, t=t, hyper=HYPER[rule], layers=LAYERS, constrained=True, radii=radii
        )
        torch.testing.assert_close(norms(w)[held], radii.double()[held], rtol=1e-6, atol=0)


@pytest.mark.parametrize("rule", list(rules.RULES))
def test_gradient_and_direction_are_orthogonal_to_the_weights(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With rescaling taken out, a move is η times the direction; after one step the moments are the gradient."""
    monkeypatch.setattr(controls, "rescale_", lambda w: None)
    w, state = random(SIZE, seed=0), rules.init_state(rule, random(SIZE, seed=0))
    radii = rules.radii_of(w, LAYERS)
    for t in range(1, 6):
        g = random(SIZE, seed=t)
        moved, state = rules.step(
            rule, w, g, state, lr=0.1, t=t, hyper=HYPER[rule], layers=LAYERS, constrained=True, radii=radii
        )
        direction = (w - moved) / 0.1
        gradient = state[next(iter(state))] if t == 1 else None
        for layer in (x for x in LAYERS if x.constrained):
            along = slice(layer.start, layer.stop)
            assert abs(float(w[along] @ direction[along])) < 1e-12 * float(w[along].norm() * direction[along].norm())
            if gradient is not None:
                assert abs(float(w[along] @ gradient[along])) < 1e-13 * float(w[along].norm() * g[along].norm())
        w = moved


@pytest.mark.parametrize("rule", list(rules.RULES))
def test_radial_gradients_do_not_matter(rule: str) -> None:
    """Adding multiples of the weights to the gradient changes nothing, as they point off the sphere."""
    w, g = random(SIZE, seed=0), random(SIZE, seed=1)
    options: dict[str, Any] = {"lr": 0.1, "t": 1, "hyper": HYPER[rule], "layers": LAYERS, "constrained": True}
    options["radii"] = rules.radii_of(w, LAYERS)
    radial = torch.cat([w[layer.start : layer.stop] * (5.0 if layer.constrained else 0.0) for layer in LAYERS])
    plain, _ = rules.step(rule, w, g, rules.init_state(rule, w), **options)
    shifted, _ = rules.step(rule, w, g + radial, rules.init_state(rule, w), **options)
    torch.testing.assert_close(shifted, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rule", ["adam", "lamb"])
def test_the_first_constrained_step_has_unit_directions(rule: str) -> None:
    """Moments and t reset together: |r| is 1 on average; resetting only some of them gives 0.3 or 3."""
    size = 4096
    layers = layers_of([("a", torch.Size([64, 64]))])
    w, g = random(size, seed=0), random(size, seed=1)
    moved, _ = rules.step(
        "adam",
        w,
        g,
        rules.init_state(rule, w),
        lr=1e-6,
        t=1,
        hyper=ADAM,
        layers=layers,
        constrained=True,
        radii=rules.radii_of(w, layers),
    )
    assert float((moved - w).abs().mean()) / 1e-6 == pytest.approx(1.0, abs=0.02)


def test_lamb_lawn_moves_every_layer_by_lr_times_its_radius() -> None:
    w = random(SIZE, seed=0)
    radii = rules.radii_of(w, LAYERS)
    state = rules.init_state("lamb", w)
    for t in range(1, 6):
        g = random(SIZE, seed=t) * 10.0**t
        moved, state = rules.step(
            "lamb", w, g, state, lr=0.2, t=t, hyper=ADAM, layers=LAYERS, constrained=True, radii=radii
        )
        for layer, radius in zip(LAYERS, radii, strict=True):
            if layer.constrained:  # a tangent step of length η·c turns the layer by the angle arctan η
                x, y = w[layer.start : layer.stop], moved[layer.start : layer.stop]
                assert float(x @ y / radius**2) == pytest.approx((1 + 0.2**2) ** -0.5, rel=1e-12)
        w = moved


def test_a_layer_of_norm_zero_trains_freely() -> None:
    w, g = random(SIZE, seed=0), random(SIZE, seed=1)
    first = LAYERS[0]
    w[first.start : first.stop] = 0
    radii = rules.radii_of(w, LAYERS)
    assert radii[0] == 0
    for rule, hyper in HYPER.items():
        options: dict[str, Any] = {"lr": 0.1, "t": 1, "hyper": hyper, "layers": LAYERS}
        free, _ = rules.step(rule, w, g, rules.init_state(rule, w), **options)
        moved, _ = rules.step(rule, w, g, rules.init_state(rule, w), constrained=True, radii=radii, **options)
        assert torch.equal(moved[: first.stop], free[: first.stop])
        assert moved.isfinite().all()
        assert not torch.equal(moved[first.stop :], free[first.stop :])


# --- LAMB -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight_decay", [None, 0.0, 0.1])
def test_lamb_moves_every_tensor_by_lr_times_its_norm_even_without_decay(weight_decay: float | None) -> None:
    hyper = ADAM | ({} if weight_decay is None else {"weight_decay": weight_decay})
    w = random(SIZE, seed=0) * 30  # norms above ten, where other implementations clamp
    moved, _ = rules.step(
        "lamb", w, random(SIZE, seed=1), rules.init_state("lamb", w), lr=0.01, t=1, hyper=hyper, layers=LAYERS
    )
    torch.testing.assert_close(norms(moved - w), 0.01 * norms(w), rtol=1e-12, atol=0)


def test_lamb_takes_the_plain_direction_where_a_norm_is_zero() -> None:
    zero, g = torch.zeros(SIZE, dtype=torch.float64), random(SIZE, seed=1)
    options: dict[str, Any] = {"lr": 0.01, "t": 1, "hyper": ADAM, "layers": LAYERS}
    lamb, _ = rules.step("lamb", zero, g, rules.init_state("lamb", zero), **options)
    adam, _ = rules.step("adam", zero, g, rules.init_state("adam", zero), **options)
    assert torch.equal(lamb, adam)
    still, _ = rules.step("lamb", g, zero, rules.init_state("lamb", g), **options)
    assert torch.equal(still, g)


# --- scale invariance -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["adam", "lamb"])
@pytest.mark.parametrize("constrained", [False, True])
def test_adam_and_lamb_do_not_see_the_size_of_the_loss(rule: str, constrained: bool) -> None:
    """With eps 0, gradients times any factor give the same weights, in both phases; sgd's step grows with them."""
    w, hyper = random(SIZE, seed=0), ADAM | {"eps": 0.0}
    radii = rules.radii_of(w, LAYERS)
    ends = []
    for factor in (1.0, 1024.0):
        x, state = w, rules.init_state(rule, w)
        for t in range(1, 6):
            g = factor * random(SIZE, seed=t)
            x, state = rules.step(
                rule, x, g, state, lr=0.01, t=t, hyper=hyper, layers=LAYERS, constrained=constrained, radii=radii
            )
        ends.append(x)
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-9, atol=1e-9)


def test_lamb_is_equivariant_to_the_size_of_the_weights() -> None:
    w, hyper = random(SIZE, seed=0), ADAM | {"eps": 0.0}
    radii = rules.radii_of(w, LAYERS)
    for constrained in (False, True):
        options: dict[str, Any] = {"lr": 0.1, "t": 1, "hyper": hyper, "layers": LAYERS, "constrained": constrained}
        g, state = random(SIZE, seed=1), rules.init_state("lamb", w)
        small, _ = rules.step("lamb", w, g, state, radii=radii, **options)
        large, _ = rules.step("lamb", 8 * w, g, state, radii=8 * radii, **options)
        torch.testing.assert_close(large, 8 * small, rtol=1e-9, atol=1e-9)


# --- the contract of step ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", list(rules.RULES))
@pytest.mark.parametrize("constrained", [False, True])
def test_a_step_changes_none_of_its_inputs(rule: str, constrained: bool) -> None:
    for layers in (LAYERS, layers_of([("one", torch.Size([SIZE, 1]))])):
        w, g = random(SIZE, seed=0), random(SIZE, seed=1)
        state = {slot: random(SIZE, seed=2).square() for slot in rules.init_state(rule, w)}
        radii = rules.radii_of(w, layers)
        inputs = [w, g, radii, *state.values()]
        copies = [x.clone() for x in inputs]
        moved, new = rules.step(
            rule,
            w,
            g,
            state,
            lr=0.1,
            t=2,
            hyper=HYPER[rule],
            layers=layers,
            constrained=constrained,
            radii=radii,
        )
        assert all(torch.equal(x, y) for x, y in zip(inputs, copies, strict=True))
        pointers = {x.data_ptr() for x in inputs}
        assert not pointers & {x.data_ptr() for x in (moved, *new.values())}


def test_errors_list_what_is_allowed() -> None:
    w = random(SIZE, seed=0)
    good: dict[str, Any] = {"lr": 0.1, "t": 1, "hyper": ADAM, "layers": LAYERS}
    state, radii = rules.init_state("adam", w), rules.radii_of(w, LAYERS)
    with pytest.raises(ValueError, match="sgd, adam, lamb, lamb-plus, got 'adamw'"):
        rules.step("adamw", w, w, state, **good)
    with pytest.raises(ValueError, match="beta1, beta2, eps"):
        rules.step("adam", w, w, state, **good | {"hyper": {"beta1": 0.9}})
    with pytest.raises(ValueError, match="beta1, beta2, eps"):
        rules.step("adam", w, w, state, **good | {"hyper": ADAM | {"peak_lr": 0.1}})
    with pytest.raises(ValueError, match="span all"):
        rules.step("adam", w, w, state, **good | {"layers": LAYERS[:-1]})
    with pytest.raises(ValueError, match="radii"):
        rules.step("adam", w, w, state, constrained=True, **good)
    with pytest.raises(ValueError, match="weight_decay"):
        rules.step("adam", w, w, state, constrained=True, radii=radii, **good | {"hyper": ADAM | {"weight_decay": 0.0}})
