"""One suite for every optimizer of the table: what a grid may set is what the rule reads, and LAWN's laws hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from trainables.catalogue.methods import METHODS
from trainables.optimizers import rules
from trainables.optimizers.layers import layers_of

SCHEDULE = {"peak_lr", "warmup_epochs", "free_epochs"}
REQUIRED = {"peak_lr": 0.01, "warmup_epochs": 1.0, "free_epochs": 2.0, "weight_decay": 0.1}
LAYERS = layers_of([("embedding", torch.Size([6, 4])), ("bias", torch.Size([5])), ("kernel", torch.Size([3, 2, 2, 2]))])
SIZE = LAYERS[-1].stop
LAWN = [name for name, method in METHODS.items() if method.control and method.control.name == "lawn"]


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hyper_of(name: str, changed: Mapping[str, float] | None = None) -> dict[str, Any]:
    method = METHODS[name]
    required = {key: REQUIRED[key] for key in method.required}
    return {key: value for key, value in method.complete(required | dict(changed or {})).items() if key not in SCHEDULE}


def train(
    name: str,
    w: Tensor,
    free_steps: int,
    steps: int = 6,
    lr: float = 0.02,
    changed: Mapping[str, float] | None = None,
) -> list[Tensor]:
    """Returns the weights after each step; LAWN optimizers switch after `free_steps`, others never."""
    lawn, rule, hyper = name in LAWN, METHODS[name].rule.name, hyper_of(name, changed)
    state, radii, t, trail = rules.init_state(rule, w), None, 0, []
    for i in range(steps):
        if lawn and i == free_steps:
            state, radii, t = rules.init_state(rule, w), rules.radii_of(w, LAYERS), 0
        t += 1
        options: dict[str, Any] = {"constrained": radii is not None, "radii": radii}
        g = random(i + 10) + 0.3 * w
        w, state = rules.step(rule, w, g, state, lr=lr, t=t, hyper=hyper, layers=LAYERS, **options)
        trail.append(w)
    return trail


@pytest.mark.parametrize("name", METHODS)
def test_a_grids_keys_are_what_the_rule_reads(name: str) -> None:
    method = METHODS[name]
    assert method.names("schedule") == ("peak_lr", "warmup_epochs")
    assert method.names("control") == (("free_epochs",) if name in LAWN else ("weight_decay",))
    assert method.names("rule") == rules.RULES[method.rule.name].hyper


KEYS = [(name, key) for name, method in METHODS.items() for key in method.hyperparameters if key not in SCHEDULE]


@pytest.mark.parametrize(("name", "key"), KEYS)
@pytest.mark.parametrize("free_steps", [0, 6])
def test_every_key_changes_a_step(name: str, key: str, free_steps: int) -> None:
    assert hyper_of(name)[key] != 0.5
    plain = train(name, random(0), free_steps)[-1]
    changed = train(name, random(0), free_steps, changed={key: 0.5})[-1]
    assert not torch.allclose(changed, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("free_steps", [0, 3, 6])
def test_a_learning_rate_of_zero_moves_nothing(name: str, free_steps: int) -> None:
    for w in train(name, random(0), free_steps, lr=0.0):
        torch.testing.assert_close(w, random(0), rtol=1e-15, atol=0)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_is_proportional_to_the_learning_rate_until_rescaled(name: str) -> None:
    w = random(0)
    small, large = (train(name, w, 6, steps=1, lr=lr)[0] - w for lr in (0.01, 0.02))
    torch.testing.assert_close(large, 2 * small, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_training_goes_downhill(name: str) -> None:
    """On |w − target|², from a start of the target's norms, so that both lie on one sphere."""
    lawn, rule, target = name in LAWN, METHODS[name].rule.name, random(1)
    radii = rules.radii_of(target, LAYERS)
    w = rules.rescale(random(0), LAYERS, radii > 0, radii)
    start = (w - target).norm()
    state, hyper = rules.init_state(rule, w), hyper_of(name, {} if lawn else {"weight_decay": 0.0})
    for t in range(1, 401):
        options: dict[str, Any] = {"constrained": lawn, "radii": radii if lawn else None}
        g, lr = 2 * (w - target), 0.05 * (1 - t / 400)
        w, state = rules.step(rule, w, g, state, lr=lr, t=t, hyper=hyper, layers=LAYERS, **options)
    assert float((w - target).norm()) < 0.01 * float(start)


@pytest.mark.parametrize("name", LAWN)
@pytest.mark.parametrize("free_steps", [0, 1, 3])
def test_norms_are_constant_from_the_switch_on(name: str, free_steps: int) -> None:
    trail = [random(0), *train(name, random(0), free_steps)]
    radii = rules.radii_of(trail[free_steps], LAYERS)
    for w in trail[free_steps:]:
        torch.testing.assert_close(rules.radii_of(w, LAYERS), radii, rtol=1e-12, atol=0)
    free = (1 - radii.sign()).bool()
    assert [layer.name for layer, is_free in zip(LAYERS, free, strict=True) if is_free] == ["bias"]


@pytest.mark.parametrize(("base", "lawn"), [(METHODS[name].baseline, name) for name in LAWN])
def test_a_lawn_pair_shares_its_free_phase(base: str, lawn: str) -> None:
    """Without decay and with the same epsilon the two are the same optimizer until the switch."""
    hyper = hyper_of(lawn)
    ours = train(lawn, random(0), free_steps=4)
    theirs = train(base, random(0), free_steps=4, changed=hyper | {"weight_decay": 0.0})
    assert all(torch.equal(w, v) for w, v in zip(ours[:4], theirs[:4], strict=True))
    assert not torch.allclose(ours[4], theirs[4], rtol=1e-6)
