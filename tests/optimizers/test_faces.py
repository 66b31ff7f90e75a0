"""The classes equal the rules, torch and each other; errors name hyperparameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW, Optimizer

from tests.helpers.faces import FACES, HYPER, Face, backward, net, train, weights_of, wrapped
from trainables.catalogue.arguments import BETAS
from trainables.catalogue.methods import RULES
from trainables.optimizers import AdamLawn, Cpr, Lamb, LambLawn, LambPlus, Lawn, SgdLawn, rules
from trainables.optimizers.layers import layers_of


@pytest.mark.parametrize("rule", list(FACES))
@pytest.mark.parametrize("free_steps", [None, 0, 4, 100])
def test_faces_equal_the_rules(rule: str, free_steps: int | None) -> None:
    model = net(torch.float64)
    layers = layers_of((name, p.shape) for name, p in model.named_parameters())
    optimizer = FACES[rule](model.parameters(), lr=0.03, free_steps=free_steps)
    w, state, radii, t = weights_of(model), rules.init_state(rule, weights_of(model)), None, 0
    for i in range(10):
        if i == free_steps:
            state, radii, t = rules.init_state(rule, w), rules.radii_of(w, layers), 0
        t += 1
        backward(model, i)
        g = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
        w, state = rules.step(
            rule,
            w,
            g,
            state,
            lr=0.03,
            t=t,
            hyper=HYPER[rule],
            layers=layers,
            constrained=radii is not None,
            radii=radii,
        )
        optimizer.step()
        torch.testing.assert_close(weights_of(model), w, rtol=1e-11, atol=1e-12)
    assert optimizer.constrained == (free_steps is not None and free_steps <= 10)


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_lamb_equals_its_rule(decay: float) -> None:
    model = net(torch.float64)
    layers = layers_of((name, p.shape) for name, p in model.named_parameters())
    optimizer = Lamb(model.parameters(), lr=0.03, weight_decay=decay)
    w, state = weights_of(model), rules.init_state("lamb", weights_of(model))
    for t in range(1, 6):
        backward(model, t)
        g = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
        hyper = HYPER["lamb"] | {"weight_decay": decay}
        w, state = rules.step("lamb", w, g, state, lr=0.03, t=t, hyper=hyper, layers=layers)
        assert optimizer.step() is None
        torch.testing.assert_close(weights_of(model), w, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("face", "peer"),
    [
        (AdamLawn, lambda p: AdamW(p, lr=0.01, eps=1e-6, weight_decay=0)),
        (SgdLawn, lambda p: SGD(p, lr=0.01, momentum=0.9)),
        (wrapped, lambda p: AdamW(p, lr=0.01, eps=1e-6, weight_decay=0)),
    ],
)
def test_never_constrained_is_the_base_optimizer(face: Face, peer: Callable[..., Optimizer]) -> None:
    ours, theirs = net(torch.float64), net(torch.float64)
    train(ours, face(ours.parameters(), lr=0.01), range(40))
    train(theirs, peer(theirs.parameters()), range(40))
    torch.testing.assert_close(weights_of(ours), weights_of(theirs), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("free_steps", [None, 0, 5])
@pytest.mark.parametrize("options", [{"foreach": True}, {"fused": True}, {"foreach": False}])
def test_the_wrapper_around_adamw_is_adam_lawn(options: dict[str, Any], free_steps: int | None) -> None:
    ours, theirs = net(torch.float64), net(torch.float64)
    base = AdamW(theirs.parameters(), lr=0.02, eps=1e-6, weight_decay=0, **options)
    one, other = AdamLawn(ours.parameters(), lr=0.02, free_steps=free_steps), Lawn(base, free_steps)
    train(ours, one, range(20))
    train(theirs, other, range(20))
    torch.testing.assert_close(weights_of(ours), weights_of(theirs), rtol=1e-9, atol=1e-11)
    for a, b in zip(one.radii.values(), other.radii.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=0)


def test_defaults_are_those_of_the_methods() -> None:
    for face in (SgdLawn, AdamLawn, LambLawn, Lamb, LambPlus):
        given = face([torch.ones(1)]).defaults
        named = given | dict(zip(BETAS, given.get("betas", ()), strict=False))
        expected = {row.name: row.default for row in RULES[face.rule].hyperparameters}
        assert {name: named[name] for name in expected} == expected
        assert (given["lr"], given.get("weight_decay", 0)) == (AdamW([torch.ones(1)]).defaults["lr"], 0)


UNTYPED: dict[str, Callable[..., Optimizer]] = {"adam": AdamLawn, "any": Lawn}
"""The classes as a script without types calls them."""


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: AdamLawn(p, lr=-1.0), "lr of AdamLawn must be 0 or more, got -1.0"),
        (lambda p: AdamLawn(p, betas=(0.9, 1.0)), "betas of AdamLawn must be two numbers"),
        (lambda p: LambLawn(p, eps=-1e-6), "eps of LambLawn must be 0 or more"),
        (lambda p: SgdLawn(p, momentum=1.5), "momentum of SgdLawn must be in"),
        (lambda p: Lamb(p, weight_decay=-0.1), "weight_decay of Lamb must be 0 or more"),
        (lambda p: AdamLawn([{"params": p, "lr": float("nan")}]), "lr of AdamLawn"),
        (lambda p: AdamLawn([{"params": p, "constrained": "yes"}]), "constrained of AdamLawn must be True, False"),
        (lambda p: UNTYPED["adam"](p, lr="0.1"), "lr of AdamLawn must be 0 or more, got '0.1'"),
        (lambda p: UNTYPED["adam"](p, lr=None), "lr of AdamLawn must be 0 or more, got None"),
        (lambda p: UNTYPED["adam"](p, betas=0.9), "betas of AdamLawn must be two numbers"),
        (lambda p: UNTYPED["adam"](p, control="hyperball"), "control of AdamLawn must be one of .* got 'hyperball'"),
        (
            lambda p: UNTYPED["adam"](p, control=Cpr),
            "control of AdamLawn must be one of .*, such as .* or Cpr\\(\\), got <class",
        ),
        (lambda p: UNTYPED["any"](SGD(p, lr=0.1), control=None), "control of Lawn must be one of .* got None"),
        (lambda p: AdamLawn([{"params": p, "weight_decay": 0.1}]), "AdamLawn uses no weight decay .* got 0.1"),
    ],
)
def test_hyperparameters_out_of_range_are_named(make: Callable[..., Optimizer], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make(list(net().parameters()))
