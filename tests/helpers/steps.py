"""Steps of small packs over everything that may happen to one, by whatever makes them, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables.catalogue.methods import CONTROLS, METHODS, RULES
from trainables.catalogue.rows import Method
from trainables.losses import cross_entropy
from trainables.metrics import multiclass_margin
from trainables.training import graphed
from trainables.training.pack import Pack
from trainables.training.recorded import Recorded

CPU = torch.device("cpu")
VALUES = {"weight_decay": 0.05, "momentum": 0.9, "beta1": 0.9, "beta2": 0.99, "eps": 1e-3, "rate": 0.5}
VALUES |= {"smoothing": 0.1, "flood_level": 0.9, "logit_factor": 0.5}
ENOUGH = 11
"""Steps after which both graphs are replayed: four until a program is recorded, four until there is a trusted graph,
and some until that of the update reads the gradients where that of the gradients leaves them."""

PAIRS = {
    f"{rule}, {control or 'nothing'}": replace(
        METHODS["adam"], name="pair", rule=RULES[rule], control=CONTROLS.get(control)
    )
    for rule, control in product(RULES, ("", *CONTROLS))
}
LOSSES = {name: METHODS[name] for name in ("adam-flooding", "adam-lsr", "adam-lawn-attenuated")}


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))


def pack_of(method: Method, rows: int, device: torch.device = CPU) -> Pack:
    names = [name for role in ("control", "loss", "rule") for name in method.names(role)]
    factors = 1 + 0.01 * torch.arange(rows).double().unsqueeze(1)
    hyper = {name: VALUES[name] / factors for name in names if name != method.switch}
    pack = Pack([net(seed) for seed in range(rows)], method, hyper, cross_entropy, constrain="all", device=device)
    pack.watch = multiclass_margin
    return pack


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(12, 6, generator=generator), torch.randint(3, (12,), generator=generator)


def reload(pack: Pack) -> None:
    """Gives all that a checkpoint holds other places."""
    for name in ("weights", "step", "constrained", "radii"):
        setattr(pack.state, name, getattr(pack.state, name).clone())
    for group in (pack.state.slots, pack.state.buffers, pack.hyper):
        group.update({name: tensor.clone() for name, tensor in group.items()})
    pack.note_phases()


def trail(pack: Pack, parts: int = 1) -> Iterator[list[Tensor]]:
    """Yields all that a step returns, and copies of what it changes, over a switch of some rows, of all, fork and load.

    What a step returns may be kept: the next one must not overwrite it.
    """
    held = pack.control.held
    events: list[Any] = [lambda: None]
    events += [lambda: pack.constrain([0])] if held and pack.size > 1 else []
    events += [lambda: pack.constrain(range(pack.size))] if held else []
    events += [lambda: pack.select([*range(pack.size), 0]), lambda: reload(pack)]
    for number, event in enumerate(events):
        event()
        for step in range(ENOUGH):
            inputs, targets = (tensor.to(pack.device) for tensor in batch(ENOUGH * number + step))
            pieces = list(zip(inputs.chunk(parts), targets.chunk(parts), strict=True))
            for index, (x, y) in enumerate(pieces):
                pack.gradients((x,), y, True, len(y) / len(targets), index, len(pieces))
            rates = torch.full((pack.size, 1), 0.02 / (1 + step), dtype=torch.float64, device=pack.device)
            loss = pack.apply(rates)
            state = pack.state
            changed = (state.weights, state.step, *state.slots.values(), *state.buffers.values())
            yield [loss, pack.margins, pack.grad_norm, *(tensor.clone() for tensor in changed)]


def check(
    method: Method, rows: int, monkeypatch: pytest.MonkeyPatch, parts: int = 1, device: torch.device = CPU
) -> Pack:
    """Compares all steps with plain ones; returns the pack that may use graphs."""
    with monkeypatch.context() as patch:
        patch.setattr(graphed, "backend_of", lambda device: None)
        patch.setattr(Recorded, "__call__", lambda self, tensors: self._plain(tensors))
        plain = list(trail(pack_of(method, rows, device), parts))
    pack = pack_of(method, rows, device)
    graphs = list(trail(pack, parts))
    for step, (found, expected) in enumerate(zip(graphs, plain, strict=True)):
        for one, other in zip(found, expected, strict=True):
            assert one.isfinite().all()
            assert one.equal(other), step
    return pack
