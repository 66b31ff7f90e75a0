"""One suite for every method of the table: what a grid may set is what a step reads, and the laws of controls hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables.catalogue.methods import HYPERBALL, MATRIX_DECAY, METHODS
from trainables.optimizers import rules
from trainables.optimizers.build import torch_optimizer
from trainables.optimizers.controls import Sphere, control_of
from trainables.training.pack import Pack

SHAPES = {"table": (6, 4), "bias": (5,), "kernel": (3, 2, 2, 2), "head": (2, 3)}
REQUIRED = {"peak_lr": 0.01, "warmup_epochs": 1.0, "free_epochs": 2.0, "weight_decay": 0.1, "flood_level": 0.1}
SWITCHED = [name for name, method in METHODS.items() if method.switch]
HELD = {name: method for name, method in METHODS.items() if method.control and control_of(method.control, {}).held}
SPHERES = [
    name for name, method in HELD.items() if method.control and isinstance(control_of(method.control, {}), Sphere)
]
UNHELD = [name for name in METHODS if name not in HELD]


def random(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES.values()]


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([x.flatten() for x in tensors])


def cut(w: Tensor) -> list[Tensor]:
    return list(torch.split(w, [math.prod(shape) for shape in SHAPES.values()], dim=-1))


def hyper_of(name: str, changed: Mapping[str, float] | None = None) -> dict[str, float]:
    method = METHODS[name]
    return method.complete({key: REQUIRED[key] for key in method.required} | dict(changed or {}))


def pack(name: str, start: list[Tensor], changed: Mapping[str, float] | None = None) -> Pack:
    """A pack of one row in double precision, so by torch operations."""
    model = nn.Module()
    for key, x in zip(SHAPES, start, strict=True):
        model.register_parameter(key, nn.Parameter(x))
    hyper = {key: torch.tensor([[value]], dtype=torch.float64) for key, value in hyper_of(name, changed).items()}
    made = Pack([model], METHODS[name], hyper, nn.Module(), constrain="all", device=torch.device("cpu"))
    made.state.weights = flat(start).unsqueeze(0)
    made.state.slots = {slot: x.double() for slot, x in made.state.slots.items()}
    made.state.radii = made.state.radii.double()
    return made


def train(
    name: str,
    start: list[Tensor],
    free_steps: int,
    steps: int = 6,
    lr: float = 0.02,
    changed: Mapping[str, float] | None = None,
) -> list[Tensor]:
    """Returns the weights after each step; a control that holds begins after `free_steps`, or at once."""
    made, trail = pack(name, start, changed), []
    begins = {True: free_steps, False: 0}[name in SWITCHED] if name in HELD else None
    for i in range(steps):
        if i == begins:
            made.constrain([0])
        w = made.state.weights
        gradient = cut(flat(random(i + 10)) - 0.3 * w)
        made.state.step += 1
        made._update(gradient, torch.tensor([[lr]], dtype=torch.float64))
        trail.append(made.state.weights[0].clone())
    return trail


@pytest.mark.parametrize("name", METHODS)
def test_a_grids_keys_are_what_the_rule_reads(name: str) -> None:
    method = METHODS[name]
    assert method.names("schedule") == ("peak_lr", "warmup_epochs")
    assert method.names("rule") == rules.RULES[method.rule.name].hyper
    if method.control:
        given = {key: 0.25 for key in method.names("control") if key != method.switch}
        made = control_of(method.control, given)
        assert all(getattr(made, key) == 0.25 for key in given)


KEYS = [
    (name, key)
    for name, method in METHODS.items()
    for key in (*method.names("control"), *method.names("rule"))
    if key != method.switch
]


@pytest.mark.parametrize(("name", "key"), KEYS)
@pytest.mark.parametrize("free_steps", [0, 6])
def test_every_key_changes_a_step(name: str, key: str, free_steps: int) -> None:
    if free_steps and name in SWITCHED and key in METHODS[name].names("control"):
        return  # the control has not begun
    assert hyper_of(name)[key] != 0.5
    plain = train(name, random(0), free_steps)[-1]
    changed = train(name, random(0), free_steps, changed={key: 0.5})[-1]
    assert not torch.allclose(changed, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("free_steps", [0, 3, 6])
def test_a_learning_rate_of_zero_moves_nothing(name: str, free_steps: int) -> None:
    for w in train(name, random(0), free_steps, lr=0.0):
        torch.testing.assert_close(w, flat(random(0)), rtol=1e-15, atol=0)


@pytest.mark.parametrize("name", [*SWITCHED, *UNHELD])
def test_a_step_is_proportional_to_the_learning_rate_until_rescaled(name: str) -> None:
    w = random(0)
    small, large = (train(name, w, 6, steps=1, lr=lr)[0] - flat(w) for lr in (0.01, 0.02))
    torch.testing.assert_close(large, 2 * small, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_training_goes_downhill(name: str) -> None:
    """On |w − target|², from a start of the target's norms, so that both lie on one sphere."""
    target = random(1)
    start = [x * y.norm() / x.norm() for x, y in zip(random(0), target, strict=True)]
    keys = METHODS[name].hyperparameters
    made = pack(name, start, {"weight_decay": 0.0} if "weight_decay" in keys else {})
    if name in HELD:
        made.constrain([0])
    for t in range(1, 401):
        gradient = 2 * (made.state.weights - flat(target))
        made.state.step += 1
        rate = torch.tensor([[0.05 * (1 - t / 400)]], dtype=torch.float64)
        made._update(cut(gradient), rate)
    assert float((made.state.weights - flat(target)).norm()) < 0.01 * float(flat(start).sub(flat(target)).norm())


@pytest.mark.parametrize("name", SPHERES)
@pytest.mark.parametrize("free_steps", [0, 1, 3])
def test_norms_are_constant_from_the_switch_on(name: str, free_steps: int) -> None:
    layers = pack(name, random(0)).layers
    begins = free_steps if name in SWITCHED else 0
    trail = [flat(random(0)), *train(name, random(0), free_steps)]
    radii = rules.radii_of(trail[begins], layers)
    for w in trail[begins:]:
        torch.testing.assert_close(rules.radii_of(w, layers), radii, rtol=1e-12, atol=0)
    free = ["bias", "head"] if METHODS[name].control == HYPERBALL else ["bias"]
    assert [layer.name for layer, c in zip(layers, radii, strict=True) if c == 0] == free


@pytest.mark.parametrize("name", SWITCHED)
def test_a_pair_shares_its_free_phase(name: str) -> None:
    """Without decay and with the same epsilon the two are the same optimizer until the switch."""
    shared = {key: value for key, value in hyper_of(name).items() if key in METHODS[name].names("rule")}
    ours = train(name, random(0), free_steps=4)
    theirs = train(METHODS[name].baseline, random(0), free_steps=4, changed=shared | {"weight_decay": 0.0})
    assert all(torch.equal(w, v) for w, v in zip(ours[:4], theirs[:4], strict=True))
    assert not torch.allclose(ours[4], theirs[4], rtol=1e-6)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.face])
def test_the_torch_optimizer_of_a_row_makes_the_steps_of_its_method(name: str) -> None:
    params = [nn.Parameter(x) for x in random(0)]
    parts: dict[str, Any] = {"hidden": params[::2], "others": params[1::2]}
    optimizer = torch_optimizer(METHODS[name], hyper_of(name) | {"peak_lr": 0.02}, params, **parts)
    for i, expected in enumerate(train(name, random(0), free_steps=0)):
        w = flat([p.detach() for p in params])
        for p, g in zip(params, cut(flat(random(i + 10)) - 0.3 * w), strict=True):
            p.grad = g.view(p.shape)
        optimizer.step()
        torch.testing.assert_close(flat([p.detach() for p in params]), expected, rtol=1e-9, atol=1e-12)


def test_decay_of_matrices_is_that_of_every_tensor_without_the_biases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "adam-matrices", replace(METHODS["adam"], control=MATRIX_DECAY))
    only, every, none = (
        cut(train(name, random(0), 0, steps=1, changed={"weight_decay": decay})[-1])
        for name, decay in (("adam-matrices", 0.4), ("adam", 0.4), ("adam", 0.0))
    )
    for key, x, decayed, plain in zip(SHAPES, only, every, none, strict=True):
        assert torch.equal(x, plain if key == "bias" else decayed)
        assert not torch.equal(decayed, plain)
