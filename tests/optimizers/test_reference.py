"""The fast rules equal the literal transcription of Algorithm 1 at every step, buffers included, across the switch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torch import Tensor

from trainables.optimizers import reference, rules
from trainables.optimizers.layers import layers_of

STEPS = 20
SHAPES = {"embedding": (5, 3), "bias": (4,), "kernel": (2, 3, 2, 2), "scale": (), "zero": (3, 4)}
LAYERS = layers_of((name, torch.Size(shape)) for name, shape in SHAPES.items())
HYPER: dict[str, dict[str, float]] = {
    "sgd": {"momentum": 0.9},
    "adam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6},
    "lamb": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6},
    "lamb-plus": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6},
}
TARGET = {
    name: torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    for name, shape in SHAPES.items()
}


def start() -> reference.Named:
    generator = torch.Generator().manual_seed(1)
    w = {name: torch.randn(shape, dtype=torch.float64, generator=generator) for name, shape in SHAPES.items()}
    w["zero"].zero_()
    return w


def gradient(w: reference.Named) -> reference.Named:
    return {name: (x - TARGET[name]) * (1 + x.abs()) for name, x in w.items()}


def flat(named: reference.Named) -> Tensor:
    return torch.cat([named[name].reshape(-1) for name in SHAPES])


def unflat(w: Tensor) -> reference.Named:
    return {layer.name: w[layer.start : layer.stop].view(SHAPES[layer.name]) for layer in LAYERS}


def close(x: Tensor, expected: Tensor) -> None:
    """Asserts a distance of at most 1e-12 of the vector's largest entry: small entries come from cancellation."""
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


@pytest.mark.parametrize("base", list(rules.RULES))
@pytest.mark.parametrize(
    ("free_steps", "weight_decay"), [(None, None), (None, 0.1), (0, None), (1, None), (7, None), (STEPS, None)]
)
def test_rules_equal_the_transcription(base: str, free_steps: int | None, weight_decay: float | None) -> None:
    hyper = HYPER[base] | ({} if weight_decay is None else {"weight_decay": weight_decay})
    etas = [0.05 * min(i + 1, STEPS - i) / STEPS for i in range(STEPS)]
    held = [layer.name for layer in LAYERS if layer.constrained]
    w, state, radii, t = flat(start()), rules.init_state(base, flat(start())), None, 0
    oracle = reference.train(base, start(), gradient, etas, hyper, held, free_steps)
    for i, (expected_w, expected_state) in enumerate(oracle):
        if i == free_steps:
            state, radii, t = rules.init_state(base, w), rules.radii_of(w, LAYERS), 0
        t += 1
        w, state = rules.step(
            base,
            w,
            flat(gradient(unflat(w))),
            state,
            lr=etas[i],
            t=t,
            hyper=hyper,
            layers=LAYERS,
            constrained=radii is not None,
            radii=radii,
        )
        close(w, flat(expected_w))
        assert state.keys() == expected_state.keys()
        for slot, x in state.items():
            close(x, flat(expected_state[slot]))


def test_the_transcription_shares_no_code_with_the_rules() -> None:
    tree = ast.parse(Path(reference.__file__).read_text())
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [module for module in modules if module.startswith("trainables")]
