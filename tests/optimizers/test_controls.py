"""Every control equals its literal reference, in the classes, the stacked rules and `Lawn(base)`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from trainables.optimizers import AdamLawn, LambLawn, Lawn, SgdLawn, controls, reference, rules
from trainables.optimizers.controls import (
    BOUNDED_NORM,
    HYPERBALL,
    LAWN,
    LAWN_FIXED,
    REPARAMETRIZED,
    AdamP,
    Control,
    Cpr,
)
from trainables.optimizers.layers import layers_of
from trainables.optimizers.weights import Weights

RELATIVES: dict[str, Control] = {
    "bounded-norm": BOUNDED_NORM,
    "hyperball": HYPERBALL,
    "lawn-fixed": LAWN_FIXED,
    "reparametrized": REPARAMETRIZED,
    "cpr": Cpr(),
    "adamp": AdamP(),
}
CONTROLS: dict[str, Control] = {"lawn": LAWN, "direction-only": controls.Sphere(gradient=False), **RELATIVES}
FACES: dict[str, Callable[..., Any]] = {"sgd": SgdLawn, "adam": AdamLawn, "lamb": LambLawn}
HYPER: dict[str, dict[str, float]] = {
    "sgd": {"momentum": 0.9},
    "adam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6},
    "lamb": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6},
}
SHAPES = {"matrix": (6, 5), "bias": (5,), "kernel": (4, 3, 2, 2)}
LAYERS = layers_of([(name, torch.Size(shape)) for name, shape in SHAPES.items()])
HELD = ["matrix", "kernel"]


def start() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in SHAPES.items()}


def gradient(w: dict[str, Tensor], t: int) -> dict[str, Tensor]:
    """At t = 3, 6, ... nearly orthogonal to the weights, so that AdamP projects at some steps and not at others; at the
    others weights grow, so that CPR pulls them back."""
    generator = torch.Generator().manual_seed(t)
    found = {}
    for name, x in w.items():
        g = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        found[name] = g - (x * g).sum() / (x * x).sum() * x if t % 3 == 0 else g - 0.5 * x
    return found


def flat(named: dict[str, Tensor]) -> Tensor:
    return torch.cat([x.reshape(-1) for x in named.values()])


def train(
    make: Callable[..., Any], steps: int = 9, free_steps: int = 4, dtype: torch.dtype = torch.float64
) -> tuple[dict[str, Tensor], Any]:
    params = {name: nn.Parameter(x.to(dtype)) for name, x in start().items()}
    optimizer = make(list(params.values()), lr=0.03, free_steps=free_steps)
    for t in range(steps):
        for p, g in zip(params.values(), gradient({n: p.detach() for n, p in params.items()}, t).values(), strict=True):
            p.grad = g.to(dtype)
        optimizer.step()
    return {name: p.detach() for name, p in params.items()}, optimizer


@pytest.mark.parametrize("rule", FACES)
@pytest.mark.parametrize("name", RELATIVES)
def test_a_relative_equals_its_literal_reference(name: str, rule: str) -> None:
    w, state, radii, t = start(), reference.fresh_state(rule, start()), None, 0
    kept: dict[str, float] = {}
    for i in range(9):
        if i == 4:
            radii = reference.read_radii(w, HELD)
            if RELATIVES[name].resets:
                state, t = reference.fresh_state(rule, w), 0
        t += 1
        if radii is None:
            reference.free_step(rule, w, gradient(w, i), state, 0.03, t, HYPER[rule])
        else:
            reference.relative_step(name, rule, w, gradient(w, i), state, 0.03, t, HYPER[rule], radii, kept)
    found, _ = train(lambda params, **options: FACES[rule](params, control=RELATIVES[name], **options))
    for key in w:
        torch.testing.assert_close(found[key], w[key], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", RELATIVES)
def test_single_precision_which_has_kernels_changes_nothing_beyond_rounding(name: str) -> None:
    """By SGD: Adam's first direction is the sign of rounding errors where a gradient is 0."""

    def make(params: list[nn.Parameter], **options: Any) -> Any:
        return SgdLawn(params, control=RELATIVES[name], **options)

    (double, _), (single, _) = train(make), train(make, dtype=torch.float32)
    for key in double:
        torch.testing.assert_close(single[key].double(), double[key], rtol=1e-3, atol=1e-4)


def stacked(name: str, rule: str, switches: tuple[int, ...]) -> Tensor:
    """Nine steps of one model per row, each row under the control from its own step on."""
    control, rows = CONTROLS[name], len(switches)
    w = flat(start()).repeat(rows, 1)
    state, radii = rules.init_state(rule, w, control, LAYERS), torch.zeros(rows, len(LAYERS), dtype=torch.float64)
    t, constrained = torch.zeros(rows, 1, dtype=torch.int64), torch.zeros(rows, 1, dtype=torch.bool)
    for i in range(9):
        for row in (row for row, at in enumerate(switches) if at == i):
            radii[row], constrained[row] = rules.radii_of(w[row], LAYERS), True
            if control.resets:
                t[row] = 0
                for slot in state.values():
                    slot[row] = 0
        t += 1
        g = torch.stack([flat(gradient(cut(row), i)) for row in w])
        w, state = rules.step(
            rule, w, g, state, lr=0.03, t=t, hyper=HYPER[rule], layers=LAYERS,
            constrained=constrained, radii=radii, control=control,
        )  # fmt: skip
    return w


def cut(w: Tensor) -> dict[str, Tensor]:
    spans = zip(LAYERS, SHAPES.values(), strict=True)
    return {layer.name: w[layer.start : layer.stop].view(shape) for layer, shape in spans}


@pytest.mark.parametrize("rule", FACES)
@pytest.mark.parametrize("name", CONTROLS)
def test_stacked_models_in_mixed_phases_and_classes_agree(name: str, rule: str) -> None:
    found = stacked(name, rule, (4, 9, 0))
    for row, free_steps in zip(found, (4, 9, 0), strict=True):
        alone, _ = train(
            lambda params, **options: FACES[rule](params, control=CONTROLS[name], **options), free_steps=free_steps
        )
        torch.testing.assert_close(row, flat(alone), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_row_that_is_not_under_the_control_is_unaffected(name: str) -> None:
    assert torch.equal(stacked(name, "adam", (9, 4))[0], stacked("lawn", "adam", (9, 9))[0])


BASES: dict[str, Callable[..., Any]] = {
    "adam": lambda params, lr: AdamW(params, lr=lr, eps=1e-6, weight_decay=0),
    "sgd": lambda params, lr: SGD(params, lr=lr, momentum=0.9),
}


@pytest.mark.parametrize("rule", BASES)
@pytest.mark.parametrize("name", CONTROLS)
def test_the_wrapper_and_the_classes_agree(name: str, rule: str) -> None:
    ours, _ = train(lambda params, **options: FACES[rule](params, control=CONTROLS[name], **options))
    theirs, _ = train(lambda params, lr, free_steps: Lawn(BASES[rule](params, lr), free_steps, CONTROLS[name]))
    torch.testing.assert_close(flat(theirs), flat(ours), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_control_resumes_bit_for_bit(name: str, wrapped: bool) -> None:
    def make(params: list[Tensor], lr: float, free_steps: int | None) -> Any:
        if wrapped:
            return Lawn(BASES["adam"](params, lr), free_steps, CONTROLS[name])
        return AdamLawn(params, lr=lr, free_steps=free_steps, control=CONTROLS[name])

    whole, _ = train(make)
    half, optimizer = train(make, steps=6)
    params = {key: nn.Parameter(x.clone()) for key, x in half.items()}
    resumed = make(list(params.values()), 0.7, None)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for t in range(6, 9):
        for p, g in zip(params.values(), gradient({n: p.detach() for n, p in params.items()}, t).values(), strict=True):
            p.grad = g
        resumed.step()
    assert all(torch.equal(params[key], whole[key]) for key in whole)


@pytest.mark.parametrize("name", ["lawn", "direction-only"])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("across", [0.0, 1e-6, 1.0, 30.0, 1e5])
@pytest.mark.parametrize("along", [0.0, 1e-6, -1.0, -2.0, 30.0, 1e5])
def test_the_short_way_to_replace_a_move_is_the_long_one(
    name: str, contiguous: bool, dtype: torch.dtype, across: float, along: float
) -> None:
    """For moves of any length across the weights and along them; to the precision that a long one leaves of itself."""
    generator = torch.Generator().manual_seed(0)
    before, moved = ([torch.randn(n, 7, generator=generator, dtype=torch.float64) for n in (3, 40)] for _ in range(2))
    moved = [w + along * w + across * m for w, m in zip(before, moved, strict=True)]
    before, moved = ([x.to(dtype).double() for x in xs] for xs in (before, moved))
    radius = [float(w.norm()) for w in before]
    short = [w.to(dtype) if contiguous else w.to(dtype).t().contiguous().t() for w in moved]
    long = [w.clone() for w in moved]
    CONTROLS[name].replace(Weights([w.to(dtype) for w in before], radius), short, 0.1)
    Control.replace(CONTROLS[name], Weights([w.clone() for w in before], radius), long, 0.1)
    precision = 20 * torch.finfo(dtype).eps
    for w, expected, c in zip(short, long, radius, strict=True):
        assert float(w.double().norm()) == pytest.approx(c, rel=precision)
        lost = precision * (1 + abs(along)) * c
        torch.testing.assert_close(w.double(), expected, rtol=0, atol=lost)


def test_a_short_move_of_a_contiguous_tensor_takes_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "rescale_", lambda w: pytest.fail("another pass"))
    before = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    shards = [before.flip(0) / 100 + before, torch.empty(0, 8)]  # one that has no rows of its tensor
    LAWN.replace(Weights([before.clone(), torch.empty(0, 8)], [3.0, 1.0]), shards, 0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_move_that_overflows_is_not_hidden(value: float) -> None:
    before, moved = torch.ones(4, 4), torch.full((4, 4), value)
    LAWN.replace(Weights([before], [4.0]), [moved], 0.1)
    assert not moved.isfinite().any()


@pytest.mark.parametrize(
    "name", ["lawn", "direction-only", "bounded-norm", "hyperball", "lawn-fixed", "reparametrized"]
)
def test_spheres_hold_the_norms(name: str) -> None:
    found, optimizer = train(lambda params, **options: AdamLawn(params, control=CONTROLS[name], **options), steps=20)
    for p, c in optimizer.radii.items():
        torch.testing.assert_close(p.detach().norm(), c, rtol=1e-12, atol=0)
    assert found["bias"].norm() > 0


def test_hyperball_moves_every_tensor_by_the_same_share_of_its_norm() -> None:
    p = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    optimizer = SgdLawn([p], lr=0.1, free_steps=0, control=HYPERBALL)
    p.grad = torch.tensor([[8.0, -6.0]], dtype=torch.float64)  # orthogonal to w, length 10
    optimizer.step()
    moved = torch.tensor([[3 - 0.4, 4 + 0.3]], dtype=torch.float64)  # w − 0.1·5·(0.8, −0.6)
    torch.testing.assert_close(p.detach(), 5 * moved / moved.norm())


def test_cpr_below_its_bound_is_the_base_optimizer_bit_for_bit() -> None:
    """A gradient along the weights shrinks them, so the multiplier stays 0."""
    ends = []
    for control, free_steps in ((Cpr(), 0), (LAWN, None)):
        p = nn.Parameter(start()["matrix"])
        optimizer = AdamLawn([p], lr=0.01, free_steps=free_steps, control=control)
        for _ in range(5):
            p.grad = p.detach().clone()
            optimizer.step()
        ends.append(p.detach())
    assert torch.equal(ends[0], ends[1])


def test_cpr_pulls_a_tensor_beyond_its_bound_back() -> None:
    free, bounded = (nn.Parameter(start()["matrix"]) for _ in range(2))
    one, other = AdamLawn([free], lr=0.01), AdamLawn([bounded], lr=0.01, free_steps=0, control=Cpr())
    for _ in range(200):
        free.grad, bounded.grad = -free.detach(), -bounded.detach()
        one.step()
        other.step()
    c = float(start()["matrix"].norm())
    assert float(free.detach().norm()) > 1.2 * c
    assert float(bounded.detach().norm()) < 1.05 * c


def test_adamp_with_decay_decays_scale_invariant_tensors_less() -> None:
    """A zero gradient is orthogonal to nothing: full decay. A tangent one counts as scale-invariant: a tenth of it."""
    for tangent, share in ((False, 1.0), (True, 0.1)):
        p = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
        optimizer = SgdLawn([p], lr=0.1, free_steps=0, momentum=0.0, control=AdamP(weight_decay=0.5))
        p.grad = torch.tensor([[8.0, -6.0]] if tangent else [[3.0, 4.0]], dtype=torch.float64)
        g = p.grad.clone()
        optimizer.step()
        expected = torch.tensor([[3.0, 4.0]], dtype=torch.float64) * (1 - 0.1 * 0.5 * share) - 0.1 * g
        torch.testing.assert_close(p.detach(), expected)


def reparametrized(v: Tensor, c: float) -> Tensor:
    """c·v/|v|: what a model computes with where the constraint is in the model (paper §3)."""
    return torch.mul(v, c / v.norm())


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_the_projection_agrees_in_direction_with_training_on_a_reparametrized_model(rule: str) -> None:
    """From v = w, autograd through c·v/|v| is P g, and the base's step on v lands on LAWN's ray.

    r has a part a·w along w, which LAWN projects away: v − η·r = (1 − η·a)·w − η·P r, so LAWN's step of η/(1 − η·a).
    """
    w, x = start()["matrix"], torch.linspace(-1, 1, 5, dtype=torch.float64)
    v, c, lr = nn.Parameter(w.clone()), float(w.norm()), 0.05
    torch.autograd.backward((reparametrized(v, c) @ x).exp().sum())
    free = nn.Parameter(w.clone())
    torch.autograd.backward((free @ x).exp().sum())
    assert v.grad is not None
    assert free.grad is not None
    torch.testing.assert_close(v.grad, free.grad - (w * free.grad).sum() / c**2 * w)
    base = SGD([v], lr=lr, momentum=0.9) if rule == "sgd" else AdamW([v], lr=lr, eps=1e-6, weight_decay=0)
    base.step()
    along = float(((w - v.detach()) / lr * w).sum()) / c**2
    FACES[rule]([free], lr=lr / (1 - lr * along), free_steps=0).step()
    torch.testing.assert_close(reparametrized(v.detach(), c), free.detach(), rtol=1e-10, atol=1e-12)


# --- the authors' packages --------------------------------------------------------------------------------------------


def after(optimizer: Any, params: dict[str, nn.Parameter], steps: int) -> dict[str, Tensor]:
    for t in range(1, steps + 1):
        for p, g in zip(params.values(), gradient({n: p.detach() for n, p in params.items()}, t).values(), strict=True):
            p.grad = g
        optimizer.step()
    return {name: p.detach() for name, p in params.items()}


@pytest.mark.filterwarnings("ignore")  # the package calls deprecated functions of torch
def test_cpr_equals_its_authors_package() -> None:
    """They keep multiplier and bound in single precision, a difference that grows as the weights meet the bound."""
    package = pytest.importorskip("pytorch_cpr")
    ours, theirs, free = ({name: nn.Parameter(x) for name, x in start().items()} for _ in range(3))
    groups = [
        {"params": [theirs["matrix"], theirs["kernel"]], "regularize": True},
        {"params": [theirs["bias"]], "regularize": False},
    ]
    options = {"kappa_init_method": "warm_start", "kappa_init_param": 4, "eps": 1e-6, "foreach": False}
    expected = after(package.AdamCPR(groups, lr=0.03, **options), theirs, 12)
    found = after(AdamLawn(ours.values(), lr=0.03, free_steps=4, control=Cpr()), ours, 12)
    for name, x in expected.items():
        torch.testing.assert_close(found[name], x, rtol=1e-5, atol=1e-5)
    unbounded = after(AdamLawn(free.values(), lr=0.03), free, 12)
    assert all(float(found[name].norm()) < 0.99 * float(unbounded[name].norm()) for name in HELD)


def test_adamp_equals_its_authors_package_on_tensors_of_one_channel() -> None:
    """Where both views of a tensor are one; their norms carry an additive epsilon."""
    package = pytest.importorskip("adamp")
    ours, theirs = ({"matrix": nn.Parameter(start()["matrix"].view(1, -1))} for _ in range(2))
    expected = after(package.AdamP(theirs.values(), lr=0.03, eps=1e-6, weight_decay=0.1), theirs, 9)
    found = after(AdamLawn(ours.values(), lr=0.03, free_steps=0, control=AdamP(weight_decay=0.1)), ours, 9)
    torch.testing.assert_close(found["matrix"], expected["matrix"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("control", [AdamP(0.1), Cpr(0.5)])
def test_constants_of_tensors_are_copied_to_the_device_once(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy waits for the device, which a step must not."""
    radii, multipliers = ([torch.ones(()) * value for _ in range(2)] for value in (1.0, 0.0))
    weights = Weights([torch.ones(3, 2), torch.ones(4)], radii, multipliers, matrix=[True, False])
    for step in range(3):
        if step == 1:
            monkeypatch.delattr(torch, "tensor")
        control.update(weights, control.project(weights, [torch.ones(3, 2), torch.ones(4)]), 0.1)
